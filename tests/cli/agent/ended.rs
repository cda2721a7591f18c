//! Ends of the agent that it cannot tell of itself, and what it makes of the
//! ends of the runs before.

use sf_command::Cmd;

use super::maker::wait_for;
use super::node::Node;

/// What systemd runs behind the unit's end.
fn stopped(node: &Node, code: &str, status: &str, result: &str) {
    Cmd::path(env!("CARGO_BIN_EXE_sf-firstboot"))
        .args(["--log-format", "json", "--root"])
        .arg(node.root())
        .arg("stopped")
        .env("INVOCATION_ID", "0123")
        .env("EXIT_CODE", code)
        .env("EXIT_STATUS", status)
        .env("SERVICE_RESULT", result)
        .run()
        .unwrap();
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
