//! Nodes whose release makes its tables with a command of its own: a script that
//! does its work in the real database with what it was given.

use std::time::{Duration, Instant};

use super::node::{Node, Ran, SEED, SYSTEM_KEY};
use super::server::PASSWORD;

pub(crate) const DEVELOP: &str = include_str!("../../fixtures/develop-schema.sql");
const SF_CTL: &str = "usr/lib/shakenfist/bin/sf-ctl";

/// Lets the script wait until the test says so.
pub(crate) const WAIT: &str = "until [ -e \"$ROOT/go\" ]; do sleep 0.05; done";

/// A node of the database tier with its database at that port, whose release has a command.
pub(crate) fn node(port: u16, fqdn: &str) -> Node {
    let node = Node::new("database-tier");
    node.metadata(port, "");
    node.edit("node5.example.com", fqdn);
    // Nodes made one after the other may stand at the same address in memory.
    write(&node, "etc/machine-id", &format!("{:0>32}\n", fqdn.len()));
    let release = node.read("usr/lib/sf-image/release.toml").replace(
        "[schema_of_the_cluster]\nmade_by = \"agent\"",
        "[[setting]]\nkey = \"MARIADB_PORT\"\nfrom = \"database.port\"\n\
         [[setting]]\nkey = \"MARIADB_DATABASE\"\nfrom = \"database.name\"\n\
         [schema_of_the_cluster]\nmade_by = \"command\"\n\
         command = [\"/usr/lib/shakenfist/bin/sf-ctl\", \"ensure-mariadb-schema\"]",
    );
    assert!(release.contains("sf-ctl"));
    write(&node, "usr/lib/sf-image/release.toml", &release);
    manifest(
        &node,
        "\"schema_versions\":{}",
        "\"schema_versions\":{\"cluster_config\":1,\"namespaces\":2,\"namespace_attributes\":1,\
         \"namespace_keys\":1,\"namespace_key_attributes\":3,\"object_states\":1,\"nodes\":4,\
         \"node_attributes\":2}",
    );
    sf_ctl(&node, "", DEVELOP);
    node
}

/// Writes a file of the node.
pub(crate) fn write(node: &Node, path: &str, text: &str) {
    std::fs::write(node.root().join(path), text).unwrap();
}

/// Changes what the image says of itself.
pub(crate) fn manifest(node: &Node, from: &str, to: &str) {
    let path = "usr/lib/sf-image/manifest.json";
    let text = node.read(path);
    assert!(text.contains(from), "{from} not in {text}");
    write(node, path, &text.replace(from, to));
}

/// What the node's `sf-ctl` does: `script`, then `sql` with the settings that
/// it was given. It says its password as loudly as a traceback does.
pub(crate) fn sf_ctl(node: &Node, script: &str, sql: &str) {
    write(node, "work.sql", sql);
    node.program(
        SF_CTL,
        &format!(
            "echo \"$*\" >>\"$ROOT/sf-ctl.log\"; env >\"$ROOT/sf-ctl.env\"\n\
             echo \"connecting with $SHAKENFIST_MARIADB_PASSWORD\"\n\
             echo \"mysql://sf:$SHAKENFIST_MARIADB_PASSWORD@$SHAKENFIST_MARIADB_HOST\" >&2\n\
             {script}\n\
             MYSQL_PWD=$SHAKENFIST_MARIADB_PASSWORD exec mariadb --no-defaults --skip-ssl \
             --protocol=tcp --host=$SHAKENFIST_MARIADB_HOST --port=$SHAKENFIST_MARIADB_PORT \
             --user=$SHAKENFIST_MARIADB_USER $SHAKENFIST_MARIADB_DATABASE <\"$ROOT/work.sql\""
        ),
    );
}

/// How often the command has been run on a node.
pub(crate) fn runs(node: &Node) -> usize {
    node.read("sf-ctl.log").lines().count()
}

/// Runs the agent, which must end with that exit code and tell no secret.
pub(crate) fn run(node: &Node, code: i32) -> Ran {
    checked(node, node.agent(&["run"]), code)
}

/// The same of a run that has ended.
pub(crate) fn checked(node: &Node, ran: Ran, code: i32) -> Ran {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    let events = format!("{:?}", node.events());
    for shown in [
        &ran.stdout,
        &ran.stderr,
        &node.console(),
        &node.journal(),
        &events,
    ] {
        for secret in [PASSWORD, SEED, SYSTEM_KEY] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    ran
}

/// For half a minute.
pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
