//! What an operator meets at a desk: commands to paste, pipes, JSON.

use std::time::Duration;

use serde_json::Value;
use sf_command::{Child, Cmd, Sink};

use super::node::{Node, Ran, SYSTEM_KEY};
use super::server::{PASSWORD, Server};

const RELEASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/release.toml");

/// A desk: an empty folder for a root, and files.
struct Desk {
    folder: tempfile::TempDir,
    node: Node,
}

impl Desk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            node: Node::new("hypervisor"),
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.node.root().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Metadata of a hypervisor.
    fn metadata(&self, name: &str, port: u16) -> String {
        self.node.metadata(port, "");
        let text = self.node.read("run/credentials/@system/sf.metadata");
        self.file(name, &text)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let ran = Node::end(self.node.start_at(self.folder.path(), arguments));
        assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD));
        ran
    }

    /// With standard output somewhere else.
    fn to(&self, sink: Sink, arguments: &[&str]) -> (Child, std::path::PathBuf) {
        let errors = self.node.root().join("errors");
        let child = Cmd::path(env!("CARGO_BIN_EXE_sf-firstboot"))
            .arg("--root")
            .arg(self.folder.path())
            .args(arguments)
            .stdout(sink)
            .stderr(Sink::File(errors.clone()))
            .spawn()
            .unwrap();
        (child, errors)
    }
}

/// The command after `next: `, as words.
fn next(ran: &Ran) -> Vec<&str> {
    let line = ran
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("next: "));
    let line = line.unwrap_or_else(|| panic!("nothing is offered: {}", ran.stderr));
    line.strip_prefix("sf-firstboot ")
        .unwrap_or_else(|| panic!("{line}"))
        .split(' ')
        .collect()
}

#[test]
fn what_is_offered_next_works_when_it_is_pasted() {
    let desk = Desk::new();
    let good = desk.metadata("good.toml", 1);
    // The database is down: check again.
    let check = [
        "check",
        "--release-descriptor",
        RELEASE,
        "--role",
        "hypervisor",
    ];
    let mut first = check.to_vec();
    first.extend(["--metadata", &good]);
    let ran = desk.run(&first);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let offered = next(&ran);
    assert_eq!(offered[0], "check");
    let again = desk.run(&offered);
    assert_eq!((again.code, again.stdout), (75, ran.stdout));
    // A value is wrong: explain it, of this file.
    let text = std::fs::read_to_string(&good).unwrap();
    let bad = desk.file("bad.toml", &text.replace("node5.example.com", "Node 5"));
    let mut first = check.to_vec();
    first.extend(["--metadata", &bad]);
    let ran = desk.run(&first);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let explained = desk.run(&next(&ran));
    assert_eq!(explained.code, 0, "{}", explained.stderr);
    assert!(
        explained.stdout.starts_with("node.name = \"Node 5\"\n"),
        "{}",
        explained.stdout
    );
    // A field is mistyped.
    let ran = desk.run(&["explain", "node.nmae", "--metadata", &good]);
    assert_eq!(ran.code, 64);
    assert_eq!(next(&ran), ["explain", "node.name", "--metadata", &good]);
    assert_eq!(desk.run(&next(&ran)).code, 0);
    // Without its table.
    for (field, near) in [("zone", "cluster.zone"), ("ETCD_HOST", "config")] {
        let ran = desk.run(&["explain", field, "--metadata", &good]);
        assert_eq!(next(&ran)[..2], ["explain", near], "{}", ran.stderr);
        assert_eq!(desk.run(&next(&ran)).code, 0, "{near}");
    }
    // The role that the bootstrap by hand assumes is said.
    let ran = desk.run(&[
        "bootstrap-cluster",
        "--metadata",
        &bad,
        "--release-descriptor",
        RELEASE,
    ]);
    let offered = next(&ran);
    assert_eq!(offered[0], "check", "{}", ran.stderr);
    assert!(
        offered.ends_with(&["--role", "database-tier"]),
        "{offered:?}"
    );
}

