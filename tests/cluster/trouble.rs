//! A server in trouble: killed, stopped, read-only, out of connections, out of
//! disk. For every fault many runs of the real agent stand at their points, the
//! fault strikes all of them, and after the recovery each database holds the
//! rows of an undisturbed run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::build::Build;
use support::lot::Lot;
use support::matrix::{Outcome, Section};
use support::normal::{EndState, end_state};
use support::proxy::{Proxy, Side, Then};
use support::steps::{Script, every_step};
use support::{Admin, Server, dsn};

/// Settings under which what was committed survives SIGKILL.
const DURABLE: [&str; 2] = [
    "--innodb-flush-log-at-trx-commit=1",
    "--max-connections=600",
];

/// A server, what an undisturbed run sends to it, and what that leaves.
struct Bench {
    server: Server,
    script: Script,
    undisturbed: EndState,
}

impl Bench {
    fn new(build: Build, options: &[&str]) -> Self {
        Self::on(Server::start_build(build, options))
    }

    fn on(server: Server) -> Self {
        let (proxy, dsn) = place(&server, "undisturbed");
        proxy.arm(usize::MAX, Side::Before, || {});
        let agent = support::agent::Agent::new("db1.example", &dsn);
        let status = agent.command().spawn().unwrap().wait().unwrap();
        assert!(status.success(), "{status}: {}", agent.log());
        let script = Script::new(proxy.log());
        assert_eq!(script.commits(), support::agent::OPERATIONS.len());
        let undisturbed = end_state(&mut server.admin(), "undisturbed", true);
        Self {
            server,
            script,
            undisturbed,
        }
    }

    fn fill(&self, then: fn(Side) -> Then) -> Lot {
        let mut admin = self.server.admin();
        Lot::fill(&self.script.points(), "run", then, |name| {
            admin.database(name);
            let proxy = Proxy::start(self.server.port);
            let dsn = dsn(name, proxy.port);
            (proxy, dsn)
        })
    }

    /// Ends the runs, compares what they left, and publishes the outcomes.
    fn judge(&self, lot: Lot, build: Build, fault: &str, about: &'static str) {
        let runs = lot.finish();
        let mut section = Section::new(build.name(), fault, about, &self.script);
        let mut admin = self.server.admin();
        for run in &runs {
            let part = self.script.part(run.point.number);
            // Another bcrypt takes as long as all the rest: a sample.
            let verify = part.starts_with("key/") || run.point.number % 8 == 0;
            let at = format!("{fault}: {:?} of {part}", run.point);
            assert_eq!(end_state(&mut admin, &run.name, verify), self.undisturbed, "{at}");
            section.add(part, Outcome::of(run.code).unwrap());
        }
        section.publish();
        println!("{} {fault}: {} runs", build.name(), runs.len());
    }
}

fn place(server: &Server, name: &str) -> (Proxy, String) {
    server.database(name);
    let proxy = Proxy::start(server.port);
    let dsn = dsn(name, proxy.port);
    (proxy, dsn)
}

fn killed(build: Build) {
    let mut bench = Bench::new(build, &DURABLE);
    let lot = bench.fill(|side| match side {
        // The server dies with the command unread, or with the answer unsent.
        Side::Before => Then::Pass,
        Side::After => Then::Cut,
    });
    bench.server.kill();
    lot.open();
    std::thread::sleep(Duration::from_millis(500));
    bench.server.launch(&DURABLE);
    bench.judge(
        lot,
        build,
        "the server is killed",
        "SIGKILL to mariadbd, which is started again on the same files half a second later.",
    );
}

#[test]
fn a_killed_server_10_11() {
    killed(Build::Host);
}

#[test]
fn a_killed_server_11_8() {
    killed(Build::Debian13);
}
