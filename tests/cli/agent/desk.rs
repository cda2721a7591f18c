//! The agent at an operator's desk, where there is no image.

use super::node::{Node, Ran};
use super::server::{Server, free_port};

pub(crate) fn at_desk(node: &Node, arguments: &[&str]) -> Ran {
    node.at_desk(arguments)
}

#[test]
fn a_check_rehearses_and_changes_nothing() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let ran = at_desk(&node, &["check", "--role", "database-tier"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("node  addresses"), "{}", ran.stdout);
    assert_eq!(server.dump(), "");
    // By hand, from the same desk.
    let ran = at_desk(&node, &["bootstrap-cluster"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("created    auth-secret-seed"),
        "{}",
        ran.stdout
    );
    let before = server.dump();
    let ran = at_desk(&node, &["bootstrap-cluster", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["created"], serde_json::json!([]));
    assert_eq!(server.dump(), before);
    let ran = at_desk(&node, &["check", "--json", "--role", "database-tier"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["exit_code"], ran.code),
        (&true.into(), &0.into(), 0),
        "{report}"
    );
    let ids: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|check| check["id"].as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "settings",
            "bootstrap-plan",
            "database-daemons",
            "pki",
            "pki-upkeep",
            "identity",
            "disk-space",
            "memory",
            "kvm",
            "addresses",
            "mtu",
            "clock",
            "database",
            "database-upkeep",
            "clock-skew",
            "membership",
            "bootstrap",
            "versions",
            "role-claim",
            "passage",
            "network-node"
        ]
    );
    assert_eq!(server.dump(), before);
}

