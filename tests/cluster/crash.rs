//! The core proof: the real agent is killed before and after every command that
//! it sends to a real server, COMMITs among them, and run again; and its
//! connection is cut at every such point. The end state is always that of an
//! undisturbed run, row for row.
//!
//! The agent has no hooks for this: a proxy reads the protocol's framing along.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::agent::Agent;
use support::normal::{EndState, end_state};
use support::proxy::{Proxy, Side};
use support::{Admin, Server, dsn};

/// What happens at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    /// SIGKILL to the agent.
    Kill,
    /// The connection breaks, the agent lives.
    Cut,
}

type Point = (Blow, usize, Side);

/// What the agent is doing at a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Checking, on a connection of its own.
    Checks,
    /// Bootstrapping.
    Bootstrap,
    /// Ending the last connection.
    Goodbye,
}

/// The first byte of a logged command says what it is; 1 ends a connection.
fn part_of(commands: &[String], number: usize) -> Part {
    let ends = |command: &String| command.starts_with("0x01");
    let checks = commands.iter().position(ends).unwrap() + 1;
    match number {
        number if number <= checks => Part::Checks,
        number if number < commands.len() => Part::Bootstrap,
        _ => Part::Goodbye,
    }
}

/// One database with a proxy in front and a node that uses it.
struct Bench {
    name: String,
    proxy: Proxy,
    agent: Agent,
    admin: Admin,
}

impl Bench {
    fn new(server: &Server, name: &str) -> Self {
        server.database(name);
        let proxy = Proxy::start(server.port);
        Self {
            agent: Agent::new("db1.example", &dsn(name, proxy.port)),
            name: name.to_owned(),
            admin: server.admin(),
            proxy,
        }
    }

    /// An empty database, once nobody uses the old one any more.
    fn reset(&mut self) {
        let name = &self.name;
        self.admin.run(&format!(
            "DROP DATABASE `{name}`; \
             CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        ));
    }

    /// Runs to the end; the exit code.
    fn run(&self) -> i32 {
        let mut child = self.agent.command().spawn().unwrap();
        let status = child.wait_timeout(Duration::from_secs(150)).unwrap();
        status.expect("the agent hangs").code().unwrap_or(-1)
    }

    fn run_well(&self, what: &str) {
        let code = self.run();
        assert_eq!(code, 0, "{what}: {}", self.agent.log());
    }

    fn end_state(&mut self, verify: bool) -> EndState {
        end_state(&mut self.admin, &self.name, verify)
    }

    /// Strikes at a point; returns false when the run ended before it.
    fn strike(&mut self, (blow, number, side): Point, part: Part) -> bool {
        self.reset();
        match blow {
            Blow::Kill => {
                let pid = Arc::new(Mutex::new(None));
                let victim = Arc::clone(&pid);
                self.proxy.arm(number, side, move || kill(&victim));
                let mut child = self.agent.command().spawn().unwrap();
                *pid.lock().unwrap() = Pid::from_raw(child.pid().cast_signed());
                let status = child.wait_timeout(Duration::from_mins(1)).unwrap();
                if self.proxy.disarm() {
                    return false;
                }
                let status = status.expect("the agent hangs");
                // It may be gone already when the command is its good-bye.
                let killed = status.signal() == Some(9);
                let goodbye = part == Part::Goodbye;
                assert!(
                    killed || (goodbye && status.success()),
                    "{status}: {}",
                    self.agent.log()
                );
            }
            Blow::Cut => {
                self.proxy.arm(number, side, || {});
                let code = self.run();
                if self.proxy.disarm() {
                    return false;
                }
                // The bootstrap itself goes on; the checks before it, which have
                // nothing to go on with, may leave it to systemd to try again.
                let allowed = code == 0 || (code == 75 && part == Part::Checks);
                assert!(allowed, "exit code {code}: {}", self.agent.log());
                if code == 0 {
                    return true;
                }
            }
        }
        self.run_well("the run after the blow");
        true
    }
}

/// Kills the agent and waits until it is dead, so that it does not notice the
/// broken connection and act on it.
fn kill(victim: &Mutex<Option<Pid>>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let pid = loop {
        if let Some(pid) = *victim.lock().unwrap() {
            break pid;
        }
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
    };
    let _ = kill_process(pid, Signal::KILL);
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ends the other workers' work when one has found something.
struct StopOthers<'a>(&'a AtomicUsize);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(usize::MAX / 2, Ordering::SeqCst);
        }
    }
}

#[test]
fn the_end_state_is_the_same_wherever_the_agent_is_killed_or_cut_off() {
    let started = Instant::now();
    let server = Server::start(&[]);
    let mut bench = Bench::new(&server, "undisturbed");
    bench.proxy.arm(usize::MAX, Side::Before, || {});
    bench.run_well("undisturbed");
    let commands = bench.proxy.log();
    let undisturbed = bench.end_state(true);
    // Enough to be the whole story: all operations were committed one by one.
    let commits = commands.iter().filter(|c| c.ends_with("COMMIT")).count();
    assert_eq!(commits, support::agent::OPERATIONS.len(), "{commands:#?}");
    bench.proxy.disarm();
    let first = commands
        .iter()
        .position(|c| c.contains("key/system/deploy"))
        .unwrap();
    let last = first
        + commands[first..]
            .iter()
            .position(|c| c.ends_with("COMMIT"))
            .unwrap();
    // Numbers count from 1.
    let making_the_key = first + 1..=last + 1;

    let mut points: Vec<Point> = Vec::new();
    for number in 1..=commands.len() {
        for blow in [Blow::Kill, Blow::Cut] {
            points.extend([(blow, number, Side::Before), (blow, number, Side::After)]);
        }
    }
    let (next, struck) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let workers = thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 4);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (server, points, undisturbed) = (&server, &points, &undisturbed);
            let (commands, next, struck) = (&commands, &next, &struck);
            let making_the_key = making_the_key.clone();
            scope.spawn(move || {
                let _guard = StopOthers(next);
                let mut bench = Bench::new(server, &format!("crash{worker}"));
                while let Some(point) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let at = format!("{point:?} {}", commands[point.1 - 1]);
                    let part = part_of(commands, point.1);
                    assert!(bench.strike(*point, part), "{at}: not reached");
                    // Another bcrypt takes as long as all the rest: it looks at
                    // the transaction that makes the key, and at a sample.
                    let verify = making_the_key.contains(&point.1) || point.1 % 8 == 0;
                    assert_eq!(&bench.end_state(verify), undisturbed, "{at}");
                    *struck.lock().unwrap().entry(point.0).or_insert(0) += 1;
                }
            });
        }
    });
    // One past the last command: the run finishes undisturbed.
    assert!(!bench.strike(
        (Blow::Kill, commands.len() + 1, Side::Before),
        Part::Goodbye
    ));
    assert_eq!(bench.end_state(true), undisturbed);
    let struck = struck.into_inner().unwrap();
    println!(
        "{} commands, {commits} commits: killed at {} points, cut off at {}; {:.0} s with {workers} at a time",
        commands.len(),
        struck[&Blow::Kill],
        struck[&Blow::Cut],
        started.elapsed().as_secs_f64()
    );
}
