//! When the agent could not tell how it ended: systemd could not even start
//! it, or it was killed. The card is made by a command of its own behind the
//! unit's end (`ExecStopPost=`), which needs none of what failed.

use crate::codes;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::sources::{Closed, closed_credentials};

/// systemd's exit codes of what it does between fork and exec.
const FIRST: u8 = 200;
const LAST: u8 = 243;

/// The one of them for credentials.
const CREDENTIALS: u8 = 243;

/// The others that a node's state can cause; systemd's documentation has all.
const STEPS: [(u8, &str); 9] = [
    (203, "executing the program"),
    (208, "its standard input"),
    (209, "its standard output"),
    (226, "its mount namespace"),
    (227, "its privileges"),
    (228, "its system call filter"),
    (233, "its runtime folder in /run"),
    (238, "its state folder in /var/lib"),
    (241, "its standard error"),
];

/// Signals that a process brings upon itself, by a defect or on a machine that
/// is broken. They would come again: the unit lists them as not to be retried.
const DEFECTS: [&str; 7] = ["ABRT", "BUS", "FPE", "ILL", "SEGV", "SYS", "TRAP"];

/// Signals that ask a process to end: somebody stopped the unit, or the node
/// goes down.
const ASKED: [&str; 4] = ["HUP", "INT", "PIPE", "TERM"];

/// How the agent's process ended, as systemd tells it in the environment.
#[derive(Debug, Default)]
pub struct End {
    /// `$EXIT_CODE`: `exited`, `killed` or `dumped`.
    pub code: String,
    /// `$EXIT_STATUS`: a number, or the name of a signal.
    pub status: String,
    /// `$SERVICE_RESULT`: of interest is `oom-kill`.
    pub result: String,
    /// Does the status file say that the run goes on? A run that ended by
    /// itself has changed that.
    pub untold: bool,
}

impl End {
    /// Has the agent run at all?
    pub fn ran(&self) -> bool {
        self.untold && !self.unstarted()
    }

    fn unstarted(&self) -> bool {
        let status = self.status.parse::<u8>();
        self.code == "exited" && status.is_ok_and(|status| (FIRST..=LAST).contains(&status))
    }
}

/// What the agent has not told itself; `None` when it has, or when its end was
/// asked for.
pub fn failure(paths: &Paths, end: &End) -> Option<Failure> {
    if end.unstarted() {
        return unstarted(paths, &end.status);
    }
    let ended = |code, what: String| {
        Failure::new(code, what)
            .source("sf-firstboot.service")
            .next_command("journalctl -b -u sf-firstboot")
    };
    let signal = end.status.as_str();
    match end.code.as_str() {
        // A panic whose card could not be made.
        "exited" if signal == "70" && end.untold => Some(ended(
            &codes::INTERNAL,
            "the agent came upon a defect of its own, and could not say which".into(),
        )),
        "killed" | "dumped" if end.result == "oom-kill" => Some(
            ended(
                &codes::AGENT_KILLED,
                "the kernel killed the agent, since this node had no memory left".into(),
            )
            .next_command("journalctl -k -b"),
        ),
        "killed" | "dumped" if DEFECTS.contains(&signal) => Some(
            ended(
                &codes::INTERNAL,
                format!("the agent crashed with the signal SIG{signal}"),
            )
            .because("a defect of the agent, or memory or a disk of this node that is broken"),
        ),
        "killed" | "dumped" if !ASKED.contains(&signal) => Some(ended(
            &codes::AGENT_KILLED,
            format!("the agent was ended from outside, with the signal SIG{signal}"),
        )),
        _ => None,
    }
}

fn unstarted(paths: &Paths, status: &str) -> Option<Failure> {
    let status: u8 = status.parse().ok()?;
    if status == CREDENTIALS {
        return Some(credentials(paths));
    }
    let step = STEPS
        .iter()
        .find_map(|(known, step)| (*known == status).then_some(*step));
    let failure = Failure::new(
        &codes::AGENT_START,
        match step {
            Some(step) => format!("systemd could not start the agent: {step} could not be set up"),
            None => "systemd could not start the agent".to_owned(),
        },
    );
    Some(
        failure
            .value(format!("exit status {status}"))
            .source("sf-firstboot.service")
            .next_command("journalctl -b -u sf-firstboot"),
    )
}

