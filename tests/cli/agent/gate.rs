//! The gate before a daemon's start, while its database is in trouble: an
//! outage never keeps a cleared node's daemons down, a known mismatch does.

use std::time::{Duration, Instant};

use super::node::{Node, Ran};
use super::server::Server;

/// Both limits of the gate, and a start of the program on a busy machine; a
/// server that says nothing would hold it up for longer.
const BOUND: Duration = Duration::from_secs(20);

fn gate(node: &Node) -> Ran {
    let began = Instant::now();
    let ran = node.agent(&["gate", "sf-api.service"]);
    assert!(began.elapsed() < BOUND, "took {:?}", began.elapsed());
    ran
}

#[test]
fn a_stalled_server_costs_a_cleared_node_seconds() {
    let server = Server::started();
    let cleared = Node::new("database-tier");
    cleared.metadata(server.port, "");
    let new = Node::named("hypervisor", "hv1", server.port, "");
    assert_eq!(cleared.agent(&["run"]).code, 0);
    // It accepts connections and never says a word.
    server.pause();
    let ran = gate(&cleared);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("cleared earlier during this boot"),
        "{}",
        ran.stderr
    );
    let ran = gate(&new);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("SF-GATE-NO-CLEARANCE"),
        "{}",
        ran.stderr
    );
    server.resume();
    assert_eq!(gate(&cleared).code, 0);
}

#[test]
fn only_what_is_known_to_be_wrong_stops_a_daemon() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);

    // The password has been changed: the database cannot be asked.
    server.sql("ALTER USER sf@'%' IDENTIFIED BY 'another'");
    assert_eq!(gate(&node).code, 0);
    server.sql(&format!(
        "ALTER USER sf@'%' IDENTIFIED BY '{}'",
        super::server::PASSWORD
    ));

    // Forgotten by mistake while it runs: it is on record again.
    server.sql("DELETE FROM shakenfist.bootstrap_nodes");
    assert_eq!(gate(&node).code, 0);
    assert_eq!(
        server.sql("SELECT fqdn, series, outcome FROM shakenfist.bootstrap_nodes"),
        "node5.example.com\t0.8\tstarted"
    );

    // The cluster has moved on without it.
    server.sql(
        "DELETE FROM shakenfist.bootstrap_nodes; \
         UPDATE shakenfist.cluster_series SET series = '0.10', predecessor = '0.9'",
    );
    let before = server.dump();
    let ran = gate(&node);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("SF-GATE-VERSION") && ran.stderr.contains("0.10"),
        "{}",
        ran.stderr
    );
    assert_eq!(server.dump(), before);

    // Not understood is not cleared.
    server.sql("UPDATE shakenfist.cluster_series SET series = 'x'");
    let ran = gate(&node);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(ran.stderr.contains("SF-GATE-RECORD"), "{}", ran.stderr);
}

fn password(server: &Server, password: &str) {
    server.sql(&format!("ALTER USER sf@'%' IDENTIFIED BY '{password}'"));
}