#[test]
fn all_findings_are_reported_in_one_run() {
    let server = Server::started();
    server.sql("ALTER DATABASE shakenfist CHARACTER SET latin1; REVOKE ALL ON shakenfist.* FROM sf@'%'; GRANT SELECT ON shakenfist.* TO sf@'%';");
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let ran = at_desk(&node, &["check", "--json", "--role", "database-tier"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let codes: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|finding| finding["code"].as_str())
        .collect();
    assert!(
        codes.contains(&"SF-DB-CHARSET") && codes.contains(&"SF-DB-GRANTS"),
        "{codes:?}"
    );
}

#[test]
fn wrong_usage_is_64_and_help_is_data() {
    let node = Node::new("hypervisor");
    for (arguments, code) in [
        (&["check", "--no-such"][..], 64),
        (&[][..], 64),
        (&["check", "--role", "web"], 64),
        (&["explain", "SF-NOPE"], 64),
        (&["explain", "database.dns"], 64),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&["--version"], 0),
        (&["explain", "sf-db-auth"], 0),
        (&["explain", "SF-DB-AUTH", "--json"], 0),
        (&["status"], 69),
    ] {
        let ran = node.agent(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        let data = if code == 0 { &ran.stderr } else { &ran.stdout };
        assert_eq!(data, "", "{arguments:?}");
    }
    let ran = node.agent(&["explain", "database.dns"]);
    assert!(
        ran.stderr.contains("error: ") && ran.stderr.contains("hint: "),
        "{}",
        ran.stderr
    );
    // A warning has no exit code.
    let ran = node.agent(&["explain", "SF-MTU-SMALL"]);
    assert!(ran.stdout.contains("Exit    none"), "{}", ran.stdout);
    // Of a document that is not read, nothing is missed; frames and card are apart.
    node.metadata(1, "");
    node.edit("schema = 1", "schema = 2");
    let ran = at_desk(&node, &["check", "--role", "hypervisor"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(
        ran.stderr.contains(
            "reads schema 1\n\nerror: SF-META-SCHEMA: metadata does not say schema = 1\n"
        ) && !ran.stderr.contains("missing"),
        "{}",
        ran.stderr
    );
}

#[test]
fn each_mistake_is_shown_once() {
    let node = Node::new("hypervisor");
    node.metadata(1, "colour = 1\n");
    node.edit("name = ", "nmae = ");
    let folder = node.root().join("broken");
    std::fs::create_dir(&folder).unwrap();
    let many = format!("--metadata={}", folder.display());
    for (arguments, last) in [
        (
            &["check", "--role", "database-tier"][..],
            "error: SF-META-UNKNOWN-KEY: 3 mistakes in the node metadata, shown above\nhint: ",
        ),
        (
            &["bootstrap-cluster"],
            "error: SF-META-UNKNOWN-KEY: 3 mistakes in the node metadata, shown above\nhint: ",
        ),
        // What has no frame is said below them.
        (
            &["check", "--role", "database-tier", &many],
            "error: SF-META-UNREADABLE: 3 mistakes in the node metadata, shown above\n  caused by: ",
        ),
    ] {
        let ran = at_desk(&node, arguments);
        assert_eq!(ran.code, 78, "{}", ran.stderr);
        assert!(ran.stderr.contains(last), "{last}\n{}", ran.stderr);
        if arguments.first() == Some(&"check") {
            let code = last.split(": ").nth(1).unwrap_or_default();
            let verdict = format!(
                "the node would stop with {code} (exit 78), write nothing and start nothing: 3 \
                 mistakes in the node metadata; the rest was not checked"
            );
            assert_eq!(ran.stdout, format!("{verdict}.\n"));
            let ran = at_desk(&node, &[arguments, &["--json"]].concat());
            let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(json["verdict"], verdict.as_str());
            assert!(json["forecast"].is_null());
        }
        for once in [
            "unknown key \"nmae\"",
            "unknown key \"colour\"",
            "did you mean",
        ] {
            assert_eq!(
                ran.stderr.matches(once).count(),
                1,
                "{once}\n{}",
                ran.stderr
            );
        }
        assert!(
            ran.stderr.matches("caused by").count() <= 1,
            "{}",
            ran.stderr
        );
    }
    // Who reads the JSON has no frames.
    let ran = at_desk(&node, &["check", "--json", "--role", "database-tier"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["findings"][0]["causes"].as_array().unwrap().len(), 3);
}

#[test]
fn explain_says_which_source_won() {
    let node = Node::new("hypervisor");
    node.metadata(3306, "[cluster]\nzone = \"from-credential\"\n");
    let folder = node.root().join("etc/sf");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("metadata.toml"),
        "schema = 1\n[cluster]\nzone = \"from-file\"\n",
    )
    .unwrap();
    // All credentials are in one folder; where to mend this one is said besides.
    let way = node
        .root()
        .join("sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/sf.metadata");
    std::fs::create_dir_all(way).unwrap();
    let ran = node.agent(&["explain", "cluster.zone"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for part in [
        "  came by   fw_cfg of the virtual machine (opt/io.systemd.credentials/sf.metadata)\n",
        "from-credential",
        "credential sf.metadata",
        "/etc/sf/metadata.toml",
    ] {
        assert!(ran.stdout.contains(part), "{part} not in {}", ran.stdout);
    }
    let ran = node.agent(&["explain", "database.dsn"]);
    assert!(
        ran.stdout
            .starts_with("database.dsn = mysql://sf:******@127.0.0.1:3306/shakenfist\n")
            && !ran.stdout.contains(super::server::PASSWORD),
        "{}",
        ran.stdout
    );
}

/// By the system's authorities the desk would foretell a stop that never comes.
#[test]
fn a_database_whose_authority_only_the_node_has_is_not_judged() {
    let mut server = Server::started();
    let ca = server.with_tls();
    let node = Node::new("hypervisor");
    node.metadata(server.port, "");
    node.edit("/shakenfist\"", "/shakenfist?ssl-mode=verify-ca\"");
    let file = |name: &str, text: &str| {
        let path = node.root().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let given = file(
        "given.toml",
        "schema = 1\npki.ca = { credential = \"ca.pem\" }\n",
    );
    let check = ["check", "--role", "hypervisor", "--metadata", &given];
    let ran = at_desk(&node, &check);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for part in [
        "skip  database         not judged here: the authority of its certificate is only on the \
         node (pki.ca is the credential \"ca.pem\"); give a copy with one more --metadata FILE",
        "judge      pki.ca, which only the node has (credential \"ca.pem\")",
        "what it would do cannot be told here, where the authority of the database's certificate \
         is missing. Not judged here: 1 field.",
    ] {
        assert!(ran.stdout.contains(part), "{part} not in {}", ran.stdout);
    }
    let copied = format!("schema = 1\npki.ca = \"\"\"\n{ca}\"\"\"\n");
    let copied = file("copied.toml", &copied);
    let ran = at_desk(&node, &[&check[..], &["--metadata", &copied]].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("ok    database "), "{}", ran.stdout);

    // On the node itself the same path is a mistake.
    node.edit("verify-ca", "verify-ca&ssl-ca=/nonexistent/ca.pem");
    let ran = at_desk(&node, &["check", "--role", "hypervisor"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let part = "(ssl-ca of database.dsn is the file /nonexistent/ca.pem); put a copy at \
                /nonexistent/ca.pem on this machine";
    assert!(ran.stdout.contains(part), "{part} not in {}", ran.stdout);
    let ran = node.agent(&["check"]);
    assert_eq!(ran.code, 78, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("SF-DB-TLS-CA"), "{}", ran.stderr);
}

/// While one host works nobody notices that the others do not.
#[test]
fn every_host_of_the_dsn_is_tried_by_a_check() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let (before, behind) = (free_port(), free_port());
    let at = |port: u16| format!("127.0.0.1:{port}");
    let used = at(server.port);
    node.edit(
        &used,
        &[&at(before), &used, &at(behind)]
            .map(String::as_str)
            .join(","),
    );
    let ran = node.agent(&["check", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let upkeep = checks.iter().find(|check| check["id"] == "database-upkeep");
    let findings = upkeep.unwrap()["findings"].as_array().unwrap();
    for (finding, port) in findings.iter().zip([before, behind]) {
        assert_eq!(finding["code"], "SF-DB-HOST", "{finding}");
        assert_eq!(finding["causes"][0], "SF-DB-REFUSED", "{finding}");
        let what = format!("address {}; {used} is used", at(port));
        assert!(
            finding["what"].as_str().unwrap().ends_with(&what),
            "{finding}"
        );
    }
    assert_eq!(findings.len(), 2);

    // A run needs one, and says whom it left out for it.
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said = format!("the database server {used} is used, for want of another");
    let lines: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.contains(&said))
        .collect();
    assert!(!lines.is_empty(), "{}", ran.stderr);
    for line in lines {
        assert!(
            line.contains("SF-DB-REFUSED") && line.contains(&at(before)),
            "{line}"
        );
    }
    assert!(!ran.stderr.contains(&at(behind)), "{}", ran.stderr);
}
