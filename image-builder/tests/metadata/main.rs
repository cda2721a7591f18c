//! `sf-image metadata new | check | seal` as people call it, with real
//! systemd-creds and mtools. No secret comes out anywhere but in the artefacts
//! that are meant to hold it.

mod desk;
mod seal;

use std::os::unix::fs::PermissionsExt as _;

use desk::{Desk, NODE, mcopy};
use fs_err as fs;
use serde_json::Value;

#[test]
fn a_template_is_refused_until_it_is_filled_in() {
    let desk = Desk::new();
    let new = "new --profile database-tier --node db1.example.com --output node.toml";
    let ran = desk.run(new);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "node.toml\n"),
        "{}",
        ran.stderr
    );
    let path = desk.path("node.toml");
    let mode = fs::metadata(&path).expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = desk.run(new);
    assert_eq!(again.code, 64);
    assert!(
        again.stderr.contains("--force replaces it"),
        "{}",
        again.stderr
    );
    assert_eq!(desk.run(&format!("{new} --force")).code, 0);

    let unfilled = desk.run("check node.toml --profile database-tier");
    assert_eq!(unfilled.code, 78);
    assert_eq!(unfilled.stdout, "");
    for part in [
        "dsn: is still the template's \"<fill in>\"",
        "help: write a string, { credential = \"name\" } or { file = \"/path\" }",
        "--> node.toml:",
        "is not right for a node of role database-tier, release 0.7: 7 problems",
    ] {
        assert!(
            unfilled.stderr.contains(part),
            "{part}\n{}",
            unfilled.stderr
        );
    }
    let mut text = fs::read_to_string(&path).expect("read");
    for (key, value) in [
        ("mesh.address", "10.0.0.1"),
        ("mesh.interface", "eth1"),
        ("egress.address", "192.0.2.1"),
        ("egress.interface", "eth0"),
        ("network_node", "10.0.0.2"),
        ("dsn", "mysql://sf:c4n4rydsn@db.example.com/sf"),
        ("ETCD_HOST", "10.0.0.5"),
    ] {
        let line = format!("\n{key} = \"<fill in>\"");
        assert!(text.contains(&line), "{key}");
        text = text.replace(&line, &format!("\n{key} = \"{value}\""));
    }
    fs::write(&path, &text).expect("write");
    let filled = desk.run("check node.toml --profile database-tier");
    assert_eq!(filled.code, 0, "{}", filled.stderr);
    assert!(
        filled
            .stdout
            .starts_with("node.toml is right for a node of role database-tier, release 0.7\n"),
        "{}",
        filled.stdout
    );
    assert!(
        filled.stdout.contains("warning: SF-META-UNLIKELY"),
        "{}",
        filled.stdout
    );
}