fn credentials(paths: &Paths) -> Failure {
    let closed = closed_credentials(paths);
    let names: Vec<&str> = closed.iter().map(|one| one.name.as_str()).collect();
    let what = match &names[..] {
        [] => "a credential of this node cannot be opened".to_owned(),
        [name] => format!("the credential {name} cannot be opened"),
        names => format!(
            "{} credentials cannot be opened: {}",
            names.len(),
            names.join(", ")
        ),
    };
    let mut failure = Failure::new(&codes::CREDENTIAL_CLOSED, what);
    failure = match closed.first().map(|one| one.store) {
        Some(None) => failure
            .source("loader/credentials of the ESP, or the folder beside the kernel")
            .next_command("ls /boot/loader/credentials /boot/EFI/Linux"),
        Some(Some(store)) => failure
            .source(store)
            .remedy(format!(
                "Seal it anew for this node, or remove it from {store}; then: systemctl restart \
                 sf-firstboot."
            ))
            .next_command(format!("ls {store}")),
        // Too many of them, too large ones: systemd says it, and nothing here sees it.
        None => failure
            .source("sf-firstboot.service")
            .next_command("journalctl -b -u sf-firstboot"),
    };
    for Closed { name, cause, .. } in &closed {
        failure = failure.because(format!("{name}: {cause}"));
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn ended(code: &str, status: &str, result: &str) -> End {
        End {
            code: code.into(),
            status: status.into(),
            result: result.into(),
            untold: false,
        }
    }

    #[test]
    fn only_what_the_agent_cannot_tell_itself_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let failure = |code: &str, status: &str| failure(&paths, &ended(code, status, ""));
        for (code, status) in [
            ("exited", "0"),
            ("exited", "70"),
            ("exited", "75"),
            ("exited", "78"),
            ("killed", "TERM"),
            ("killed", "INT"),
            ("", ""),
        ] {
            assert!(failure(code, status).is_none(), "{code} {status}");
        }
        let told = failure("exited", "238").unwrap();
        assert_eq!(
            told.to_string(),
            "SF-AGENT-START: systemd could not start the agent: its state folder in /var/lib \
             could not be set up"
        );
        assert!(told.kind().retried());
        assert!(failure("exited", "212").is_some());
    }

    #[test]
    fn a_killed_agent_is_told_by_what_killed_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        for (code, status, result, told, said) in [
            ("killed", "KILL", "signal", "SF-AGENT-KILLED", "SIGKILL"),
            ("killed", "KILL", "oom-kill", "SF-AGENT-KILLED", "memory"),
            // With a child killed for want of memory, the agent is asked to end.
            ("killed", "TERM", "oom-kill", "SF-AGENT-KILLED", "memory"),
            ("killed", "USR1", "signal", "SF-AGENT-KILLED", "SIGUSR1"),
            ("killed", "SEGV", "signal", "SF-INTERNAL", "SIGSEGV"),
            ("dumped", "ABRT", "core-dump", "SF-INTERNAL", "SIGABRT"),
        ] {
            let failure = failure(&paths, &ended(code, status, result)).unwrap();
            assert_eq!(failure.code.id, told, "{status} {result}");
            assert!(failure.what.contains(said), "{failure}");
            let next = failure.next_command.unwrap();
            assert_eq!(next.contains("-k"), result == "oom-kill", "{next}");
        }
        let mut end = ended("exited", "70", "exit-code");
        end.untold = true;
        let told = failure(&paths, &end).unwrap();
        assert_eq!(told.code.id, "SF-INTERNAL");
    }

    /// What is told as final is not tried again, and the other way round.
    #[test]
    fn systemd_does_not_retry_defects() {
        let unit = |name: &str| {
            let folder = "../mkosi.extra/usr/lib/systemd/system";
            let path = format!("{}/{folder}/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        for name in ["sf-firstboot.service", "sf-ready.service"] {
            let unit = unit(name);
            let signals: Vec<&str> = unit
                .lines()
                .filter_map(|line| line.strip_prefix("RestartPreventExitStatus="))
                .flat_map(str::split_whitespace)
                .filter_map(|status| status.strip_prefix("SIG"))
                .collect();
            assert_eq!(signals, DEFECTS, "{name}");
        }
    }

    #[test]
    fn the_credentials_that_are_closed_are_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let told = failure(&paths, &ended("exited", "243", "")).unwrap();
        assert_eq!(told.what, "a credential of this node cannot be opened");
        assert_eq!(
            told.next_command.as_deref(),
            Some("journalctl -b -u sf-firstboot")
        );
        let folder = paths.at("/proc/1/root/run/credentials/@encrypted");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["sf.database.dsn", "sf.metadata"] {
            std::fs::write(folder.join(name), "sealed").unwrap();
        }
        testing::executable(
            &paths.at("/usr/bin/systemd-creds"),
            "#!/bin/sh\n[ \"$2\" = --name=sf.metadata ] && exit 0\n\
             echo 'Failed to determine local credential key' >&2; exit 1\n",
        );
        let told = failure(&paths, &ended("exited", "243", "")).unwrap();
        assert_eq!(told.what, "the credential sf.database.dsn cannot be opened");
        assert!(!told.kind().retried());
        assert!(told.source.unwrap().contains("ESP"));
        assert!(
            told.causes
                .iter()
                .any(|cause| cause.contains("local credential key")),
            "{:?}",
            told.causes
        );

        // In a store of the machine's own.
        std::fs::remove_file(folder.join("sf.database.dsn")).unwrap();
        let store = paths.at("/etc/credstore.encrypted");
        std::fs::create_dir_all(&store).unwrap();
        std::fs::write(store.join("other.service"), "sealed").unwrap();
        let told = failure(&paths, &ended("exited", "243", "")).unwrap();
        assert_eq!(told.what, "the credential other.service cannot be opened");
        assert_eq!(told.source.as_deref(), Some("/etc/credstore.encrypted"));
    }
}
