//! What the agent's units may do: the score of `systemd-analyze security`,
//! over the tree that every image gets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use sf_command::{Cmd, Tool};

/// Tenths of systemd's points; 3.0 is what the agent promises.
const LIMIT: &str = "--threshold=30";

fn judged(unit: &str, limit: &str) -> Result<String, sf_command::Failure> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mkosi.extra");
    Cmd::new(Tool::SystemdAnalyze)
        .args(["security", "--offline=yes", "--no-pager", limit])
        .arg(format!("--root={}", tree.canonicalize().unwrap().display()))
        .arg(unit)
        .run()
        .map(|output| output.text())
}

#[test]
fn units_of_the_agent_may_do_little() {
    for unit in [
        "sf-firstboot.service",
        "sf-hostname.service",
        "sf-ready.service",
        "sf-report.service",
    ] {
        let text = judged(unit, LIMIT).unwrap_or_else(|failure| panic!("{unit}: {failure:?}"));
        assert!(text.contains("Overall exposure level"), "{unit}: {text}");
    }
    // The judge does refuse: no service that runs anything scores nothing.
    judged("sf-firstboot.service", "--threshold=1").unwrap_err();
}

#[test]
fn no_crash_of_the_agent_leaves_its_secrets_in_a_core() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mkosi.extra/usr/lib/systemd/system");
    for unit in ["sf-firstboot", "sf-ready", "sf-report"] {
        let file = units.join(format!("{unit}.service.d/10-hardening.conf"));
        let text = std::fs::read_to_string(&file).unwrap();
        let limits: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("LimitCORE="))
            .collect();
        assert_eq!(limits, ["LimitCORE=0"], "{unit}");
    }
}
