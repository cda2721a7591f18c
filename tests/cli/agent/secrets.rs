//! Marker secrets are looked for in everything that the agent says or writes.

use std::path::Path;

use super::node::{Node, SEED, SYSTEM_KEY};
use super::server::{PASSWORD, Server};

/// Files that may hold a secret: what the test put there, and what the
/// daemons read.
fn may_hold(path: &Path) -> bool {
    let path = path.to_string_lossy();
    path.contains("/run/credentials/")
        || path.ends_with("/etc/sf/config")
        || path.ends_with("/set-key")
}

/// Every file under the node's root, streams of the agent included.
fn search(node: &Node, also: &[&str], when: &str) {
    let mut folders = vec![node.root().to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if may_hold(&path) || !path.is_file() {
                continue;
            }
            seen += 1;
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            for secret in [PASSWORD, SYSTEM_KEY, SEED].iter().chain(also) {
                assert!(
                    !text.contains(secret),
                    "{when}: {secret} is in {}",
                    path.display()
                );
            }
        }
    }
    assert!(seen > 10, "{when}: only {seen} files were searched");
    let journal = node.journal();
    for secret in [PASSWORD, SYSTEM_KEY, SEED].iter().chain(also) {
        assert!(
            !journal.contains(secret),
            "{when}: {secret} is in the journal"
        );
    }
}

#[test]
fn no_secret_is_said_or_written() {
    let mut server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(
        server.port,
        "[config]\nETCD_PASSWORD = \"marker-config-77\"\n",
    );
    let also = ["marker-config-77"];
    // The helper of the release says what it should not.
    node.hook("echo \"could not store $key\" >&2; exit 75");
    assert_eq!(node.agent(&["run"]).code, 75);
    search(&node, &also, "the hook fails");
    node.hook("echo \"stored $key\" >&2; echo created");
    assert_eq!(node.agent(&["--log-level", "debug", "run"]).code, 0);
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["explain"],
        &["explain", "--json"],
        &["check"],
        &["check", "--json"],
        &["gate"],
    ] {
        let ran = node.agent(&[&["--log-level", "debug"], arguments].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    }
    search(&node, &also, "all is well");
    assert!(node.read("etc/sf/config").contains("marker-config-77"));
    // A password that the server refuses.
    node.edit(PASSWORD, "marker-wrong-55");
    let also = ["marker-config-77", "marker-wrong-55"];
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(node.read("dev/ttyS0").contains("SF-DB-AUTH"));
    search(&node, &also, "the password is wrong");
    // A DSN that does not parse, and one in the wrong place.
    node.edit(
        "mysql://sf:marker-wrong-55@",
        "mysql://sf:marker-wrong-55@@:x",
    );
    assert_eq!(node.agent(&["run"]).code, 78);
    node.edit(
        "[config]",
        "[config]\nHTTP_PROXY_SERVER = \"http://u:marker-proxy-11@proxy\"\nmarker-proxy-11 = 'x\"",
    );
    assert_eq!(node.agent(&["run"]).code, 78);
    search(
        &node,
        &["marker-config-77", "marker-wrong-55"],
        "the metadata is broken",
    );
    server.stop();
}

/// Daemons are not ours: what they say of themselves is shown, not what they have.
#[test]
fn a_daemon_that_talks_too_much_is_cut_short() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    assert!(node.read("etc/sf/config").contains(PASSWORD));
    node.program(
        "usr/bin/journalctl",
        &format!(
            "echo 'mysql+pymysql://sf:{PASSWORD}@127.0.0.1/x refused'; echo 'passwd={PASSWORD}'; \
             echo 'I am {PASSWORD} and {SEED}'; echo 'port in use'"
        ),
    );
    let ran = node.agent(&["ready"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(node.read("dev/ttyS0").contains("port in use"));
    std::fs::remove_file(node.root().join("usr/bin/journalctl")).unwrap();
    search(&node, &[], "a daemon talks");
}

/// Rows of the cluster's configuration that other programs have written: a name
/// makes no line of its own in what daemons read, and a value is not told.
#[test]
fn rows_of_others_make_no_lines_and_are_not_told() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    let add = |name: &str, value: &str| {
        server.sql(&format!(
            "REPLACE INTO shakenfist.cluster_config VALUES ('{name}', '\"{value}\"', 0)"
        ));
    };
    add("ZONE2=1\\nLD_PRELOAD=/srv/x.so\\nIGNORED", "x");
    add("GOOD_ONE", "y");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let config = node.read("etc/sf/config");
    assert!(config.contains("SHAKENFIST_GOOD_ONE=\"y\""), "{config}");
    assert!(!config.contains("LD_PRELOAD"), "{config}");
    assert!(ran.stderr.contains("is no setting"), "{}", ran.stderr);
    add("CONSOLE_PEM", "-----BEGIN\\\\nmarker-pem-91");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(
        node.read("dev/ttyS0")
            .contains("SHAKENFIST_CONSOLE_PEM holds a line break")
    );
    search(&node, &["marker-pem-91"], "a key in the table");
    server.sql("DELETE FROM shakenfist.cluster_config WHERE key_name = 'CONSOLE_PEM'");
    add("LONG_ONE", &"z".repeat(100_000));
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(
        node.read("dev/ttyS0")
            .contains("100000 bytes, more than 65536")
    );
}
