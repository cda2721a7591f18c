//! `sf-firstboot check` tries the gate's passage in the real database: the
//! server's own log tells that the statements ran, the rows that none stayed.

use serde_json::Value;

use super::desk::at_desk;
use super::forecast::json;
use super::node::{Node, Ran};
use super::server::Server;

/// The server writes down what it is told from now on.
pub(super) fn record(server: &Server) {
    server.sql(
        "SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = OFF; \
         TRUNCATE mysql.general_log; SET GLOBAL general_log = ON;",
    );
}

/// What the agent has written since: all of it inside of transactions that were
/// rolled back.
pub(super) fn rolled_back(server: &Server) -> Vec<String> {
    let log = server.sql(
        "SET GLOBAL general_log = OFF; \
         SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
         WHERE user_host LIKE 'sf[sf]%' AND command_type IN ('Query', 'Execute') ORDER BY event_time",
    );
    let (mut open, mut writes) = (false, Vec::new());
    for line in log.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word.to_ascii_uppercase().as_str() {
            "START" => open = true,
            "ROLLBACK" => open = false,
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" => {
                assert!(open, "a write outside of a transaction: {line}");
                let words: Vec<&str> = line.split_whitespace().take(3).collect();
                writes.push(words.join(" ").replace(" SET", ""));
            }
            "COMMIT" | "CREATE" | "ALTER" | "DROP" | "TRUNCATE" | "GRANT" | "RENAME" => {
                panic!("the check ran: {line}");
            }
            _ => {}
        }
    }
    assert!(!open, "{log}");
    writes
}

/// A bootstrapped cluster of series 0.8, and a node of the same metadata.
fn cluster() -> (Server, Node) {
    let server = Server::started();
    let node = Node::new("hypervisor");
    node.metadata(server.port, "");
    assert_eq!(at_desk(&node, &["bootstrap-cluster"]).code, 0);
    (server, node)
}

fn part(ran: &Ran, name: &str) -> Value {
    let report = json(ran);
    let mut parts = report["forecast"]["rehearsal"]
        .as_array()
        .into_iter()
        .flatten();
    let part = parts.find(|part| part["part"] == name);
    part.unwrap_or_else(|| panic!("{name}: {report}")).clone()
}

/// A row of a node that holds a series.
fn row(fqdn: &str, role: &str, series: &str) -> String {
    format!(
        "INSERT INTO shakenfist.bootstrap_nodes VALUES ('{fqdn}', '{role}', '{series}', '{series}.0', \
         '{series}.0-1', 'm', 'start', 'started', 0, NULL);"
    )
}

fn series(slot: u8, series: &str, before: &str) -> String {
    format!(
        "INSERT INTO shakenfist.cluster_series VALUES ({slot}, '{series}', '{before}', '{series}.0', 0, 'x');"
    )
}

const WIPE: &str = "DELETE FROM shakenfist.bootstrap_claims; DELETE FROM shakenfist.bootstrap_nodes; \
                    DELETE FROM shakenfist.cluster_series;";
const OWN: &str = "node5.example.com";
const INSERT_ROW: &str = "INSERT INTO bootstrap_nodes";
const UPDATE_ROW: &str = "UPDATE bootstrap_nodes";
const INSERT_SERIES: &str = "INSERT INTO cluster_series";
const DELETE_SERIES: &str = "DELETE FROM cluster_series";
const INSERT_CLAIM: &str = "INSERT INTO bootstrap_claims";
const DELETE_CLAIM: &str = "DELETE FROM bootstrap_claims";

