//! Ways through the gate: a cluster that is there, a node whose image is of
//! series 0.8, and what an undisturbed boot of it sends and leaves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use sf_command::Child;

use super::Admin;
use super::lot::Runs;
use super::maker;
use super::metadata::dump;
use super::node::Node;
use super::proxy::{Proxy, Side};
use super::steps::Script;

/// A way through the gate, for a node whose image is of series 0.8.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) role: &'static str,
    /// What the tables hold before, `OWN` being the node's machine.
    pub(crate) before: &'static str,
    /// How many commands commit.
    commits: usize,
}

pub(crate) const WAYS: [Way; 4] = [
    Way {
        name: "join",
        role: "hypervisor",
        before: "INSERT INTO cluster_series VALUES (0, '0.8', '0.7', '0.8.0', 0, 'x')",
        // Its one statement commits itself.
        commits: 0,
    },
    Way {
        name: "introduction and retirement",
        role: "hypervisor",
        before: "INSERT INTO cluster_series VALUES \
                 (0, '0.7', '0.6', '0.7.0', 0, 'x'), (1, '0.6', '0.5', '0.6.0', 0, 'x'); \
                 INSERT INTO bootstrap_nodes VALUES \
                 ('h1', 'hypervisor', '0.7', '0.7.0', '0.7.0-1', 'm', 'start', 'started', 0, NULL), \
                 ('node5.example.com', 'hypervisor', '0.6', '0.6.0', '0.6.0-1', OWN, 'start', 'started', 0, NULL)",
        commits: 1,
    },
    Way {
        name: "taking the network role",
        role: "network",
        before: "INSERT INTO cluster_series VALUES (0, '0.8', '0.7', '0.8.0', 0, 'x')",
        commits: 1,
    },
    Way {
        name: "keeping the network role",
        role: "network",
        before: "INSERT INTO cluster_series VALUES (0, '0.8', '0.7', '0.8.0', 0, 'x'); \
                 INSERT INTO bootstrap_nodes VALUES \
                 ('node5.example.com', 'network', '0.8', '0.8.0', '0.8.0-1', OWN, 'start', 'started', 0, NULL); \
                 INSERT INTO bootstrap_claims VALUES ('network', 'node5.example.com', OWN, 5)",
        commits: 1,
    },
];

/// A node that has never booted: always the same machine.
pub(crate) fn node(role: &str, database: &str, port: u16) -> Node {
    let node = Node::new(role);
    node.metadata(port, "");
    node.edit("mysql://sf:", &format!("mysql://{database}:"));
    node.edit("/shakenfist\"", &format!("/{database}\""));
    node.edit("wait = \"20s\"", "wait = \"280s\"");
    maker::write(&node, "etc/machine-id", &format!("{:0>32}\n", 5));
    // The other daemon of these tests has a port that somebody would have to serve.
    maker::manifest(&node, ",\"sf-api\"", "");
    node
}

/// A DSN with servers behind the one at the port.
fn with_others(node: Node, port: u16, others: &[SocketAddr]) -> Node {
    let first = format!("@127.0.0.1:{port}");
    let all = others
        .iter()
        .fold(first.clone(), |all, other| format!("{all},{other}"));
    node.edit(&first, &all);
    node
}

/// What the record calls that machine, read after its boot.
pub(crate) fn own(admin: &mut Admin) -> String {
    admin.cell("SELECT instance_id FROM bootstrap_nodes")
}

/// The record of the cluster as it is before, in the database in use.
pub(crate) fn reset(admin: &mut Admin, before: &str, own: &str) {
    let before = before.replace("OWN", &format!("'{own}'"));
    admin.run(&format!(
        "DELETE FROM bootstrap_claims; DELETE FROM bootstrap_nodes; \
         DELETE FROM cluster_series; {before}"
    ));
}

pub(crate) type Rows = BTreeMap<String, Vec<Vec<String>>>;

/// The rows, with times of this run replaced by a word.
pub(crate) fn rows(admin: &mut Admin, database: &str) -> Rows {
    let now = admin.cell("SELECT UNIX_TIMESTAMP(SYSDATE(6))");
    let now: f64 = now.parse().unwrap();
    let mut rows = dump(admin, database);
    for cell in rows.values_mut().flatten().flatten() {
        let time = cell.parse::<f64>();
        if time.is_ok_and(|time| (now - 3600.0..=now).contains(&time)) {
            "TIME".clone_into(cell);
        }
    }
    rows
}