#[test]
fn what_to_grant_is_said_for_this_account_role_and_release() {
    let server = Server::started();
    server.sql(&format!(
        "DROP DATABASE shakenfist; DROP USER sf@'%'; \
         CREATE USER sf@'127.0.0.%' IDENTIFIED BY '{PASSWORD}'"
    ));
    let desk = Desk::new();
    let metadata = desk.metadata("node.toml", server.port);
    let options = [
        "--metadata",
        &metadata,
        "--release-descriptor",
        RELEASE,
        "--role",
        "network",
    ];
    let mut check = vec!["check", "--json"];
    check.extend(options);
    let checked = || {
        let ran = desk.run(&check);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let finding = report["findings"][0].clone();
        let remedy = finding["remedy"].as_str().unwrap_or_default().to_owned();
        (finding["code"].clone(), remedy)
    };
    let (code, remedy) = checked();
    assert_eq!(code, "SF-DB-GRANTS");
    let said = format!(
        "`sf-firstboot grants --release-descriptor {RELEASE} --role network --database 'shakenfist' --user 'sf' --host '127.0.0.%'` prints."
    );
    assert!(remedy.contains(&said), "{said} not in {remedy}");
    // To look at the fleet takes another user.
    let ran = desk.run(&["cluster", "status", "--metadata", &metadata]);
    assert!(
        ran.stderr.contains(
            "`sf-firstboot grants --operator --database 'shakenfist' --user 'sf' --host '127.0.0.%'` prints."
        ),
        "{}",
        ran.stderr
    );
    // Whoever the server does not know at all is not told of roles either.
    let text = std::fs::read_to_string(&metadata).unwrap();
    let stranger = desk.file("stranger.toml", &text.replace("mysql://sf:", "mysql://me:"));
    let ran = desk.run(&["cluster", "status", "--metadata", &stranger]);
    let said = "CREATE USER 'me'@'HOST' IDENTIFIED BY 'PASSWORD'; then run there what \
                `sf-firstboot grants --operator --database 'shakenfist' --user 'me' --host 'HOST'` prints.";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    // As pasted, it lets the node in; what is left is the bootstrap.
    super::privileges::paste(&server, &remedy, |words| desk.run(words));
    let (code, remedy) = checked();
    assert_ne!(code, "SF-DB-GRANTS", "{remedy}");
    assert!(!code.as_str().unwrap_or_default().starts_with("SF-DB-"));
}

#[test]
fn grants_are_for_the_user_that_the_examples_name() {
    let desk = Desk::new();
    for (whom, user) in [
        (&["--role", "hypervisor"][..], "TO 'sf'@'%';"),
        (&["--role", "database-tier"], "TO 'sf'@'%';"),
        (&["--operator"], "TO 'sf-operator'@'%';"),
        (&["--operator", "--user", "me"], "TO 'me'@'%';"),
    ] {
        let mut all = vec!["grants"];
        all.extend(whom);
        let ran = desk.run(&all);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let grants = || ran.stdout.lines().filter(|line| line.starts_with("GRANT"));
        assert!(
            grants().count() > 0 && grants().all(|line| line.ends_with(user)),
            "{whom:?}: {}",
            ran.stdout
        );
    }
}

#[test]
fn half_an_answer_is_a_failure_and_a_reader_that_left_is_none() {
    let desk = Desk::new();
    for arguments in [
        &["grants", "--operator"][..],
        &["explain"],
        &["explain", "SF-DB-AUTH", "--json"],
    ] {
        let (mut child, errors) = desk.to(Sink::File("/dev/full".into()), arguments);
        let status = child.wait().unwrap();
        let said = std::fs::read_to_string(errors).unwrap();
        assert_eq!(status.code(), Some(69), "{arguments:?}: {said}");
        assert!(said.contains("SF-OUTPUT"), "{said}");
        let (mut child, errors) = desk.to(Sink::Pipe, arguments);
        drop(child.take_stdout());
        let status = child.wait().unwrap();
        let said = std::fs::read_to_string(errors).unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}: {said}");
    }
}

#[test]
fn a_watch_ends_with_its_reader() {
    let desk = Desk::new();
    let dsn = desk.file("dsn", "mysql://sf:x@127.0.0.1:1/shakenfist\n");
    let (mut child, _) = desk.to(
        Sink::Pipe,
        &["cluster", "status", "--watch", "--database-file", &dsn],
    );
    let mut reader = child.take_stdout().unwrap();
    let mut first = [0; 20];
    std::io::Read::read_exact(&mut reader, &mut first).unwrap();
    // From now on nothing changes, so nothing is written.
    drop(reader);
    let status = child.wait_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(status.expect("it goes on for nobody").code(), Some(0));
}

