//! Faults at the gate: the real agent's run on a cluster that is there is killed,
//! and its connection cut, at every command of its passage; what an operator does
//! to the record is cut off around its COMMIT; a rehearsal falls silent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "../cli/agent/node.rs"]
#[allow(dead_code, reason = "these tests use their own part of it")]
mod node;
/// What the one above expects to stand beside it.
mod server {
    pub(crate) use crate::support::PASSWORD;
}

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use node::{Node, Ran};
use rustix::process::Pid;
use support::lot::Barrier;
use support::matrix::{Outcome, Section};
use support::metadata::{bootstrapped, dump};
use support::proxy::{At, Proxy, Side, Then};
use support::{Admin, Server, dsn, kill, shared, wait_for};

/// A way through the gate, for a node whose image is of series 0.8.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    role: &'static str,
    /// What the tables hold before, `OWN` being the node's machine.
    before: &'static str,
    /// How many commands commit.
    commits: usize,
}

const JOIN: &str = "join";
const WAYS: [Way; 4] = [
    Way {
        name: JOIN,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Kill,
    Cut,
}

/// A bootstrapped database with a proxy in front.
struct Bench {
    database: String,
    proxy: Proxy,
    admin: Admin,
}

impl Bench {
    fn new(server: &Server, database: &str) -> Self {
        bootstrapped(&server.database(database));
        let mut admin = server.admin();
        admin.run(&format!("USE `{database}`"));
        Self {
            database: database.to_owned(),
            proxy: Proxy::start(server.port),
            admin,
        }
    }

    /// A node that has never booted: always the same machine.
    fn node(&self, role: &str) -> Node {
        let node = Node::new(role);
        node.metadata(self.proxy.port, "");
        node.edit("mysql://sf:", &format!("mysql://{}:", self.database));
        node.edit("/shakenfist\"", &format!("/{}\"", self.database));
        let id = format!("{:0>32}\n", 5);
        std::fs::write(node.root().join("etc/machine-id"), id).unwrap();
        node
    }

    fn reset(&mut self, before: &str, own: &str) {
        let before = before.replace("OWN", &format!("'{own}'"));
        self.admin.run(&format!(
            "DELETE FROM bootstrap_claims; DELETE FROM bootstrap_nodes; \
             DELETE FROM cluster_series; {before}"
        ));
    }

    /// The rows, with times of this run replaced by a word.
    fn rows(&mut self) -> BTreeMap<String, Vec<Vec<String>>> {
        let now: f64 = self
            .admin
            .cell("SELECT UNIX_TIMESTAMP(SYSDATE(6))")
            .parse()
            .unwrap();
        let mut rows = dump(&mut self.admin, &self.database);
        for cell in rows.values_mut().flatten().flatten() {
            let time = cell.parse::<f64>();
            if time.is_ok_and(|time| (now - 3600.0..=now).contains(&time)) {
                "TIME".clone_into(cell);
            }
        }
        rows
    }

    /// Strikes at a command, and runs the agent again where it did not end well.
    fn strike(&self, node: &Node, blow: Blow, number: usize, side: Side) -> Outcome {
        let outcome = match blow {
            Blow::Cut => {
                self.proxy.arm(number, side, || {});
                let ran = node.agent(&["run"]);
                Outcome::of(ran.code).unwrap_or_else(|| panic!("{}: {}", ran.code, ran.stderr))
            }
            Blow::Kill => {
                let pid = Arc::new(Mutex::new(None));
                let victim = Arc::clone(&pid);
                self.proxy.arm(number, side, move || kill(&victim));
                let (mut child, _) = node.start(&["run"]);
                *pid.lock().unwrap() = Pid::from_raw(child.pid().cast_signed());
                let ended = child.wait_timeout(Duration::from_mins(1)).unwrap();
                assert!(!ended.expect("the agent hangs").success());
                Outcome::Resumed
            }
        };
        assert!(!self.proxy.disarm(), "not reached");
        if outcome != Outcome::Finished {
            let ran = node.agent(&["run"]);
            assert_eq!(ran.code, 0, "the next run: {}", ran.stderr);
        }
        outcome
    }
}

#[test]
fn a_passage_ends_in_the_same_rows_wherever_the_agent_is_killed_or_cut_off() {
    let started = Instant::now();
    let server = Server::start(&[]);
    let ways = WAYS.map(|way| way.name);
    let killed = Mutex::new(Section::at_the_gate(
        "the agent is killed",
        "SIGKILL to the agent, and another run.",
        &ways,
    ));
    let cut = Mutex::new(Section::at_the_gate(
        "the connection breaks",
        "Both sides see the connection end; the server lives. COMMIT lost on its way, and its answer, are among the points.",
        &ways,
    ));
    let points: usize = thread::scope(|scope| {
        let threads: Vec<_> = WAYS
            .into_iter()
            .enumerate()
            .map(|(index, way)| {
                let (server, killed, cut) = (&server, &killed, &cut);
                scope.spawn(move || {
                    strike_everywhere(server, &format!("way{index}"), way, (killed, cut))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    killed.into_inner().unwrap().publish();
    cut.into_inner().unwrap().publish();
    println!(
        "{} ways: killed at {points} points, cut off at as many; {:.0} s",
        WAYS.len(),
        started.elapsed().as_secs_f64()
    );
}

/// Both sides of every command of a passage; how many.
fn strike_everywhere(
    server: &Server,
    database: &str,
    way: Way,
    (killed, cut): (&Mutex<Section>, &Mutex<Section>),
) -> usize {
    let mut bench = Bench::new(server, database);
    // What the cluster's record calls this machine.
    bench.reset(WAYS[0].before, "");
    assert_eq!(bench.node("hypervisor").agent(&["run"]).code, 0);
    let own = "SELECT instance_id FROM bootstrap_nodes";
    let own = bench.admin.cell(own);

    bench.reset(way.before, &own);
    bench.proxy.arm(usize::MAX, Side::Before, || {});
    let ran = bench.node(way.role).agent(&["run"]);
    assert_eq!(ran.code, 0, "{}: {}", way.name, ran.stderr);
    let commands = bench.proxy.log();
    bench.proxy.disarm();
    let undisturbed = bench.rows();
    // From the last reading of the versions, which the checks before do too, to
    // the first word about progress.
    let first = commands
        .iter()
        .rposition(|c| c.contains("SELECT CAST(slot"))
        .unwrap()
        + 1;
    let length = commands[first..]
        .iter()
        .position(|c| c.contains("UPDATE bootstrap_nodes SET phase"))
        .unwrap();
    let passage = &commands[first - 1..first + length];
    let commits = passage.iter().filter(|c| c.ends_with("COMMIT")).count();
    assert_eq!(commits, way.commits, "{}: {passage:#?}", way.name);
    for number in first..=first + length {
        for side in [Side::Before, Side::After] {
            for (blow, section) in [(Blow::Kill, killed), (Blow::Cut, cut)] {
                let at = format!("{}: {blow:?} {side:?} {}", way.name, commands[number - 1]);
                bench.reset(way.before, &own);
                let outcome = bench.strike(&bench.node(way.role), blow, number, side);
                assert_eq!(bench.rows(), undisturbed, "{at}");
                if blow == Blow::Cut {
                    assert_eq!(
                        outcome,
                        Outcome::Finished,
                        "{at}: the passage goes on by itself"
                    );
                }
                section.lock().unwrap().add(way.name, outcome);
            }
        }
    }
    2 * (length + 1)
}

/// A command of the desk, through the proxy.
fn desk(bench: &Bench, arguments: &[&str]) -> Ran {
    let node = Node::new("hypervisor");
    let file = node.root().join("dsn");
    std::fs::write(&file, dsn(&bench.database, bench.proxy.port)).unwrap();
    let mut all = vec!["cluster"];
    all.extend(arguments);
    if arguments[0] == "forget" {
        all.push("--force");
    }
    all.extend(["--yes", "--database-file", file.to_str().unwrap()]);
    let empty = tempfile::tempdir().unwrap();
    Node::end(node.start_at(empty.path(), &all))
}

/// Whether the COMMIT of a command by hand was executed is not known where its
/// answer is lost. The desk finds out, says what is true, and leaves one record.
#[test]
fn what_is_done_by_hand_is_done_and_recorded_once_wherever_it_is_cut_off() {
    let server = shared();
    let mut bench = Bench::new(&server, "byhand");
    let before = "INSERT INTO cluster_series VALUES (0, '0.8', '0.7', '0.8.0', 0, 'x'); \
                  INSERT INTO bootstrap_nodes VALUES \
                  ('net1', 'network', '0.8', '0.8.0', '0.8.0-1', 'm', 'start', 'started', 5, NULL); \
                  INSERT INTO bootstrap_claims VALUES ('network', 'net1', 'm', 5)";
    for (arguments, told, nodes) in [
        (["forget", "net1"], "net1 is forgotten", "0"),
        (["release-claim", "network"], "network", "1"),
    ] {
        bench.reset(before, "");
        bench.proxy.arm(usize::MAX, Side::Before, || {});
        let ran = desk(&bench, &arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let commands = bench.proxy.log();
        bench.proxy.disarm();
        let place = |what: &str| commands.iter().rposition(|c| c.ends_with(what)).unwrap() + 1;
        for number in place("START TRANSACTION")..=place("COMMIT") {
            for side in [Side::Before, Side::After] {
                bench.reset(before, "");
                bench.admin.run("DELETE FROM bootstrap_events");
                bench.proxy.arm(number, side, || {});
                let ran = desk(&bench, &arguments);
                let at = format!("{arguments:?}, {side:?} {}", commands[number - 1]);
                assert!(!bench.proxy.disarm(), "{at}: not reached");
                assert_eq!(ran.code, 0, "{at}: {}", ran.stderr);
                assert!(ran.stdout.contains(told), "{at}: {}", ran.stdout);
                let count = |admin: &mut Admin, table: &str| {
                    admin.cell(&format!("SELECT COUNT(*) FROM {table}"))
                };
                assert_eq!(count(&mut bench.admin, "bootstrap_nodes"), nodes, "{at}");
                assert_eq!(count(&mut bench.admin, "bootstrap_claims"), "0", "{at}");
                assert_eq!(
                    bench
                        .admin
                        .rows("SELECT action, subject FROM bootstrap_events"),
                    [arguments],
                    "{at}"
                );
            }
        }
    }
}

/// A node that died while it made the release's tables, on the cluster's first
/// boot, has a claim and no row.
#[test]
fn who_died_making_the_tables_is_forgotten_with_its_claim() {
    let server = shared();
    let mut bench = Bench::new(&server, "maker");
    let before = "INSERT INTO bootstrap_claims VALUES ('schema', 'db1.example', 'm', 5)";
    bench.reset(before, "");
    let ran = desk(&bench, &["forget", "db1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let warned = "db1.example holds the schema role";
    assert!(ran.stderr.contains(warned), "{}", ran.stderr);
    assert_eq!(
        bench.admin.cell("SELECT COUNT(*) FROM bootstrap_claims"),
        "0"
    );
    let event = bench
        .admin
        .rows("SELECT action, subject, detail FROM bootstrap_events");
    assert_eq!(event[0][..2], ["forget", "db1.example"]);
    assert!(event[0][2].contains("claim schema"), "{event:?}");
    assert_eq!(desk(&bench, &["forget", "db1"]).code, 64);
}

/// A rehearsal gives way, and holds nobody up for long.
#[test]
fn nobody_waits_for_a_rehearsal_and_it_waits_for_nobody() {
    let server = shared();
    let mut bench = Bench::new(&server, "tried");
    let node = bench.node("hypervisor");
    let series = WAYS[0].before;

    // Somebody else is in the middle of the same row.
    bench.reset(series, "");
    bench.admin.run(
        "START TRANSACTION; INSERT INTO bootstrap_nodes VALUES \
         ('node5.example.com', 'hypervisor', '0.8', '0.8.0', '0.8.0-1', 'm', 'start', 'started', 0, NULL)",
    );
    // It ends although that one does not.
    let ran = node.agent(&["check", "--json"]);
    bench.admin.run("ROLLBACK");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout
            .contains("other nodes were at the same rows all the time"),
        "{}",
        ran.stdout
    );

    // The desk's line goes dead while it holds the row of its series.
    let two = format!("{series}, (1, '0.7', '0.6', '0.7.0', 0, 'x')");
    bench.reset(&two, "");
    let barrier = Arc::new(Barrier::default());
    let hold = Arc::clone(&barrier);
    bench.proxy.arm_then(
        At::Saying("DELETE FROM cluster_series"),
        Side::After,
        move || {
            hold.park(0);
            Then::Silence
        },
    );
    let (mut child, _) = node.start(&["check", "--json"]);
    wait_for("the rehearsal gets there", || barrier.wait_for(1));
    barrier.open();
    bench.admin.run("SET SESSION innodb_lock_wait_timeout = 25");
    bench
        .admin
        .run("DELETE FROM cluster_series WHERE series = '0.8'");
    child.kill().unwrap();
}