/// By the gate, or by a run beside running daemons: what was refused on what the
/// record says does not start because nobody can be asked any more.
#[test]
fn a_refusal_outlasts_the_outage_that_follows_it() {
    let server = Server::started();
    let [tier, net1, net2] = Node::rivals(server.port);
    assert_eq!(tier.agent(&["run"]).code, 0);
    assert_eq!(net1.agent(&["run"]).code, 0);
    let mark = net1.root().join("run/sf-firstboot/refused.json");
    for refusing in [&["gate", "sf-api.service"][..], &["run"]] {
        server.sql("DELETE FROM shakenfist.bootstrap_claims");
        assert_eq!(net2.agent(&["run"]).code, 0);
        assert_eq!(net1.agent(refusing).code, 77);
        assert!(mark.exists(), "{refusing:?}");
        password(&server, "another");
        let ran = gate(&net1);
        assert_eq!(ran.code, 77, "{refusing:?}: {}", ran.stderr);
        for part in [
            "SF-CLAIM-HELD",
            "net2.example.com holds it",
            "release-claim",
        ] {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
        // Its rival was not refused.
        assert_eq!(gate(&net2).code, 0);
        // Answers come again; the record still says so, and then it does not.
        password(&server, super::server::PASSWORD);
        assert_eq!(gate(&net1).code, 77);
        server.sql("DELETE FROM shakenfist.bootstrap_claims");
        assert_eq!(gate(&net1).code, 0);
        assert!(!mark.exists(), "{refusing:?}");
        password(&server, "another");
        assert_eq!(gate(&net1).code, 0);
        password(&server, super::server::PASSWORD);
        assert_eq!(gate(&net2).code, 77);
    }
    // In another boot it counts for nothing, nor does the clearance.
    assert_eq!(net2.agent(&["run"]).code, 77);
    std::fs::write(
        net2.root().join("proc/sys/kernel/random/boot_id"),
        "00000000-0000-4000-8000-000000000002\n",
    )
    .unwrap();
    password(&server, "another");
    assert_eq!(gate(&net2).code, 75);
}

/// A server without writes may be behind the one that has them.
#[test]
fn what_a_read_only_server_says_neither_stays_nor_takes_back() {
    let server = Server::started();
    let [tier, net1, net2] = Node::rivals(server.port);
    let read_only = |on: bool| server.sql(&format!("SET GLOBAL read_only = {}", u8::from(on)));
    assert_eq!(tier.agent(&["run"]).code, 0);
    assert_eq!(net1.agent(&["run"]).code, 0);
    server.sql("DELETE FROM shakenfist.bootstrap_claims");
    assert_eq!(net2.agent(&["run"]).code, 0);
    let mark = net1.root().join("run/sf-firstboot/refused.json");
    read_only(true);
    let ran = gate(&net1);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(!mark.exists(), "{}", ran.stderr);
    password(&server, "another");
    assert_eq!(gate(&net1).code, 0, "an outage");
    password(&server, super::server::PASSWORD);
    read_only(false);
    assert_eq!(gate(&net1).code, 77);
    assert!(mark.exists());
    // An older state of the record, as a server that lags has it.
    server.sql("DELETE FROM shakenfist.bootstrap_claims");
    read_only(true);
    assert_eq!(gate(&net1).code, 77);
    assert!(mark.exists());
    read_only(false);
    assert_eq!(gate(&net1).code, 0);
    assert!(!mark.exists());
}

/// The first host takes connections and says nothing: the second one is asked all
/// the same, by the gate and by who has the daemons' readiness to tell.
#[test]
fn a_silent_host_does_not_hide_the_one_behind_it() {
    let server = Server::started();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    let port = silent.local_addr().unwrap().port();
    node.edit("@127.0.0.1:", &format!("@127.0.0.1:{port},127.0.0.1:"));
    // On a busy machine the second host, too, may need more than its share.
    let eventually = |done: &dyn Fn() -> bool| (0..10).any(|_| done());
    assert!(eventually(&|| {
        let ran = gate(&node);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stderr.contains("the cluster's record says so")
    }));
    let row = "SELECT phase, last_error FROM shakenfist.bootstrap_nodes";
    assert!(eventually(&|| {
        assert_eq!(node.agent(&["ready"]).code, 75);
        server.sql(row) == "ready\tSF-DAEMON-NOT-READY"
    }));
    // Forgotten while it ran: written again, with how far it came.
    assert!(eventually(&|| {
        server.sql("DELETE FROM shakenfist.bootstrap_nodes");
        assert_eq!(gate(&node).code, 0);
        server.sql("SELECT outcome FROM shakenfist.bootstrap_nodes") == "started"
    }));
    server.sql("DELETE FROM shakenfist.bootstrap_nodes; UPDATE shakenfist.cluster_series SET series = '0.10', predecessor = '0.9'");
    assert!(eventually(&|| gate(&node).code == 77));
}

/// Whoever asks the database goes by the CA of the metadata, not only the run.
#[test]
fn a_ca_of_ones_own_is_known_to_the_gate_to_readiness_and_to_the_desk() {
    let mut server = Server::started();
    let ca = server.with_tls();
    let node = Node::new("database-tier");
    node.metadata(server.port, "[pki]\nca = { credential = \"sf.ca\" }\n");
    node.edit("/shakenfist\"", "/shakenfist?ssl-mode=verify-identity\"");
    node.credential("sf.ca", &ca);
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = gate(&node);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("the cluster's record says so"),
        "{}",
        ran.stderr
    );
    assert_eq!(node.agent(&["ready"]).code, 75);
    assert_eq!(
        server.sql("SELECT last_error FROM shakenfist.bootstrap_nodes"),
        "SF-DAEMON-NOT-READY"
    );
    let ran = node.agent(&["cluster", "status"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Without it none of them is let in, and the gate goes by the clearance.
    node.edit("[pki]\nca = { credential = \"sf.ca\" }\n", "");
    let ran = gate(&node);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("SF-DB-TLS"), "{}", ran.stderr);
    assert_eq!(node.agent(&["cluster", "status"]).code, 78);
}
