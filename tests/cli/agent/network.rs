//! A node whose network is late, not what the metadata says, or breaks.

use super::node::{Node, phases};
use super::proxy::{At, Proxy, Side, Then};
use super::server::Server;

/// What `ip` shows when the interface has no address yet.
const BARE: &str = "[{\"ifname\":\"eth0\",\"addr_info\":[]}]";
const UP: &str = "[{\"ifname\":\"eth0\",\"addr_info\":[{\"local\":\"10.0.0.5\"}]}]";

#[test]
fn an_address_that_is_late_is_waited_for_and_a_wrong_one_stops_the_node() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");

    // Twice nothing, then the address is there: one run, and it says what it waits for.
    node.program(
        "usr/bin/ip",
        &format!(
            "echo x >>\"$ROOT/looks\"; [ $(wc -l <\"$ROOT/looks\") -gt 2 ] && echo '{UP}' || echo '{BARE}'"
        ),
    );
    let ran = node.agent(&["run"]);
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
    node.program("usr/bin/ip", &format!("echo '{BARE}'"));
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
    let again = |ip: &str| {
        node.program("usr/bin/ip", ip);
        node.events();
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(!phases(&node.events()).contains(&"preflight"));
        ran.stderr
    };
    let waited = "waiting for the network: node.mesh.address: 10.0.0.5 is on no interface";
    let log = again(&format!("echo '{UP}'"));
    assert!(!log.contains(waited), "{log}");
    // It is late.
    let log = again(&format!(
        "echo x >>\"$ROOT/looks\"; [ $(wc -l <\"$ROOT/looks\") -gt 2 ] && echo '{UP}' || echo '{BARE}'"
    ));
    assert!(log.contains(waited), "{log}");
    assert!(!log.contains("SF-ADDRESS-MISSING"), "{log}");
    // It never comes, or nobody can tell: the daemons start all the same.
    let log = again(&format!("echo '{BARE}'"));
    assert!(
        log.contains(waited) && log.contains("SF-ADDRESS-MISSING"),
        "{log}"
    );
    let log = again("echo 'no netlink' >&2; exit 1");
    assert!(
        log.contains("SF-CHECK-IMPOSSIBLE") && log.contains("no netlink"),
        "{log}"
    );
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
