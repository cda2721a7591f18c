//! Ends of the agent that it cannot tell of itself, and what it makes of the
//! ends of the runs before.

use sf_command::Cmd;

use super::maker::wait_for;
use super::node::Node;
use super::server::Server;

/// What systemd runs behind the unit's end.
pub(crate) fn stopping(node: &Node, code: &str, status: &str, result: &str) -> Cmd {
    Cmd::path(env!("CARGO_BIN_EXE_sf-firstboot"))
        .args(["--log-format", "json", "--root"])
        .arg(node.root())
        .arg("stopped")
        .env("INVOCATION_ID", "0123")
        .env("EXIT_CODE", code)
        .env("EXIT_STATUS", status)
        .env("SERVICE_RESULT", result)
}

fn stopped(node: &Node, code: &str, status: &str, result: &str) {
    stopping(node, code, status, result).run().unwrap();
}

#[test]
fn a_killed_agent_gets_a_card_that_says_how_far_it_came() {
    let node = Node::new("hypervisor");
    // Nobody listens there: it waits.
    node.metadata(1, "");
    let (mut child, _) = node.start(&["run"]);
    wait_for("the database", || {
        node.read("run/sf-firstboot/status.json")
            .contains("waiting_for")
    });
    child.kill().unwrap();
    assert_eq!(node.console(), "");
    for (status, result) in [("TERM", "signal"), ("TERM", "success")] {
        stopped(&node, "killed", status, result);
        assert_eq!(node.console(), "", "asked to end");
    }
    stopped(&node, "killed", "KILL", "oom-kill");
    let console = node.console();
    for part in [
        "NOT STARTED: node5.example.com (hypervisor, image 0.8.0-1)",
        "exit 75 (transient)",
        "SF-AGENT-KILLED",
        "no memory left",
        "journalctl -k -b",
    ] {
        assert!(console.contains(part), "{part} not in {console}");
    }
    let status = &node.status()["status"];
    assert_eq!(status["state"], "failed");
    assert_eq!(status["phase"], "preflight");
    assert_eq!(
        (&status["attempts"], &status["exit_code"]),
        (&1.into(), &75.into())
    );
    assert!(
        node.read("run/issue.d/50-sf-firstboot.issue")
            .contains("SF-AGENT-KILLED")
    );
    // The run has been told of, as far as exit codes go.
    stopped(&node, "exited", "70", "exit-code");
    assert_eq!(node.console(), "");
    stopped(&node, "dumped", "SEGV", "core-dump");
    let console = node.console();
    assert!(
        console.contains("SF-INTERNAL") && console.contains("SIGSEGV"),
        "{console}"
    );
}

/// Lines that the console got since the last look.
fn said(node: &Node) -> Vec<String> {
    let console = node.console();
    let lines = console.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn begun(node: &Node) -> String {
    node.read("var/lib/sf-firstboot/begun.json")
}

#[test]
fn only_what_was_really_cut_short_is_called_so() {
    let server = Server::started();
    let node = Node::new("hypervisor");
    node.metadata(server.port, "");
    node.edit("wait = \"20s\"", "wait = \"2s\"");
    assert_eq!(node.agent(&["run"]).code, 75);
    assert!(node.console().contains("SF-BOOTSTRAP-WAITING"));
    // It waited and said so, twice: nothing was cut short.
    for attempt in 2..4 {
        assert_eq!(begun(&node), "");
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 75, "{}", ran.stderr);
        let said = said(&node);
        assert_eq!(said.len(), 1, "{said:?}");
        let line = format!("attempt {attempt}, still SF-BOOTSTRAP-WAITING");
        assert!(said[0].contains(&line), "{said:?}");
        assert!(node.status()["status"]["resumed"].is_null());
    }
    // While it tries again, monitoring knows that it fails.
    let (child, streams) = node.start(&["run"]);
    let metrics = || node.read("run/sf-firstboot/sf-firstboot.prom");
    wait_for("the next attempt", || {
        metrics().contains("state=\"running\"} 1")
    });
    let text = metrics();
    for sample in [
        "sf_firstboot_failure{code=\"SF-BOOTSTRAP-WAITING\",phase=\"bootstrap\"} 1\n",
        "sf_firstboot_exit_code 75\n",
        "sf_firstboot_finished_timestamp_seconds ",
    ] {
        assert!(text.contains(sample), "{sample} not in {text}");
    }
    assert_eq!(Node::end((child, streams)).code, 75);
    // A cut is a cut, and began when it began.
    node.edit("wait = \"2s\"", "wait = \"1m\"");
    let (mut child, _) = node.start(&["run"]);
    wait_for("the bootstrap", || !begun(&node).is_empty());
    child.kill().unwrap();
    node.edit("wait = \"1m\"", "wait = \"3s\"");
    let mark: serde_json::Value = serde_json::from_str(&begun(&node)).unwrap();
    let began = mark["at"].as_str().unwrap();
    node.console();
    for attempt in 0..2 {
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 75, "{}", ran.stderr);
        let line = format!("resuming a first boot that began {began}");
        let told = said(&node).iter().any(|said| said.contains(&line));
        assert_eq!(told, attempt == 0, "once");
        assert_eq!(node.status()["status"]["resumed"], began);
    }
    let tier = Node::named("database-tier", "db1", server.port, "");
    assert_eq!(tier.agent(&["run"]).code, 0);
    assert_eq!(node.agent(&["run"]).code, 0);
    assert_eq!(begun(&node), "");
    let text = metrics();
    assert!(text.contains("sf_firstboot_exit_code 0\n") && !text.contains("sf_firstboot_failure"));
}

#[test]
fn a_refusal_cuts_nothing_short() {
    let server = Server::started();
    let node = Node::new("hypervisor");
    node.metadata(server.port, "[bootstrap]\nmode = \"require\"\n");
    for _ in 0..2 {
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 77, "{}", ran.stderr);
        let console = node.console();
        assert!(console.contains("SF-BOOTSTRAP-REQUIRED"), "{console}");
        assert!(!console.contains("resuming"), "{console}");
    }
}

#[test]
fn a_run_that_is_turned_away_leaves_the_others_status_alone() {
    let node = Node::new("hypervisor");
    // Nobody listens there: it waits.
    node.metadata(1, "");
    let (mut child, _) = node.start(&["run"]);
    let status = || node.read("run/sf-firstboot/status.json");
    wait_for("the database", || status().contains("waiting_for"));
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("SF-BUSY"), "{}", ran.stderr);
    assert_eq!(node.console(), "");
    assert_eq!(node.read("run/issue.d/50-sf-firstboot.issue"), "");
    assert_eq!(node.read("var/lib/sf-firstboot/status.json"), "");
    // What the remedy points at is there.
    let told = &node.status()["status"];
    assert_eq!(
        (&told["state"], &told["phase"], &told["attempts"]),
        (&"running".into(), &"preflight".into(), &1.into())
    );
    assert!(
        !node
            .read("run/sf-firstboot/sf-firstboot.prom")
            .contains("SF-BUSY")
    );
    // It may wait for ever: who is to reset the node has to end it.
    node.program("usr/bin/systemctl", "echo ActiveState=inactive");
    let ran = node.agent(&["reset", "--yes"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let next = "next: systemctl stop sf-firstboot\n";
    assert!(ran.stderr.ends_with(next), "{}", ran.stderr);
    child.kill().unwrap();
}
