//! Releases that make their tables with a command of their own: the agent runs
//! it, on one node at a time, and believes only what it reads back.

use super::forecast::json;
use super::maker::{DEVELOP, WAIT, checked, manifest, node, run, runs, sf_ctl, wait_for, write};
use super::node::{Node, SEED, SYSTEM_KEY};
use super::server::{PASSWORD, Server};

const CLAIM: &str = "SELECT fqdn FROM shakenfist.bootstrap_claims WHERE role = 'schema'";

#[test]
fn the_command_makes_the_tables_once_with_the_databases_credentials_alone() {
    let server = Server::started();
    let node = node(server.port, "db1.example.com");
    // The check says what the run is going to do, and does not do it.
    let check = node.agent(&["check"]);
    assert_eq!(check.code, 0, "{}", check.stderr);
    assert!(
        check.stdout.contains("sf-ctl ensure-mariadb-schema first"),
        "{}",
        check.stdout
    );
    let command = "/usr/lib/shakenfist/bin/sf-ctl ensure-mariadb-schema";
    for part in [
        format!("  run        {command}\n"),
        format!("db1.example.com would run {command}, bootstrap the cluster ("),
    ] {
        assert!(check.stdout.contains(&part), "{}", check.stdout);
    }
    let foretold = |node: &Node| json(&node.agent(&["check", "--json"]))["forecast"].clone();
    assert_eq!(foretold(&node)["command"], command);
    assert_eq!((runs(&node), server.dump().as_str()), (0, ""));

    let ran = run(&node, 0);
    assert!(foretold(&node)["command"].is_null());
    assert_eq!(node.read("sf-ctl.log"), "ensure-mariadb-schema\n");
    assert!(
        ran.stderr.contains("read back as expected"),
        "{}",
        ran.stderr
    );
    assert_eq!(server.sql(CLAIM), "");
    let environment = node.read("sf-ctl.env");
    for line in environment.lines() {
        let key = line.split('=').next().unwrap();
        let known = ["PATH", "LANG", "PWD", "SHLVL", "_"].contains(&key);
        assert!(known || key.starts_with("SHAKENFIST_"), "{line}");
    }
    assert!(environment.contains(&format!("SHAKENFIST_MARIADB_PASSWORD={PASSWORD}\n")));
    assert!(!environment.contains(SEED) && !environment.contains(SYSTEM_KEY));

    // Another image with the same tables has nothing to make.
    manifest(&node, "0.8.0-1", "0.8.0-2");
    run(&node, 0);
    assert_eq!(runs(&node), 1);

    // Older tables are migrated.
    manifest(&node, "0.8.0-2", "0.8.1-1");
    manifest(&node, "\"namespaces\":2", "\"namespaces\":3");
    sf_ctl(
        &node,
        "",
        "UPDATE schema_versions SET version = 3 WHERE table_name = 'namespaces'",
    );
    run(&node, 0);
    assert_eq!(runs(&node), 2);
    // Newer ones are nobody's to change.
    manifest(&node, "0.8.1-1", "0.8.1-2");
    manifest(&node, "\"namespaces\":3", "\"namespaces\":2");
    let ran = run(&node, 77);
    assert!(ran.stderr.contains("SF-DB-SCHEMA-NEW"), "{}", ran.stderr);
    assert_eq!(runs(&node), 2);
}

#[test]
fn of_two_nodes_one_makes_the_tables_and_the_other_says_for_whom_it_waits() {
    let server = Server::started();
    let (one, other) = (
        node(server.port, "db1.example.com"),
        node(server.port, "db22.example.com"),
    );
    sf_ctl(&one, WAIT, DEVELOP);
    let first = one.start(&["run"]);
    wait_for("the command does not start", || runs(&one) == 1);
    let second = other.start(&["run"]);
    wait_for("the second node does not wait", || {
        std::fs::read_to_string(second.1.join("stderr"))
            .is_ok_and(|text| text.contains("db1.example.com makes the release's tables"))
    });
    let status = other.agent(&["cluster", "status"]);
    let line = "schema     being made by db1.example.com since ";
    assert!(status.stdout.contains(line), "{}", status.stdout);
    write(&one, "go", "");
    checked(&one, Node::end(first), 0);
    checked(&other, Node::end(second), 0);
    assert_eq!((runs(&one), runs(&other)), (1, 0));
    assert_eq!(server.sql(CLAIM), "");
}

