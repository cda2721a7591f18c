//! A node whose network is late, not what the metadata says, or breaks.

use std::time::Duration;

use super::node::{Node, Ran, UP, phases};
use super::proxy::{At, Proxy, Side, Then};
use super::server::Server;

/// The interface has no address yet.
const BARE: &str = r#"[{"name": "eth0"}]"#;

/// Runs the agent, and gives the interface its address once that is waited for.
fn run_with_a_late_address(node: &Node) -> Ran {
    node.interfaces(BARE);
    let running = node.start(&["run"]);
    for _ in 0..1000 {
        if node
            .read("run/sf-firstboot/status.json")
            .contains("waiting for the network")
        {
            node.interfaces(UP);
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Node::end(running)
}

#[test]
fn an_address_that_is_late_is_waited_for_and_a_wrong_one_stops_the_node() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");

    // First nothing, then the address is there: one run, and it says what it waits for.
    let ran = run_with_a_late_address(&node);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("waiting for the network: node.mesh.address: 10.0.0.5 is on no interface"),
        "{}",
        ran.stderr
    );

    // It never comes: not now, and nothing is written for it.
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    node.edit("wait = \"20s\"", "wait = \"1s\"");
    node.interfaces(BARE);
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let console = node.console();
    for part in [
        "SF-ADDRESS-MISSING",
        "10.0.0.5 is on no interface",
        "node.mesh.address",
    ] {
        assert!(console.contains(part), "{part} not in {console}");
    }
    assert!(!node.root().join("etc/sf/config").exists());
    assert_eq!(
        server.sql("SHOW TABLES FROM shakenfist LIKE 'cluster_series'"),
        ""
    );

    // No such interface at all.
    node.edit("eth0", "eth7");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let console = node.console();
    assert!(
        console.contains("SF-INTERFACE-MISSING") && console.contains("(eth0)"),
        "{console}"
    );
}

#[test]
fn a_node_that_was_cleared_before_waits_a_little_and_goes_on_without() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    node.edit("wait = \"20s\"", "wait = \"4s\"");
    assert_eq!(node.agent(&["run"]).code, 0);
    let again = |ran: Ran| {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(!phases(&node.events()).contains(&"preflight"));
        ran.stderr
    };
    let waited = "waiting for the network: node.mesh.address: 10.0.0.5 is on no interface";
    node.events();
    let log = again(node.agent(&["run"]));
    assert!(!log.contains(waited), "{log}");
    // It is late.
    let log = again(run_with_a_late_address(&node));
    assert!(log.contains(waited), "{log}");
    assert!(!log.contains("SF-ADDRESS-MISSING"), "{log}");
    // It never comes, or nobody can tell: the daemons start all the same.
    node.interfaces(BARE);
    let log = again(node.agent(&["run"]));
    assert!(
        log.contains(waited) && log.contains("SF-ADDRESS-MISSING"),
        "{log}"
    );
    node.interfaces("no netlink");
    let log = again(node.agent(&["run"]));
    assert!(log.contains("SF-CHECK-IMPOSSIBLE"), "{log}");
    let starts = node.read("systemctl.log");
    assert_eq!(starts.matches("start --no-block sf.target").count(), 5);
}

/// A full disk stops a first boot; a node that was cleared before goes on, its
/// instances run. A connection that breaks must not make a first boot of it.
#[test]
fn a_database_that_is_lost_in_an_ordinary_boot_does_not_make_it_a_first_one() {
    let server = Server::started();
    let proxy = Proxy::start(server.port);
    let node = Node::new("database-tier");
    node.metadata(proxy.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    node.events();
    proxy.arm_then(
        At::Saying("SELECT CAST(slot AS CHAR)"),
        Side::Before,
        || Then::Cut,
    );
    let ran = node.agent_with_mounts("mount -t tmpfs -o size=64M tmpfs srv", &["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!proxy.disarm(), "it was cut off");
    assert!(!phases(&node.events()).contains(&"preflight"));
}
