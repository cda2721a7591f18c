//! When systemd could not even start the agent. Nothing of the agent has run
//! then, so the card is made by a command of its own behind the unit's end
//! (`ExecStopPost=`), which needs none of what failed.

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

/// Why the agent did not start; `None` when it did, and has told how it ended.
/// `code` and `status` are systemd's `$EXIT_CODE` and `$EXIT_STATUS`.
pub fn failure(paths: &Paths, code: &str, status: &str) -> Option<Failure> {
    let status: u8 = status.parse().ok()?;
    if code != "exited" || !(FIRST..=LAST).contains(&status) {
        return None;
    }
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

    #[test]
    fn only_what_the_agent_cannot_tell_itself_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        for (code, status) in [
            ("exited", "0"),
            ("exited", "75"),
            ("exited", "78"),
            ("killed", "TERM"),
            ("dumped", "ABRT"),
            ("", ""),
        ] {
            assert!(failure(&paths, code, status).is_none(), "{code} {status}");
        }
        let told = failure(&paths, "exited", "238").unwrap();
        assert_eq!(
            told.to_string(),
            "SF-AGENT-START: systemd could not start the agent: its state folder in /var/lib \
             could not be set up"
        );
        assert!(told.kind().retried());
        assert!(failure(&paths, "exited", "212").is_some());
    }

    #[test]
    fn the_credentials_that_are_closed_are_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let told = failure(&paths, "exited", "243").unwrap();
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
        let told = failure(&paths, "exited", "243").unwrap();
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
        let told = failure(&paths, "exited", "243").unwrap();
        assert_eq!(told.what, "the credential other.service cannot be opened");
        assert_eq!(told.source.as_deref(), Some("/etc/credstore.encrypted"));
    }
}