/// However they cross: the row's key lets one of them through.
#[test]
fn of_many_nodes_at_once_one_runs_the_command() {
    let server = Server::started();
    let nodes = ["a.example", "bb.example", "ccc.example", "dddd.example"]
        .map(|fqdn| node(server.port, fqdn));
    let running = nodes.each_ref().map(|node| node.start(&["run"]));
    for (node, running) in nodes.iter().zip(running) {
        checked(node, Node::end(running), 0);
    }
    assert_eq!(nodes.iter().map(runs).sum::<usize>(), 1);
    assert_eq!(server.sql(CLAIM), "");
}

#[test]
fn a_killed_holder_goes_on_and_nobody_else_does_without_an_operator() {
    let server = Server::started();
    let (one, other) = (
        node(server.port, "db1.example.com"),
        node(server.port, "db22.example.com"),
    );
    let half = "CREATE TABLE IF NOT EXISTS namespaces (name varchar(255) NOT NULL PRIMARY KEY, version int NOT NULL)";
    let killed = || {
        let before = runs(&one);
        sf_ctl(&one, WAIT, half);
        let (mut child, _) = one.start(&["run"]);
        wait_for("the command does not start", || runs(&one) > before);
        child.kill().unwrap();
    };
    killed();
    assert_eq!(server.sql(CLAIM), "db1.example.com");
    other.edit("wait = \"20s\"", "wait = \"2s\"");
    let ran = run(&other, 75);
    assert!(ran.stderr.contains("SF-SCHEMA-HELD"), "{}", ran.stderr);
    assert_eq!(runs(&other), 0);

    // The same machine again, killed again, and then to the end.
    killed();
    let finished = format!("DROP TABLE IF EXISTS namespaces; {DEVELOP}");
    sf_ctl(&one, "", &finished);
    let ran = run(&one, 0);
    assert!(
        ran.stderr.contains("again after an interruption"),
        "{}",
        ran.stderr
    );
    assert_eq!((runs(&one), server.sql(CLAIM)), (3, String::new()));

    // A row that a dead node has left, and the way out.
    server.sql(
        "USE shakenfist; UPDATE schema_versions SET version = 3 WHERE table_name = 'nodes'; \
         INSERT INTO bootstrap_claims VALUES ('schema', 'db9.example.com', 'x', 1767225600)",
    );
    run(&other, 75);
    let freed = other.agent(&["cluster", "release-claim", "schema", "--yes"]);
    assert_eq!(freed.code, 0, "{}", freed.stderr);
    assert!(
        freed.stdout.contains("db9.example.com held it"),
        "{}",
        freed.stdout
    );
    sf_ctl(
        &other,
        "",
        "UPDATE schema_versions SET version = 4 WHERE table_name = 'nodes'",
    );
    run(&other, 0);
    assert_eq!((runs(&other), server.sql(CLAIM)), (1, String::new()));
}

