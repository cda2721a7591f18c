//! `sf-firstboot check`: what it says the node would do is what the node does,
//! and nothing is written to find out.

use serde_json::Value;

use super::desk::at_desk;
use super::node::{Node, Ran};
use super::rehearsal::{record, rolled_back};
use super::server::Server;

/// The output without what differs between machines.
fn plain(ran: &Ran, server: &Server) -> String {
    let version = server.sql("SELECT VERSION()");
    ran.stdout
        .replace(&server.port.to_string(), "PORT")
        .replace(version.trim(), "VERSION")
}

pub(super) fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr))
}

fn verdict(ran: &Ran) -> String {
    json(ran)["verdict"].as_str().unwrap().to_owned()
}

/// Tables, columns, indexes: everything that DDL can change.
fn definitions(server: &Server) -> String {
    let tables = server.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shakenfist' ORDER BY 1");
    tables
        .lines()
        .map(|table| server.sql(&format!("SHOW CREATE TABLE shakenfist.{table}")))
        .collect()
}

#[test]
fn a_check_ends_with_what_the_node_would_do() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let ran = at_desk(&node, &["check", "--role", "database-tier"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    insta::assert_snapshot!(plain(&ran, &server), @"
    ok    settings         every setting that the release needs has a value that its file can hold
    ok    bootstrap-plan   what is to be established in the cluster is acceptable
    ok    database-daemons Shaken Fist's daemons, which know less of databases than the agent, can do what the DSN says
    skip  pki              the metadata gives no certificates
    skip  pki-upkeep       the metadata gives no certificates
    node  identity         checked on the node only
    node  disk-space       checked on the node only
    node  memory           checked on the node only
    node  kvm              checked on the node only
    node  addresses        checked on the node only
    node  mtu              checked on the node only
    node  clock            checked on the node only
    ok    database         127.0.0.1:PORT is VERSION, unencrypted (ssl-mode=preferred)
    ok    database-upkeep  the database server has connections to spare, and its Galera node is not lent to another; in check alone: its certificate, where ssl-mode verifies it, lasts a month, and the DSN's other hosts work
    ok    clock-skew       the clock of 127.0.0.1:PORT is within 5 s of this one
    node  membership       checked on the node only
    ok    bootstrap        cluster-series would be created, namespace/system would be created, key/system/deploy would be created, auth-secret-seed would be created; not rehearsed: the tables are not there yet; the grants to make them are
    ok    versions         the cluster has no recorded version yet
    ok    role-claim       no other machine has this node's name, and none holds its role
    skip  passage          not rehearsed: the tables are not there yet; the grants to make them are
    skip  network-node     cluster.network_node is not set

    This node would
      make       tables bootstrap_operations, cluster_series, bootstrap_nodes, bootstrap_claims, bootstrap_events, cluster_config, namespaces, namespace_attributes, namespace_keys, namespace_key_attributes, object_states
      create     cluster-series, namespace/system, key/system/deploy, auth-secret-seed
      gate       join series 0.8, the cluster's first
      write      /etc/sf/config (0440 root:sudo)
      write      /etc/hostname (0644 root:root)
      write      /etc/hosts (0644 root:root)
      start      sf-database.service, sf-api.service, sf-net.service
      check      on the node only: identity, disk-space, memory, kvm, addresses, mtu, clock, membership

    Not rehearsed: the bootstrap (the tables are not there yet; the grants to make them are).
    Not rehearsed: the gate's passage (the tables are not there yet; the grants to make them are).

    node5.example.com would bootstrap the cluster (4 operations), join series 0.8, the cluster's first, and start 3 daemons.
    ");

    // A node that waits for it.
    let ran = at_desk(&node, &["check", "--json", "--role", "hypervisor"]);
    assert_eq!(
        verdict(&ran),
        "node5.example.com would wait for a database-tier node to bootstrap the cluster, then start 3 daemons"
    );
    let report = json(&ran);
    assert_eq!(report["forecast"]["bootstrap"]["action"], "wait");
    assert_eq!(report["forecast"]["gate"]["decision"], "wait");
    assert_eq!(
        report["forecast"]["rehearsal"],
        serde_json::json!([{
            "part": "gate", "rehearsed": false,
            "why": "not rehearsed: the tables are not there yet; the grants to write to them are",
        }])
    );
    assert_eq!(report["exit_code"], 0);

    // On a cluster that is there.
    let ran = at_desk(&node, &["bootstrap-cluster"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for role in ["hypervisor", "database-tier"] {
        let ran = at_desk(&node, &["check", "--json", "--role", role]);
        assert_eq!(
            verdict(&ran),
            "node5.example.com would join the cluster, which runs series 0.8, and start 3 daemons"
        );
        assert_eq!(json(&ran)["forecast"]["bootstrap"]["action"], "nothing");
        assert_eq!(json(&ran)["forecast"]["gate"]["decision"], "join");
    }

    // On one that this release may not join.
    server.sql("UPDATE shakenfist.cluster_series SET series = '0.5', predecessor = '0.4';");
    let ran = at_desk(&node, &["check", "--json", "--role", "hypervisor"]);
    assert_eq!(ran.code, 77);
    assert_eq!(
        verdict(&ran),
        "node5.example.com would stop with SF-GATE-VERSION (exit 77), write nothing and start nothing: 1 finding to correct"
    );
    assert_eq!(json(&ran)["forecast"]["gate"]["decision"], "refuse");
}

#[test]
fn a_database_that_is_down_leaves_no_doubt_about_what_cannot_be_told() {
    let mut server = Server::started();
    server.stop();
    let node = Node::new("hypervisor");
    node.metadata(server.port, "");
    let ran = at_desk(&node, &["check", "--role", "hypervisor"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let last = ran.stdout.trim_end().lines().last().unwrap();
    assert_eq!(
        last,
        "node5.example.com would not start now: SF-DB-REFUSED (exit 75); it would keep trying."
    );
    assert!(
        ran.stdout
            .contains("gate       cannot be told without the database"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout
            .contains("\nOnce that is mended, this node would\n"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout
            .contains("skip  versions         not tried: the check \"database\" did not pass"),
        "{}",
        ran.stdout
    );
}

#[test]
fn mode_require_needs_a_cluster_that_is_there() {
    let server = Server::started();
    let node = Node::new("hypervisor");
    node.metadata(server.port, "[bootstrap]\nmode = \"require\"\n");
    let ran = at_desk(&node, &["check", "--json", "--role", "hypervisor"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert_eq!(json(&ran)["code"], "SF-BOOTSTRAP-REQUIRED");
    let source = json(&ran)["findings"][0]["source"].to_string();
    assert!(
        source.contains(".toml:") && source.contains("(bootstrap.mode)"),
        "{source}"
    );
}

/// The server's own log of what it was told.
#[test]
fn a_rehearsal_writes_nothing_not_even_tables() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(at_desk(&node, &["bootstrap-cluster"]).code, 0);
    // One operation to do anew, one to adopt.
    server.sql(
        "DELETE FROM shakenfist.bootstrap_operations WHERE name IN ('namespace/system', 'auth-secret-seed'); \
         DELETE FROM shakenfist.cluster_config WHERE key_name = 'AUTH_SECRET_SEED';",
    );
    let before = (server.dump(), definitions(&server));
    record(&server);
    let ran = at_desk(&node, &["check", "--json", "--role", "database-tier"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!((server.dump(), definitions(&server)), before);

    let operations = &json(&ran)["forecast"]["bootstrap"]["operations"];
    let outcome = |name: &str| {
        operations
            .as_array()
            .unwrap()
            .iter()
            .find(|done| done["name"] == name)
            .unwrap()["outcome"]
            .clone()
    };
    assert_eq!(outcome("namespace/system"), "adopted");
    assert_eq!(outcome("auth-secret-seed"), "created");
    assert_eq!(outcome("cluster-series"), "unchanged");

    // What would be written was: inside a transaction that was rolled back.
    let writes = rolled_back(&server);
    assert!(writes.len() >= 5, "{writes:?}");
    let rehearsal = &json(&ran)["forecast"]["rehearsal"];
    assert_eq!(
        *rehearsal,
        serde_json::json!([
            {"part": "bootstrap", "rehearsed": true, "why": null},
            {"part": "gate", "rehearsed": true, "why": null},
        ])
    );
}

#[test]
fn the_node_does_what_the_check_said() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let ran = node.agent(&["check", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let forecast = json(&ran)["forecast"].clone();
    assert_eq!(
        forecast["on_node"],
        serde_json::json!([]),
        "this is the node"
    );
    assert_eq!(forecast["gate"]["decision"], "first");

    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut foretold: Vec<&str> = forecast["bootstrap"]["operations"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|done| done["outcome"] == "created")
        .filter_map(|done| done["name"].as_str())
        .collect();
    foretold.sort_unstable();
    let done = server.sql(
        "SELECT name FROM shakenfist.bootstrap_operations WHERE outcome = 'created' ORDER BY name",
    );
    let mut done: Vec<&str> = done.lines().collect();
    done.sort_unstable();
    assert_eq!(foretold, done);
    let mut tables: Vec<&str> = forecast["bootstrap"]["tables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    tables.sort_unstable();
    let made = server.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shakenfist' ORDER BY 1");
    let mut made: Vec<&str> = made.lines().collect();
    made.sort_unstable();
    assert_eq!(tables, made);
    for file in forecast["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        assert!(
            !node.read(path.trim_start_matches('/')).is_empty(),
            "{path}"
        );
    }
    assert!(
        node.read("systemctl.log")
            .contains("start --no-block sf.target")
    );
}

/// Nobody records a series any more, so waiting for one would be in vain.
#[test]
fn a_series_that_is_gone_from_a_whole_bootstrap_stops_every_role() {
    let server = Server::started();
    let node = Node::new("hypervisor");
    node.metadata(server.port, "");
    assert_eq!(at_desk(&node, &["bootstrap-cluster"]).code, 0);
    server.sql("DELETE FROM shakenfist.cluster_series");
    let gone = "the cluster's series is gone from the database at 127.0.0.1";
    for role in ["database-tier", "network", "hypervisor", "single-node"] {
        let ran = at_desk(&node, &["check", "--json", "--role", role]);
        assert_eq!(ran.code, 77, "{role}: {}", ran.stderr);
        assert_eq!(
            verdict(&ran),
            "node5.example.com would stop with SF-BOOTSTRAP-DAMAGED (exit 77), write nothing and \
             start nothing: 1 finding to correct"
        );
        let what = json(&ran)["findings"][0]["what"].to_string();
        assert!(what.contains(gone), "{role}: {what}");
    }
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(ran.stderr.contains(gone), "{}", ran.stderr);
    // Behind a record that was taken away as well.
    server.sql("DELETE FROM shakenfist.bootstrap_operations WHERE name = 'cluster-series'");
    let ran = node.agent(&["check", "--json"]);
    assert_eq!(json(&ran)["code"], "SF-BOOTSTRAP-DAMAGED", "{}", ran.stderr);
}

#[test]
fn a_damaged_version_record_is_a_finding_of_every_role() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(at_desk(&node, &["bootstrap-cluster"]).code, 0);
    server.sql("UPDATE shakenfist.cluster_series SET predecessor = 'zzz'");
    for role in ["database-tier", "hypervisor"] {
        let ran = at_desk(&node, &["check", "--json", "--role", role]);
        assert_eq!(ran.code, 77, "{role}: {}", ran.stderr);
        assert_eq!(json(&ran)["code"], "SF-GATE-RECORD", "{role}");
        let what = json(&ran)["findings"][0]["what"].to_string();
        assert!(what.contains("predecessor \\\"zzz\\\""), "{what}");
    }
}