#[test]
fn every_way_through_the_gate_is_tried_and_leaves_nothing() {
    let (server, node) = cluster();
    let claim =
        format!("INSERT INTO shakenfist.bootstrap_claims VALUES ('network', '{OWN}', 'm', 0);");
    let own = |role, series| row(OWN, role, series);
    let others = row("h1", "hypervisor", "0.7");
    let cases: [(&str, &str, String, &str, &[&str]); 7] = [
        (
            "a new node joins",
            "hypervisor",
            series(0, "0.8", "0.7"),
            "join",
            &[INSERT_ROW, UPDATE_ROW],
        ),
        (
            "the last node leaves its series for the other one",
            "hypervisor",
            series(0, "0.8", "0.7") + &series(1, "0.7", "0.6") + &own("hypervisor", "0.7"),
            "join",
            &[UPDATE_ROW, DELETE_SERIES, UPDATE_ROW],
        ),
        (
            "a network node claims its role",
            "network",
            series(0, "0.8", "0.7"),
            "join",
            &[INSERT_ROW, INSERT_CLAIM, UPDATE_ROW],
        ),
        (
            "and keeps it",
            "network",
            series(0, "0.8", "0.7") + &own("network", "0.8") + &claim,
            "join",
            &[UPDATE_ROW, DELETE_CLAIM, INSERT_CLAIM, UPDATE_ROW],
        ),
        (
            "or gives it up",
            "hypervisor",
            series(0, "0.8", "0.7") + &own("network", "0.8") + &claim,
            "join",
            &[UPDATE_ROW, DELETE_CLAIM, UPDATE_ROW],
        ),
        (
            "a node introduces its series",
            "hypervisor",
            series(0, "0.7", "0.6") + &others,
            "introduce",
            // By way of the series that is there.
            &[INSERT_ROW, INSERT_SERIES, UPDATE_ROW, UPDATE_ROW],
        ),
        (
            "in the place of one that it was the last to run",
            "hypervisor",
            series(0, "0.7", "0.6")
                + &series(1, "0.6", "0.5")
                + &others
                + &own("hypervisor", "0.6"),
            "introduce",
            &[
                UPDATE_ROW,
                DELETE_SERIES,
                INSERT_SERIES,
                UPDATE_ROW,
                // By whoever passes, what nobody ran when it decided.
                DELETE_SERIES,
                UPDATE_ROW,
            ],
        ),
    ];
    for (what, role, rows, decision, expected) in cases {
        server.sql(&format!("{WIPE}{rows}"));
        let before = server.dump();
        record(&server);
        let ran = at_desk(&node, &["check", "--json", "--role", role]);
        assert_eq!(ran.code, 0, "{what}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(rolled_back(&server), expected, "{what}");
        assert_eq!(server.dump(), before, "{what}");
        assert_eq!(part(&ran, "gate")["rehearsed"], true, "{what}");
        assert_eq!(
            json(&ran)["forecast"]["gate"]["decision"],
            decision,
            "{what}"
        );
    }
}

/// The whole first boot of a cluster whose tables are there: the passage finds
/// what the bootstrap has established, in the same transaction.
#[test]
fn the_passage_is_tried_behind_the_bootstrap() {
    let (server, node) = cluster();
    server.sql(&format!(
        "{WIPE} DELETE FROM shakenfist.bootstrap_operations; DELETE FROM shakenfist.cluster_config; \
         DELETE FROM shakenfist.namespace_keys; DELETE FROM shakenfist.namespaces;"
    ));
    let before = server.dump();
    record(&server);
    let ran = at_desk(&node, &["check", "--role", "single-node"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let writes = rolled_back(&server);
    assert!(
        writes.ends_with(&[INSERT_ROW, INSERT_CLAIM, UPDATE_ROW].map(str::to_owned)),
        "{writes:?}"
    );
    assert_eq!(server.dump(), before);
    for told in [
        "gate       join series 0.8, the cluster's first",
        "\nRehearsed and rolled back: the bootstrap.\nRehearsed and rolled back: the gate's passage.\n",
    ] {
        assert!(ran.stdout.contains(told), "{told} not in {}", ran.stdout);
    }
}

#[test]
fn a_node_that_would_be_refused_tries_nothing_and_hears_by_what() {
    let (server, node) = cluster();
    let claim = "INSERT INTO shakenfist.bootstrap_claims VALUES ('network', 'net1', 'm', 0);";
    for (role, rows, code) in [
        ("hypervisor", series(0, "0.5", "0.4"), "SF-GATE-VERSION"),
        ("network", series(0, "0.8", "0.7") + claim, "SF-CLAIM-HELD"),
        ("database-tier", series(0, "0.5", "0.4"), "SF-GATE-VERSION"),
    ] {
        server.sql(&format!("{WIPE}{rows}"));
        let before = server.dump();
        record(&server);
        let ran = at_desk(&node, &["check", "--json", "--role", role]);
        assert_eq!((ran.code, &json(&ran)["code"]), (77, &code.into()));
        assert_eq!(rolled_back(&server), [""; 0]);
        assert_eq!(server.dump(), before);
        let why = format!("not rehearsed: the gate refuses this node ({code})");
        assert_eq!(part(&ran, "gate")["why"], why);
    }
    // Another machine under this name, on the node itself.
    server.sql(&format!(
        "{WIPE}{}{}",
        series(0, "0.8", "0.7"),
        row(OWN, "hypervisor", "0.8")
    ));
    let ran = node.agent(&["check"]);
    assert_eq!(ran.code, 77, "{}", ran.stdout);
    let told = "Not rehearsed: the gate's passage (the gate refuses this node (SF-NODE-CLONE)).";
    assert!(ran.stdout.contains(told), "{}", ran.stdout);
}

/// What no reading of the tables tells.
#[test]
fn what_only_the_statements_find_is_found() {
    let (server, node) = cluster();
    server.sql(
        "ALTER TABLE shakenfist.bootstrap_nodes ADD CONSTRAINT odd CHECK (role <> 'network');",
    );
    let before = server.dump();
    let ran = at_desk(&node, &["check", "--json", "--role", "network"]);
    assert_eq!(ran.code, 78, "{}", ran.stdout);
    assert_eq!(json(&ran)["code"], "SF-DB-SCHEMA");
    assert_eq!(part(&ran, "gate")["why"], "SF-DB-SCHEMA");
    assert_eq!(at_desk(&node, &["check", "--role", "hypervisor"]).code, 0);
    assert_eq!(server.dump(), before);
}
