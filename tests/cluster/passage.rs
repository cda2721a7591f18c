//! Faults at the gate: the real agent's run on a cluster that is there is killed,
//! and its connection cut, at every command of its passage; what an operator does
//! to the record is cut off around its COMMIT; a rehearsal falls silent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use support::build::Build;
use support::lot::Barrier;
use support::matrix::{Outcome, Section};
use support::metadata::bootstrapped;
use support::node::{Node, Ran};
use support::proxy::{At, Proxy, Side, Then};
use support::rehearsal::Ground;
use support::steps::{Point, every_step};
use support::ways::{self, Rows, WAYS, Way};
use support::{Admin, Server, dsn, kill, shared, wait_for};

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

    fn node(&self, role: &str) -> Node {
        ways::node(role, &self.database, self.proxy.port)
    }

    fn reset(&mut self, before: &str, own: &str) {
        ways::reset(&mut self.admin, before, own);
    }

    fn rows(&mut self) -> Rows {
        ways::rows(&mut self.admin, &self.database)
    }

    /// Strikes at a command, and runs the agent again where it did not end well.
    fn strike(&self, node: &Node, blow: Blow, Point { number, side }: Point) -> Outcome {
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

/// All points on the machine's own server, and a sample of them on the newer one.
fn a_passage_ends_in_the_same_rows_wherever_the_agent_is_killed_or_cut_off(build: Build) -> String {
    let started = Instant::now();
    let server = Server::start_build(build, &[]);
    let section = |fault, about| {
        let ways = WAYS.map(|way| way.name);
        let section = Section::at_the_gate(build.name(), fault, about, &ways);
        Mutex::new(section.whole(build == Build::Host))
    };
    let killed = section(
        "the agent is killed",
        "SIGKILL to the agent, and another run.",
    );
    let cut = section(
        "the connection breaks",
        "Both sides see the connection end; the server lives. COMMIT lost on its way, and its answer, are among the points.",
    );
    let points: usize = thread::scope(|scope| {
        let threads: Vec<_> = WAYS
            .into_iter()
            .enumerate()
            .map(|(index, way)| {
                let (server, killed, cut) = (&server, &killed, &cut);
                let whole = build == Build::Host || every_step();
                scope.spawn(move || {
                    let database = format!("way{index}");
                    strike_everywhere(server, &database, way, whole, (killed, cut))
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
    format!(
        "{}: {} ways: killed at {points} points, cut off at as many; {:.0} s",
        build.name(),
        WAYS.len(),
        started.elapsed().as_secs_f64()
    )
}

mod on_mariadb {
    use super::Build;
    use super::a_passage_ends_in_the_same_rows_wherever_the_agent_is_killed_or_cut_off as strike;

    #[test]
    fn v10_11_a_passage_ends_in_the_same_rows_wherever_the_agent_is_killed_or_cut_off() {
        println!("{}", strike(Build::Host));
    }

    #[test]
    fn v11_8_a_passage_ends_in_the_same_rows_wherever_the_agent_is_killed_or_cut_off() {
        println!("{}", strike(Build::Debian13));
    }
}

/// Both sides of every command of a passage, or of some of them; how many.
fn strike_everywhere(
    server: &Server,
    database: &str,
    way: Way,
    whole: bool,
    (killed, cut): (&Mutex<Section>, &Mutex<Section>),
) -> usize {
    let mut bench = Bench::new(server, database);
    // What the cluster's record calls this machine.
    bench.reset(WAYS[0].before, "");
    assert_eq!(bench.node("hypervisor").agent(&["run"]).code, 0);
    let own = ways::own(&mut bench.admin);

    bench.reset(way.before, &own);
    let script = ways::script(&way, &bench.proxy, &bench.node(way.role));
    let undisturbed = bench.rows();
    let points = if whole {
        script.every_point()
    } else {
        script.points().into()
    };
    for point in &points {
        for (blow, section) in [(Blow::Kill, killed), (Blow::Cut, cut)] {
            let command = &script.commands[point.number - 1];
            let at = format!("{}: {blow:?} {point:?} {command}", way.name);
            bench.reset(way.before, &own);
            let outcome = bench.strike(&bench.node(way.role), blow, *point);
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
    points.len()
}

/// What a node that has passed asks the database for, before its daemons start.
#[test]
fn a_node_that_has_passed_goes_on_where_its_connection_breaks() {
    let server = shared();
    let mut bench = Bench::new(&server, "configured");
    let way = WAYS[0];
    bench.reset(way.before, "");
    let script = ways::script(&way, &bench.proxy, &bench.node(way.role));
    let undisturbed = bench.rows();
    let passed = *script.numbers(way.name).end();
    let read = |command: &String| command.contains("SELECT key_name, value_json");
    let last = script.commands.iter().rposition(read).unwrap() + 1;
    assert!(last > passed, "{script:#?}");
    for number in passed + 1..=last {
        for side in [Side::Before, Side::After] {
            bench.reset(way.before, "");
            let point = Point { number, side };
            let outcome = bench.strike(&bench.node(way.role), Blow::Cut, point);
            let at = format!("{point:?} {}", script.commands[number - 1]);
            assert_eq!(outcome, Outcome::Finished, "{at}");
            assert_eq!(bench.rows(), undisturbed, "{at}");
        }
    }
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

fn rehearsed(build: Build) {
    let server = Server::start_build(build, &[]);
    server.database("rehearsed");
    let (address, admins) = (server.address(), vec![server.admin()]);
    let points = Ground::new("rehearsed", address, address, admins).rehearse();
    assert!(points > 20, "{points}");
}

#[test]
fn a_rehearsal_leaves_everything_as_it_was() {
    rehearsed(Build::Host);
}

#[test]
fn a_rehearsal_leaves_everything_as_it_was_on_11_8() {
    rehearsed(Build::Debian13);
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