#[test]
fn what_the_command_says_of_itself_is_not_believed() {
    let server = Server::started();
    let node = node(server.port, "db1.example.com");
    sf_ctl(&node, "", "SELECT 1");
    let ran = run(&node, 69);
    for part in [
        "SF-SCHEMA-COMMAND",
        "ended without an error",
        "lacks tables",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert_eq!(server.sql(CLAIM), "", "it has ended: another node may try");
    sf_ctl(
        &node,
        "echo \"no such column, said $SHAKENFIST_MARIADB_PASSWORD\" >&2; exit 3",
        "",
    );
    let ran = run(&node, 69);
    for part in [
        "SF-SCHEMA-COMMAND",
        "exit code 3",
        "no such column, said ***",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    // Some versions are right, and one is not.
    sf_ctl(&node, "", &DEVELOP.replace("('nodes', 4", "('nodes', 3"));
    let ran = run(&node, 69);
    assert!(
        ran.stderr.contains("nodes is 3, expected 4"),
        "{}",
        ran.stderr
    );

    // By hand, on the node itself; elsewhere there is no such command to run.
    sf_ctl(
        &node,
        "",
        "UPDATE schema_versions SET version = 4 WHERE table_name = 'nodes'",
    );
    let by_hand = node.agent(&["bootstrap-cluster"]);
    checked(&node, by_hand, 0);
    assert_eq!((runs(&node), server.sql(CLAIM)), (4, String::new()));
}

/// `bootstrap.mode` says who makes the tables, not which ones the daemons start on.
#[test]
fn a_node_that_leaves_the_tables_to_others_starts_on_no_others_than_its_own() {
    let server = Server::started();
    let (one, other) = (
        node(server.port, "db1.example.com"),
        node(server.port, "db22.example.com"),
    );
    other.edit("[secrets]", "[bootstrap]\nmode = \"wait\"\n[secrets]");
    // Its image expects newer tables than those that come while it waits.
    manifest(&other, "\"namespaces\":2", "\"namespaces\":3");
    let waiting = other.start(&["run"]);
    wait_for("the node waits for the bootstrap", || {
        other
            .read("run/sf-firstboot/status.json")
            .contains("waiting for a database-tier node to bootstrap")
    });
    run(&one, 0);
    let ran = checked(&other, Node::end(waiting), 75);
    assert!(ran.stderr.contains("SF-DB-SCHEMA-OLD"), "{}", ran.stderr);
    let ran = run(&other, 75);
    assert!(ran.stderr.contains("SF-DB-SCHEMA-OLD"), "{}", ran.stderr);
    assert!(!other.read("systemctl.log").contains("start"));

    // Older ones than it finds: refused, and seen from everywhere.
    manifest(&other, "\"namespaces\":3", "\"namespaces\":1");
    for mode in ["wait", "require"] {
        other.edit("mode = \"wait\"", &format!("mode = \"{mode}\""));
        let ran = run(&other, 77);
        assert!(ran.stderr.contains("SF-DB-SCHEMA-NEW"), "{}", ran.stderr);
    }
    assert!(!other.read("systemctl.log").contains("start"));
    let status = one.agent(&["cluster", "status"]).stdout;
    let line = status.lines().find(|line| line.contains("db22"));
    assert!(
        line.is_some_and(|line| line.contains("SF-DB-SCHEMA-NEW")),
        "{status}"
    );
    // Nor by hand, where the mode does not count.
    let by_hand = other.agent(&["bootstrap-cluster"]);
    let ran = checked(&other, by_hand, 77);
    assert!(ran.stderr.contains("SF-DB-SCHEMA-NEW"), "{}", ran.stderr);

    // By hand it makes them, too.
    manifest(&other, "\"namespaces\":1", "\"namespaces\":3");
    sf_ctl(
        &other,
        "",
        "UPDATE schema_versions SET version = 3 WHERE table_name = 'namespaces'",
    );
    let by_hand = other.agent(&["bootstrap-cluster"]);
    checked(&other, by_hand, 0);
    run(&other, 0);
    assert_eq!((runs(&one), runs(&other)), (1, 1));
}

#[test]
fn nothing_is_migrated_under_another_release_or_for_an_image_that_is_refused() {
    let server = Server::started();
    let node = node(server.port, "db1.example.com");
    run(&node, 0);
    server.sql(
        "USE shakenfist; UPDATE schema_versions SET version = 1 WHERE table_name = 'namespaces'; \
         INSERT INTO bootstrap_nodes (fqdn, role, series, release_version, image_version, \
         instance_id, phase, last_boot) VALUES \
         ('db2.example.com', 'database-tier', '0.8', '0.8.0', '0.8.0-1', 'x', 'start', 1), \
         ('hv1.example.com', 'hypervisor', '0.8', '0.8.0', '0.8.0-1', 'y', 'start', 1)",
    );
    manifest(&node, "0.8.0\"", "0.8.1\"");
    manifest(&node, "0.8.0-1", "0.8.1-1");
    sf_ctl(
        &node,
        "",
        "UPDATE schema_versions SET version = 2 WHERE table_name = 'namespaces'",
    );
    let ran = run(&node, 75);
    assert!(ran.stderr.contains("SF-SCHEMA-NODES"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("another one: db2.example.com (0.8.0)"),
        "{}",
        ran.stderr
    );
    assert_eq!(runs(&node), 1);
    // This node has left the trace by which the other one would not wait for it.
    let release =
        "SELECT release_version FROM shakenfist.bootstrap_nodes WHERE fqdn = 'db1.example.com'";
    assert_eq!(server.sql(release), "0.8.1");

    manifest(&node, "\"series\":\"0.8\"", "\"series\":\"0.12\"");
    manifest(&node, "\"predecessor\":\"0.7\"", "\"predecessor\":\"0.11\"");
    server.sql("UPDATE shakenfist.bootstrap_nodes SET release_version = '0.8.1'");
    let ran = run(&node, 77);
    assert!(ran.stderr.contains("SF-GATE-VERSION"), "{}", ran.stderr);
    assert_eq!(runs(&node), 1);

    manifest(&node, "\"series\":\"0.12\"", "\"series\":\"0.8\"");
    manifest(&node, "\"predecessor\":\"0.11\"", "\"predecessor\":\"0.7\"");
    run(&node, 0);
    assert_eq!(runs(&node), 2);
}
