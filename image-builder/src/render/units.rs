//! systemd units for a release's daemons.

use std::fmt::Write as _;

use sf_contract::release::Daemon;

use crate::tree::{Node, Tree};

/// Where units stand in an image.
const UNITS: &str = "usr/lib/systemd/system";

/// The agent's path in an image.
const AGENT: &str = "/usr/bin/sf-firstboot";

/// Puts in a daemon's unit, the drop-in that puts it behind the agent, and the
/// link by which `sf.target` wants it. The unit has no `[Install]`: nothing but
/// `sf.target`, which only the agent starts, ever starts it.
pub(super) fn insert(tree: &mut Tree, daemon: &Daemon) {
    let unit = &daemon.unit;
    tree.insert(
        format!("{UNITS}/{unit}.service"),
        Node::text(service(daemon)),
    );
    tree.insert(
        format!("{UNITS}/{unit}.service.d/10-sf-firstboot.conf"),
        Node::text(drop_in(unit)),
    );
    tree.insert(
        format!("{UNITS}/sf.target.wants/{unit}.service"),
        Node::Link(format!("../{unit}.service")),
    );
}

fn service(daemon: &Daemon) -> String {
    let mut text = String::from("[Unit]\n");
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    line("Description", &daemon.description.replace('%', "%%"));
    if !daemon.requires.is_empty() {
        line("Requires", &daemon.requires.join(" "));
    }
    if !daemon.after.is_empty() {
        line("After", &daemon.after.join(" "));
    }
    line("PartOf", "sf.target");
    // A daemon that cannot start is tried for ever, ever more slowly.
    line("StartLimitIntervalSec", "0");
    text.push_str("\n[Service]\n");
    let defaults = [
        ("Type", daemon.service_type.as_str()),
        ("EnvironmentFile", "/etc/sf/config"),
        ("ExecStart", daemon.exec.as_str()),
        ("Restart", "on-failure"),
        ("RestartSec", "5s"),
        ("RestartSteps", "6"),
        ("RestartMaxDelaySec", "2min"),
    ];
    let given = |key: &str| daemon.service.iter().any(|(other, _)| other == key);
    for (key, value) in defaults.iter().filter(|(key, _)| !given(key)) {
        let _ = writeln!(text, "{key}={value}");
    }
    for (key, value) in &daemon.service {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

fn drop_in(unit: &str) -> String {
    format!(
        "# A drop-in for each daemon: one for the prefix \"sf-\" would also match sf-firstboot.service.\n\
         [Unit]\n\
         After=sf-firstboot.service sf-hostname.service\n\
         Before=sf-ready.service\n\
         \n\
         [Service]\n\
         # The gate asks the database, whose DSN may be a credential. A unit with a mount namespace\n\
         # of its own does not see those of the system; metadata refers to them by any name.\n\
         ImportCredential=*\n\
         # It gets its credentials and nothing else: the daemon's environment has the cluster's secrets, and\n\
         # what a unit has for one of its commands it has for all. JOURNAL_STREAM goes, too: hence the format.\n\
         ExecStartPre=/usr/bin/env -i CREDENTIALS_DIRECTORY=%d {AGENT} gate --log-format json {unit}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_has_nothing_of_the_daemons_environment() {
        let text = drop_in("sf-x");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStartPre="))
            .unwrap();
        // As systemd does it: one place for this unit's credentials, a secret in the environment.
        let line = line.replace("%d", "/run/credentials/sf-x.service");
        let mut words: Vec<&str> = line.split(' ').collect();
        let agent = words.iter().position(|word| *word == AGENT).unwrap();
        words.truncate(agent);
        words.push("/usr/bin/env");
        let seen = sf_command::Cmd::path(words[0])
            .args(&words[1..])
            .env("SHAKENFIST_AUTH_SECRET_SEED", "hunter2")
            .run()
            .unwrap();
        assert_eq!(
            seen.text().trim(),
            "CREDENTIALS_DIRECTORY=/run/credentials/sf-x.service"
        );
    }

    #[test]
    fn a_directive_of_the_release_replaces_the_default() {
        let daemon = Daemon {
            unit: "sf-x".into(),
            description: "X".into(),
            exec: "/usr/bin/x".into(),
            service_type: "simple".into(),
            provides: vec![],
            always: true,
            roles: vec![],
            after: vec!["a.service".into(), "b.service".into()],
            requires: vec![],
            ports: vec![],
            readiness: None,
            service: vec![
                ("Restart".into(), "always".into()),
                ("Environment".into(), "A=1".into()),
                ("Environment".into(), "B=2".into()),
            ],
        };
        insta::assert_snapshot!(service(&daemon), @"
        [Unit]
        Description=X
        After=a.service b.service
        PartOf=sf.target
        StartLimitIntervalSec=0

        [Service]
        Type=simple
        EnvironmentFile=/etc/sf/config
        ExecStart=/usr/bin/x
        RestartSec=5s
        RestartSteps=6
        RestartMaxDelaySec=2min
        Restart=always
        Environment=A=1
        Environment=B=2
        ");
    }
}