/// What an undisturbed run of the agent sends.
pub(crate) fn script(way: &Way, proxy: &Proxy, node: &Node) -> Script {
    proxy.arm(usize::MAX, Side::Before, || {});
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}: {}", way.name, ran.stderr);
    let script = Script::of_passage(way.name, proxy.log());
    proxy.disarm();
    assert_eq!(script.commits(), way.commits, "{script:#?}");
    script
}

/// A node that boots, as systemd boots it.
pub(crate) struct Booting {
    node: Node,
    streams: RefCell<PathBuf>,
}

impl Runs for Booting {
    fn start(&self) -> Child {
        let (child, streams) = self.node.start(&["run"]);
        *self.streams.borrow_mut() = streams;
        child
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.streams.borrow().join("stderr")).unwrap_or_default()
    }
}

impl Booting {
    /// `sf-ready.service`, which comes next. It says in the node's row how far the
    /// node came: what the run itself says there, nobody waits for.
    pub(crate) fn gets_ready(&self) {
        let ran = self.node.agent(&["ready"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
}

/// A way on a server, to be gone in many databases at once.
pub(crate) struct Ground {
    pub(crate) way: Way,
    pub(crate) script: Script,
    /// The database in which nobody has gone it.
    before: String,
    undisturbed: Rows,
}

impl Ground {
    /// All ways, on the server at an address, with others behind it in the DSN.
    /// `cluster` is a database that is bootstrapped.
    pub(crate) fn all(
        mut admin: Admin,
        server: SocketAddr,
        others: &[SocketAddr],
        cluster: &str,
    ) -> Vec<Self> {
        let proxy = Proxy::before(server);
        copy(&mut admin, cluster, "machine");
        reset(&mut admin, WAYS[0].before, "");
        let machine = node(WAYS[0].role, "machine", proxy.port);
        let ran = with_others(machine, proxy.port, others).agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let own = own(&mut admin);
        let ground = |(index, way): (usize, Way)| {
            let (before, after) = (format!("before{index}"), format!("after{index}"));
            copy(&mut admin, cluster, &before);
            reset(&mut admin, way.before, &own);
            copy(&mut admin, &before, &after);
            let node = with_others(node(way.role, &after, proxy.port), proxy.port, others);
            let script = script(&way, &proxy, &node);
            let booted = Booting {
                node,
                streams: RefCell::default(),
            };
            booted.gets_ready();
            Self {
                way,
                script,
                before,
                undisturbed: rows(&mut admin, &after),
            }
        };
        WAYS.into_iter().enumerate().map(ground).collect()
    }

    /// A database of that name with a proxy in front, and the node.
    pub(crate) fn place(
        &self,
        admin: &mut Admin,
        name: &str,
        server: SocketAddr,
        others: &[SocketAddr],
    ) -> (Proxy, Booting) {
        copy(admin, &self.before, name);
        let proxy = Proxy::before(server);
        let node = node(self.way.role, name, proxy.port);
        let booting = Booting {
            node: with_others(node, proxy.port, others),
            streams: RefCell::default(),
        };
        (proxy, booting)
    }

    /// What a node has left that is ready by now.
    pub(crate) fn judge(&self, admin: &mut Admin, name: &str, at: &str) {
        assert_eq!(rows(admin, name), self.undisturbed, "{at}");
    }
}

/// A database as another one is, with a user of its own name; it is in use then.
fn copy(admin: &mut Admin, from: &str, to: &str) {
    admin.database(to);
    admin.run(&format!("USE `{to}`; SET SESSION foreign_key_checks = 0"));
    for table in dump(admin, from).keys() {
        let made = admin.rows(&format!("SHOW CREATE TABLE `{from}`.`{table}`"));
        admin.run(&made[0][1]);
        admin.run(&format!(
            "INSERT INTO `{table}` SELECT * FROM `{from}`.`{table}`"
        ));
    }
    admin.run("SET SESSION foreign_key_checks = 1");
}