#[test]
fn every_profile_has_a_template_and_wrong_names_are_told() {
    let desk = Desk::new();
    for profile in ["hypervisor", "network", "database-tier"] {
        let ran = desk.run(&format!("new --profile {profile} --release develop"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stdout.contains("\nname = \"<fill in>\"\n"),
            "{}",
            ran.stdout
        );
    }
    for (args, part) in [
        ("new --profile web", "there are: database-tier, hypervisor"),
        (
            "new --profile network --release 9",
            "there are: 0.7, develop",
        ),
        ("new --profile network --node HV1", "write \"hv1\""),
    ] {
        let ran = desk.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{args}");
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn check_merges_like_drop_ins_and_says_what_it_cannot_see() {
    let desk = Desk::new();
    desk.file("a.toml", NODE);
    desk.file("b.toml", "schema = 1\n[node]\nname = \"DB2\"\n");
    let (code, json) = desk.json("check b.toml a.toml --profile database-tier --json");
    assert_eq!((code, &json["ok"]), (0, &Value::Bool(true)), "{json:#}");
    assert_eq!(json["not_judged"][0]["field"], "secrets.auth_secret_seed");
    assert_eq!(json["not_judged"][0]["value"], "credential \"sf.seed\"");
    let (code, json) = desk.json("check a.toml b.toml --profile database-tier --json");
    assert_eq!((code, &json["exit_code"]), (78, &Value::from(78)));
    assert_eq!(json["problems"][0]["code"], "SF-META-INVALID");
    assert_eq!(json["problems"][0]["source"], "b.toml:3");
    assert_eq!(json["problems"][0]["hint"], "write \"db2\"");
}

#[test]
fn without_a_profile_each_role_is_told_apart() {
    let desk = Desk::new();
    desk.file("a.toml", &NODE.replace("network_node = \"10.0.0.2\"\n", ""));
    let ran = desk.run("check a.toml --release develop");
    assert_eq!(ran.code, 78, "{}", ran.stdout);
    assert!(
        ran.stderr
            .contains("cluster.database_nodes: missing: no node can do without it"),
        "{}",
        ran.stderr
    );
    desk.file("b.toml", "schema = 1\ncluster.database_nodes = [\"10.0.0.1\"]\ncluster.network_node = \"10.0.0.2\"\n");
    let ran = desk.run("check a.toml b.toml --release develop");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("fits a node of role network\n"),
        "{}",
        ran.stdout
    );
}

#[test]
fn no_mistake_in_or_beside_a_secret_shows_it() {
    let desk = Desk::new();
    for (name, broken) in [
        (
            "syntax",
            NODE.replace("[secrets]", "[secrets\nc4n4ry = c4n4ry\nc4n4ry"),
        ),
        ("open", NODE.replace("c4n4ry\\\"key\\\\x\"", "c4n4ry")),
        ("type", NODE.replace("\"mysql://", "\"c4n4ry mysql//")),
        (
            "unknown",
            NODE.replace("[config]", "[config]\nX_PASSWORD = \"c4n4ry'c4n4ry\""),
        ),
        ("key", NODE.replace("system_key =", "system_kee =")),
        (
            "table",
            NODE.replace("dsn = ", "dsn = { credentail = \"c4n4ry\" }\nwait = "),
        ),
    ] {
        desk.file("x.toml", &broken);
        for args in [
            "check x.toml",
            "check x.toml --json",
            "seal x.toml --output-dir out",
        ] {
            let ran = desk.run(args);
            assert_eq!(ran.code, 78, "{name}: {}{}", ran.stdout, ran.stderr);
        }
    }
    assert!(!desk.path("out").exists());
    fs::write(
        desk.path("x.toml"),
        [&b"c4n4ry\n\xff"[..], NODE.as_bytes()].concat(),
    )
    .expect("write");
    let ran = desk.run("check x.toml");
    assert_eq!(ran.code, 78);
    assert!(ran.stderr.contains("line 2"), "{}", ran.stderr);
    assert_eq!(desk.run("check nowhere.toml").code, 69);
}

#[test]
fn what_no_node_would_take_is_refused_at_the_desk() {
    let desk = Desk::new();
    for (reference, part) in [
        ("{ file = \"keys/system\" }", "not an absolute path"),
        ("{ credential = \"a/b\" }", "is not a credential's name"),
        ("{ credential = \"..\" }", "is not a credential's name"),
        ("{ credential = \"\" }", "is not a credential's name"),
    ] {
        desk.file(
            "node.toml",
            &NODE.replace("{ credential = \"sf.seed\" }", reference),
        );
        for args in [
            "check node.toml",
            "check node.toml --profile database-tier",
            "seal node.toml --output-dir out",
        ] {
            let ran = desk.run(args);
            assert_eq!(ran.code, 78, "{reference} {args}\n{}", ran.stdout);
            assert!(ran.stderr.contains(part), "{}", ran.stderr);
            assert!(!ran.stderr.contains("not judged here"), "{}", ran.stderr);
        }
    }
    // Two files that can be read, and one document that could not.
    desk.file("node.toml", NODE);
    for letter in ["A", "B"] {
        let text = "x".repeat(700_000);
        desk.file(
            &format!("{letter}.toml"),
            &format!("schema = 1\nconfig.{letter}_X = \"{text}\"\n"),
        );
    }
    let ran = desk.run("seal node.toml A.toml B.toml --output-dir out");
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("a node reads 1 MiB at most"),
        "{}",
        ran.stderr
    );
    assert!(!desk.path("out").exists());
}

#[test]
fn one_document_serves_several_nodes_that_are_named_at_the_desk() {
    let desk = Desk::new();
    desk.file(
        "cluster.toml",
        &NODE.replace("name = \"db1.example.com\"\n", ""),
    );
    let unnamed = desk.run("seal cluster.toml --output-dir out");
    assert_eq!(unnamed.code, 78);
    assert!(
        unnamed.stderr.contains("node.name: missing"),
        "{}",
        unnamed.stderr
    );
    for node in ["db1.example.com", "db2.example.com"] {
        let ran = desk.run(&format!("seal cluster.toml --output-dir out --node {node}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let user = mcopy(&desk.path(&format!("out/{node}/{node}.img")), "user-data");
        assert!(user.contains(&format!("node.name = \"{node}\"\n")));
    }
}