#[test]
fn explain_does_not_pass_over_what_it_cannot_read() {
    let desk = Desk::new();
    let typed = desk.file(
        "typed.toml",
        "schema = 1\nnode.name = 5\nnode.mesh = 1\ncluster.zone = \"z\"\n",
    );
    let missing = desk.node.root().join("nowhere.toml").display().to_string();
    for (topic, file, code) in [
        ("node.name", &typed, "SF-META-INVALID"),
        ("node.mesh.address", &typed, "SF-META-INVALID"),
        ("cluster.zone", &missing, "SF-META-UNREADABLE"),
    ] {
        let ran = desk.run(&["explain", topic, "--metadata", file]);
        assert_eq!(ran.code, 78, "{topic}: {}", ran.stdout);
        assert!(ran.stderr.contains(code), "{topic}: {}", ran.stderr);
        assert!(ran.stdout.contains("is not set"), "{}", ran.stdout);
        let ran = desk.run(&["explain", topic, "--json", "--metadata", file]);
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(json["findings"][0]["code"], code);
        assert_eq!(
            (&json["ok"], &json["exit_code"]),
            (&false.into(), &78.into())
        );
    }
    // Of other fields it says what is known.
    let ran = desk.run(&["explain", "cluster.zone", "--metadata", &typed]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn with_json_a_failure_is_an_object_too() {
    let desk = Desk::new();
    let down = desk.metadata("down.toml", 1);
    let release = ["--release-descriptor", RELEASE];
    for (arguments, code) in [
        (vec!["status"], "SF-STATUS-ABSENT"),
        (vec!["explain", "SF-NOPE"], "SF-USAGE"),
        (vec!["explain", "no.field"], "SF-USAGE"),
        (
            vec!["cluster", "status", "--metadata", &down],
            "SF-DB-REFUSED",
        ),
        (
            vec!["cluster", "status", "--metadata", "/nowhere"],
            "SF-META-UNREADABLE",
        ),
        (vec!["check", "--metadata", &down], "SF-IMAGE-RELEASE"),
        (
            vec!["bootstrap-cluster", "--metadata", &down],
            "SF-IMAGE-RELEASE",
        ),
        (
            vec![
                "bootstrap-cluster",
                "--metadata",
                "/nowhere",
                release[0],
                release[1],
            ],
            "SF-META-UNREADABLE",
        ),
    ] {
        let mut arguments = arguments.clone();
        arguments.push("--json");
        let ran = desk.run(&arguments);
        let json: Value = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {:?}", ran.stdout));
        assert_eq!(json["schema"], 1, "{arguments:?}");
        assert_eq!(json["ok"], false, "{arguments:?}");
        assert_eq!(json["exit_code"], ran.code, "{arguments:?}");
        assert_eq!(json["code"], code, "{arguments:?}");
        let finding = &json["findings"][0];
        assert_eq!(finding["code"], code, "{arguments:?}");
        for field in ["kind", "title", "why", "what", "remedy"] {
            let text = finding[field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{arguments:?}: {field} of {finding}");
        }
    }
}

#[test]
fn a_node_is_forgotten_by_the_name_that_the_table_shows() {
    let server = Server::started();
    let tier = Node::new("database-tier");
    tier.metadata(server.port, "");
    assert_eq!(tier.agent(&["run"]).code, 0);
    let insert = |name: &str| {
        server.sql(&format!(
            "REPLACE INTO shakenfist.bootstrap_nodes (fqdn, role, series, release_version, image_version, instance_id, \
             phase, outcome, last_boot) VALUES ('{name}', 'hypervisor', NULL, '', '', 'x', 'start', 'refused', 1)"
        ));
    };
    for name in ["gone.example.com", "two.example.com", "two.example.org"] {
        insert(name);
    }
    let desk = Desk::new();
    let file = desk.metadata("db.toml", server.port);
    let forget = |name| desk.run(&["cluster", "forget", name, "--yes", "--metadata", &file]);
    let ran = forget("gone");
    let said = "gone.example.com is forgotten";
    assert!(
        ran.code == 0 && ran.stdout.starts_with(said),
        "{}",
        ran.stderr
    );
    let ran = forget("two");
    let said = "two.example.com or two.example.org";
    assert!(
        ran.code == 64 && ran.stderr.contains(said),
        "{}",
        ran.stderr
    );
    assert_eq!(forget("example").code, 64);
}

#[test]
fn a_contradiction_names_the_field_that_was_written() {
    let server = Server::started();
    let desk = Desk::new();
    let text = |network: &str| {
        format!(
            "schema = 1\nnode.name = \"db1.example.com\"\n\
             node.mesh = {{ address = \"10.0.0.1\", interface = \"eth1\" }}\n\
             node.egress = {{ address = \"10.1.0.1\", interface = \"eth0\" }}\n\
             cluster.network_node = \"10.0.0.2\"\ncluster.floating_network = \"{network}\"\n\
             database.dsn = \"mysql://sf:{PASSWORD}@127.0.0.1:{}/shakenfist\"\n\
             secrets.system_key = \"{SYSTEM_KEY}\"\nconfig.ETCD_HOST = \"10.0.0.9\"\n",
            server.port
        )
    };
    let release = concat!(env!("CARGO_MANIFEST_DIR"), "/../releases/0.7/release.toml");
    let options = ["--release-descriptor", release, "--metadata"];
    let one = desk.file("one.toml", &text("192.168.230.0/24"));
    let other = desk.file("other.toml", &text("192.168.231.0/24"));
    // Not with the eyes of a role that does not see it all.
    let bootstrap = [
        "bootstrap-cluster",
        options[0],
        options[1],
        options[2],
        &one,
    ];
    let mut blind = bootstrap.to_vec();
    blind.extend(["--role", "hypervisor"]);
    let ran = desk.run(&blind);
    assert_eq!(ran.code, 64, "{}", ran.stderr);
    assert_eq!(server.dump(), "");
    let ran = desk.run(&bootstrap);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = desk.run(&[
        "bootstrap-cluster",
        options[0],
        options[1],
        options[2],
        &other,
    ]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    for part in [
        "cluster.floating_network is \"192.168.231.0/24\" in the metadata",
        &format!("source: {other}:6 (cluster.floating_network)"),
    ] {
        assert!(ran.stderr.contains(part), "{part} not in {}", ran.stderr);
    }
}

#[test]
fn the_wrong_document_does_not_fill_the_console() {
    let desk = Desk::new();
    let keys: Vec<String> = (0..2000).map(|key| format!("key{key} = 1")).collect();
    let text = format!("schema = 1\n{}\n", keys.join("\n"));
    let file = desk.file("wrong.toml", &text);
    let role = ["--role", "hypervisor", "--release-descriptor", RELEASE];
    let mut check = vec!["check", "--metadata", &file];
    check.extend(role);
    let ran = desk.run(&check);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    // What is missing counts too.
    assert!(ran.stderr.len() < 10_000, "{}", ran.stderr.len());
    assert_eq!(ran.stderr.matches("and 19").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(" mistakes in the node metadata"));
}

#[test]
fn a_node_that_is_told_to_wait_says_so() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "[bootstrap]\nmode = \"wait\"\n");
    node.edit("wait = \"20s\"", "wait = \"1s\"");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let finding = &node.status()["status"]["findings"][0];
    assert_eq!(finding["code"], "SF-BOOTSTRAP-WAITING");
    assert_eq!(
        finding["source"],
        "credential sf.metadata:12 (bootstrap.mode)"
    );
    let remedy = finding["remedy"].as_str().unwrap();
    for part in [
        "its metadata says bootstrap.mode = \"wait\"",
        "mode = \"auto\"",
    ] {
        assert!(remedy.contains(part), "{remedy}");
    }
    // Pasted: then it is this node that bootstraps.
    node.edit("mode = \"wait\"", "mode = \"auto\"");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn a_command_by_hand_does_not_promise_to_keep_trying() {
    let desk = Desk::new();
    let down = desk.metadata("down.toml", 1);
    let release = ["--release-descriptor", RELEASE, "--metadata", &down];
    let text = std::fs::read_to_string(&down).unwrap();
    let text = text
        .replace("wait = \"20s\"", "wait = \"0s\"")
        .replace("{ credential = \"sf.key\" }", &format!("\"{SYSTEM_KEY}\""))
        .replace("auth_secret_seed", "# auth_secret_seed");
    std::fs::write(&down, text).unwrap();
    for arguments in [
        &["check", "--role", "hypervisor"][..],
        &["check", "--json", "--role", "hypervisor"],
        &["bootstrap-cluster"],
        &["bootstrap-cluster", "--json"],
        &["cluster", "status"],
    ] {
        let mut all = arguments.to_vec();
        all.extend(if arguments[0] == "cluster" {
            &release[2..]
        } else {
            &release[..]
        });
        let ran = desk.run(&all);
        assert_eq!(ran.code, 75, "{arguments:?}: {}", ran.stderr);
        let said = ran.stdout + &ran.stderr;
        assert!(!said.contains("agent keeps"), "{arguments:?}: {said}");
        assert!(
            said.contains("Then run this again."),
            "{arguments:?}: {said}"
        );
    }
    // The node's own run does.
    let node = Node::new("hypervisor");
    node.metadata(1, "");
    node.edit("wait = \"20s\"", "wait = \"0s\"");
    node.agent(&["run"]);
    assert!(node.console().contains("agent keeps trying"));
}
