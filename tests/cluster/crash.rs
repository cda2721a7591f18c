//! The core proof: the real agent is killed before and after every command that
//! it sends to a real server, COMMITs among them, and run again; and its
//! connection is cut at every such point. The end state is always that of an
//! undisturbed run, row for row.
//!
//! The agent has no hooks for this: a proxy reads the protocol's framing along.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use support::agent::{Agent, OPERATIONS};
use support::build::Build;
use support::matrix::{Outcome, Section};
use support::normal::{EndState, end_state};
use support::proxy::{Proxy, Side};
use support::steps::{CHECKS, GOODBYE, Point, Script};
use support::{Admin, Server, dsn, kill};

/// What happens at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    /// SIGKILL to the agent.
    Kill,
    /// The connection breaks, the agent lives.
    Cut,
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

    /// Strikes at a point; `None` when the run ended before it.
    fn strike(&mut self, blow: Blow, point: Point, part: &str) -> Option<Outcome> {
        self.reset();
        let Point { number, side } = point;
        let outcome = match blow {
            Blow::Kill => {
                let pid = Arc::new(Mutex::new(None));
                let victim = Arc::clone(&pid);
                self.proxy.arm(number, side, move || kill(&victim));
                let mut child = self.agent.command().spawn().unwrap();
                *pid.lock().unwrap() = Pid::from_raw(child.pid().cast_signed());
                let status = child.wait_timeout(Duration::from_mins(1)).unwrap();
                if self.proxy.disarm() {
                    return None;
                }
                let status = status.expect("the agent hangs");
                // It may be gone already when the command is its good-bye.
                let killed = status.signal() == Some(9);
                assert!(
                    killed || (part == GOODBYE && status.success()),
                    "{status}: {}",
                    self.agent.log()
                );
                Outcome::Resumed
            }
            Blow::Cut => {
                self.proxy.arm(number, side, || {});
                let code = self.run();
                if self.proxy.disarm() {
                    return None;
                }
                // The bootstrap itself goes on; the checks before it, which have
                // nothing to go on with, may leave it to systemd to try again.
                let allowed = code == 0 || (code == 75 && part == CHECKS);
                assert!(allowed, "exit code {code}: {}", self.agent.log());
                Outcome::of(code).unwrap()
            }
        };
        if outcome != Outcome::Finished {
            self.run_well("the run after the blow");
        }
        Some(outcome)
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

mod on_mariadb {
    use super::Build;
    use super::the_end_state_is_the_same_wherever_the_agent_is_killed_or_cut_off as strike;

    #[test]
    fn v10_11_the_end_state_is_the_same_wherever_the_agent_is_killed_or_cut_off() {
        strike(Build::Host);
    }

    /// A server kills no agents: on the newer one connections are cut alone, at a
    /// sample of the points.
    #[test]
    fn v11_8_the_end_state_is_the_same_wherever_the_agent_is_cut_off() {
        strike(Build::Debian13);
    }
}

fn the_end_state_is_the_same_wherever_the_agent_is_killed_or_cut_off(build: Build) {
    let started = Instant::now();
    let host = build == Build::Host;
    let server = Server::start_build(build, &[]);
    let mut bench = Bench::new(&server, "undisturbed");
    bench.proxy.arm(usize::MAX, Side::Before, || {});
    bench.run_well("undisturbed");
    let script = Script::new(bench.proxy.log());
    let undisturbed = bench.end_state(true);
    // Enough to be the whole story: all operations were committed one by one.
    assert_eq!(script.commits(), OPERATIONS.len(), "{:#?}", script.commands);
    bench.proxy.disarm();
    let making_the_key = script.numbers("key/system/deploy");

    let (points, kinds) = if host {
        (script.every_point(), &[Blow::Kill, Blow::Cut][..])
    } else {
        (script.points().into(), &[Blow::Cut][..])
    };
    let blows: Vec<(Blow, Point)> = points
        .iter()
        .flat_map(|point| kinds.iter().map(|blow| (*blow, *point)))
        .collect();
    let section = |fault, about| {
        let section = Section::new(build.name(), fault, about, &script);
        Mutex::new(section.whole(host))
    };
    let killed = section(
        "the agent is killed",
        "SIGKILL to the agent, and another run.",
    );
    let cut = section(
        "the connection breaks",
        "Both sides see the connection end; the server lives.",
    );
    let commit_lost = section(
        "COMMIT is lost on its way",
        "The connection breaks before the server has seen the COMMIT: nothing of the operation is there.",
    );
    let answer_lost = section(
        "the answer to COMMIT is lost",
        "The connection breaks after the server has committed and before the agent hears of it: the record tells.",
    );
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 4);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (server, blows, undisturbed, script) = (&server, &blows, &undisturbed, &script);
            let (next, making_the_key) = (&next, making_the_key.clone());
            let (killed, cut) = (&killed, &cut);
            let (commit_lost, answer_lost) = (&commit_lost, &answer_lost);
            scope.spawn(move || {
                let _guard = StopOthers(next);
                let mut bench = Bench::new(server, &format!("crash{worker}"));
                while let Some((blow, point)) = blows.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let command = &script.commands[point.number - 1];
                    let at = format!("{blow:?} {point:?} {command}");
                    let part = script.part(point.number);
                    let outcome = bench.strike(*blow, *point, part);
                    let outcome = outcome.unwrap_or_else(|| panic!("{at}: not reached"));
                    // Another bcrypt takes as long as all the rest: it looks at
                    // the transaction that makes the key, and at a sample.
                    let verify = making_the_key.contains(&point.number) || point.number % 8 == 0;
                    assert_eq!(&bench.end_state(verify), undisturbed, "{at}");
                    let commit = command.ends_with("COMMIT");
                    if commit && (*blow, point.side) == (Blow::Cut, Side::After) {
                        // It was this run that made it, although it did not hear so.
                        let made = (part.to_owned(), "created".to_owned());
                        assert!(bench.agent.operations().contains(&made), "{at}");
                    }
                    match (blow, point.side) {
                        (Blow::Kill, _) => killed,
                        (Blow::Cut, Side::Before) if commit => commit_lost,
                        (Blow::Cut, Side::After) if commit => answer_lost,
                        (Blow::Cut, _) => cut,
                    }
                    .lock()
                    .unwrap()
                    .add(part, outcome);
                }
            });
        }
    });
    // One past the last command: the run finishes undisturbed.
    let past = Point {
        number: script.commands.len() + 1,
        side: Side::Before,
    };
    assert_eq!(bench.strike(Blow::Kill, past, GOODBYE), None);
    assert_eq!(bench.end_state(true), undisturbed);
    let sections = [
        Some(killed).filter(|_| host),
        Some(cut),
        Some(commit_lost),
        Some(answer_lost),
    ];
    for section in sections.into_iter().flatten() {
        section.into_inner().unwrap().publish();
    }
    let seconds = started.elapsed().as_secs_f64();
    tell(build, &script, kinds, points.len(), seconds);
}

#[expect(clippy::print_stdout, reason = "how much was struck")]
fn tell(build: Build, script: &Script, kinds: &[Blow], points: usize, seconds: f64) {
    println!(
        "{}: {} commands, {} commits: {kinds:?} at {points} points; {seconds:.0} s",
        build.name(),
        script.commands.len(),
        script.commits(),
    );
}
