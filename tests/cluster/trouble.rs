//! A server in trouble: killed, stopped, read-only, out of connections, out of
//! disk. For every fault many runs of the real agent stand at their points, of a
//! bootstrap or of a passage of the gate, the fault strikes all of them, and
//! after the recovery each database holds the rows of an undisturbed run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rustix::process::Signal;
use sf_command::{Cmd, Tool};
use support::agent::Agent;
use support::build::Build;
use support::lot::{Lot, Runs as _};
use support::matrix::{self, Outcome, Section};
use support::normal::{EndState, end_state};
use support::proxy::{Proxy, Side, Then};
use support::steps::{Point, Script};
use support::ways::{Booting, Ground, WAYS};
use support::{Admin, Server, block_on, connector, dsn};

/// Longer than the agent gives one statement.
const STALL: Duration = Duration::from_secs(34);

/// Settings under which what was committed survives SIGKILL.
const DURABLE: [&str; 2] = [
    "--innodb-flush-log-at-trx-commit=1",
    "--max-connections=600",
];

/// A server, what undisturbed runs send to it, and what they leave.
struct Bench {
    server: Server,
    script: Script,
    undisturbed: EndState,
    /// Ways through the gate.
    gate: Vec<Ground>,
}

/// Runs that stand at their points.
struct Struck {
    bootstraps: Lot<Agent>,
    /// Of each way through the gate.
    passages: Vec<Lot<Booting>>,
}

impl Struck {
    /// Lets all go on.
    fn open(&self) {
        self.bootstraps.open();
        for lot in &self.passages {
            lot.open();
        }
    }

    /// Kills all of them where they stand.
    fn kill(&mut self) {
        self.bootstraps.kill();
        for lot in &mut self.passages {
            lot.kill();
        }
    }
}

impl Bench {
    fn new(build: Build, options: &[&str]) -> Self {
        Self::on(Server::start_build(build, options))
    }

    fn on(server: Server) -> Self {
        let (proxy, dsn) = place(&server, "undisturbed");
        proxy.arm(usize::MAX, Side::Before, || {});
        let agent = Agent::new("db1.example", &dsn);
        let status = agent.command().spawn().unwrap().wait().unwrap();
        assert!(status.success(), "{status}: {}", agent.log());
        let script = Script::new(proxy.log());
        assert_eq!(script.commits(), support::agent::OPERATIONS.len());
        let undisturbed = end_state(&mut server.admin(), "undisturbed", true);
        let gate = Ground::all(server.admin(), server.address(), &[], "undisturbed");
        Self {
            server,
            script,
            undisturbed,
            gate,
        }
    }

    /// Strikes at all points, as many at a time as can be got to stand there.
    fn strike(
        mut self,
        build: Build,
        fault: &str,
        about: &'static str,
        then: fn(Side) -> Then,
        mut happens: impl FnMut(&mut Server, &mut Struck),
    ) {
        let ways = WAYS.map(|way| way.name);
        let mut gate = Section::at_the_gate(build.name(), fault, about, &ways);
        let mut section = Section::new(build.name(), fault, about, &self.script);
        let mut points = self.script.points();
        let mut passages: Vec<_> = self.gate.iter().map(|way| way.script.points()).collect();
        while !points.is_empty() || passages.iter().any(|points| !points.is_empty()) {
            let mut struck = self.fill(&mut points, &mut passages, then);
            happens(&mut self.server, &mut struck);
            self.judge(struck, &mut section, &mut gate);
        }
        section.publish();
        gate.publish();
    }

    fn fill(
        &self,
        points: &mut VecDeque<Point>,
        passages: &mut [VecDeque<Point>],
        then: fn(Side) -> Then,
    ) -> Struck {
        let mut admin = self.server.admin();
        let (port, address) = (self.server.port, self.server.address());
        let until = Lot::<Agent>::deadline();
        let bootstraps = Lot::fill(points, "run", until, then, |name| {
            admin.database(name);
            let proxy = Proxy::start(port);
            let agent = Agent::new("db1.example", &dsn(name, proxy.port));
            (proxy, agent)
        });
        let passages = self.gate.iter().zip(passages).enumerate();
        let passages = passages.map(|(index, (ground, points))| {
            Lot::fill(points, &format!("way{index}_"), until, then, |name| {
                ground.place(&mut admin, name, address, &[])
            })
        });
        Struck {
            passages: passages.collect(),
            bootstraps,
        }
    }

    /// Ends the runs, and compares what they left.
    fn judge(&self, struck: Struck, section: &mut Section, gate: &mut Section) {
        let mut admin = self.server.admin();
        for (ground, lot) in self.gate.iter().zip(struck.passages) {
            let way = ground.way.name;
            for run in lot.finish() {
                run.agent.gets_ready();
                let at = format!("{:?} of {way}: {}", run.point, run.agent.log());
                ground.judge(&mut admin, &run.name, &at);
                gate.add(way, Outcome::of(run.code).unwrap());
            }
        }
        for run in &struck.bootstraps.finish() {
            let part = self.script.part(run.point.number);
            // Another bcrypt takes as long as all the rest: a sample.
            let verify = part.starts_with("key/") || run.point.number % 8 == 0;
            let at = format!("{:?} of {part}", run.point);
            assert_eq!(
                end_state(&mut admin, &run.name, verify),
                self.undisturbed,
                "{at}"
            );
            section.add(part, Outcome::of(run.code).unwrap());
        }
    }
}

fn place(server: &Server, name: &str) -> (Proxy, String) {
    server.database(name);
    let proxy = Proxy::start(server.port);
    let dsn = dsn(name, proxy.port);
    (proxy, dsn)
}

/// The command and the answer get through, late.
fn pass(_: Side) -> Then {
    Then::Pass
}

fn server_killed(build: Build) {
    Bench::new(build, &DURABLE).strike(
        build,
        "the server is killed",
        "SIGKILL to mariadbd, which is started again on the same files half a second later.",
        |side| match side {
            // The server dies with the command unread, or with the answer unsent.
            Side::Before => Then::Pass,
            Side::After => Then::Cut,
        },
        |server, struck| {
            server.kill();
            struck.open();
            std::thread::sleep(Duration::from_millis(500));
            server.launch(&DURABLE);
        },
    );
}

/// As for an update of its packages: it answers whoever comes meanwhile that it
/// is shutting down (1053, 1927), or hangs up.
fn server_shut_down(build: Build) {
    Bench::new(build, &DURABLE).strike(
        build,
        "the server is shut down",
        "SIGTERM to mariadbd, which is started again on the same files half a second after it has ended.",
        |side| match side {
            Side::Before => Then::Pass,
            Side::After => Then::Cut,
        },
        |server, struck| {
            server.signal(Signal::TERM);
            struck.open();
            server.stop();
            std::thread::sleep(Duration::from_millis(500));
            server.launch(&DURABLE);
        },
    );
}

fn agent_killed(build: Build) {
    Bench::new(build, &DURABLE).strike(
        build,
        "the agent is killed, many at once",
        "SIGKILL to the agent, and another run.",
        |_| Then::Cut,
        |_, struck| {
            struck.kill();
            struck.open();
        },
    );
}

fn stalled(build: Build) {
    Bench::new(build, &DURABLE).strike(
        build,
        "the server stalls",
        "SIGSTOP to mariadbd, and SIGCONT after 34 s: longer than the 30 s that the agent gives a statement.",
        |side| match side {
            // The command lies in the socket until the server wakes up, when the
            // client has long gone elsewhere.
            Side::Before => Then::Pass,
            Side::After => Then::Silence,
        },
        |server, struck| {
            server.signal(Signal::STOP);
            struck.open();
            std::thread::sleep(STALL);
            server.signal(Signal::CONT);
        },
    );
}

fn read_only(build: Build) {
    Bench::new(build, &DURABLE).strike(
        build,
        "the server is read-only",
        "SET GLOBAL read_only = 1 in the middle of the run, and 0 two seconds later.",
        pass,
        |server, struck| {
            let mut admin = server.admin();
            admin.run("SET GLOBAL read_only = 1");
            struck.open();
            std::thread::sleep(Duration::from_secs(2));
            admin.run("SET GLOBAL read_only = 0");
        },
    );
}

fn no_connection(build: Build) {
    Bench::new(build, &DURABLE).strike(
        build,
        "no connection is to be had",
        "The connection breaks, and for two seconds the server is at max_connections (error 1040).",
        |_| Then::Cut,
        |server, struck| {
            let mut admin = server.admin();
            // Other clients hold all that there is.
            let holders: Vec<_> = (0..12)
                .map(|_| block_on(connector(&server.dsn("undisturbed")).connect()).unwrap())
                .collect();
            admin.run("SET GLOBAL max_connections = 10");
            struck.open();
            std::thread::sleep(Duration::from_secs(2));
            admin.run("SET GLOBAL max_connections = 600");
            for holder in holders {
                block_on(holder.close());
            }
        },
    );
}

/// A file system of its own that can be filled, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("sf-small-disk-")
            .tempdir()
            .unwrap();
        Cmd::new(Tool::Mount)
            .args(["-t", "tmpfs", "-o", "size=1g", "sf-small-disk"])
            .arg(folder.path())
            .run()
            .expect("a file system to fill needs root");
        Self(folder)
    }

    /// Leaves not one byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("filler")).unwrap();
        let block = vec![1; 64 * 1024];
        for size in [block.len(), 512, 1] {
            while std::io::Write::write_all(&mut file, &block[..size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Cmd::new(Tool::Umount)
            .arg("--lazy")
            .arg(self.0.path())
            .run();
    }
}

fn disk_full(build: Build) {
    let disk = SmallDisk::new();
    let server = Server::start_in(build, disk.0.path(), &[], &DURABLE);
    Bench::on(server).strike(
        build,
        "the server's disk is full",
        "The file system of the data folder has no byte left for four seconds.",
        pass,
        |_, struck| {
            disk.fill();
            struck.open();
            std::thread::sleep(Duration::from_secs(4));
            disk.free();
        },
    );
}

/// A node without a battery behind its clock, and a server without one.
fn clocks_years_behind(build: Build) {
    let preload = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(
        std::path::Path::new(preload).exists(),
        "this test sets clocks back; install the package libfaketime"
    );
    let environment = [
        ("LD_PRELOAD", preload),
        ("FAKETIME", "-9y"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let years = |seconds: f64| seconds / (365.25 * 86400.0);
    let ours = |admin: &mut Admin| {
        admin
            .cell("SELECT UNIX_TIMESTAMP(SYSDATE())")
            .parse::<f64>()
            .unwrap()
    };
    let bench = Bench::new(build, &[]);
    let late = Server::start_in(build, &std::env::temp_dir(), &environment, &[]);
    let behind = ours(&mut bench.server.admin()) - ours(&mut late.admin());
    assert!((8.9..9.1).contains(&years(behind)), "{behind}");
    let table = [
        ("late_agent", "the agent's", &bench.server, &environment[..]),
        ("late_server", "the server's", &late, &[]),
        ("late_both", "both", &late, &environment[..]),
    ];
    let mut section = Section::of_runs(
        build.name(),
        "the clock is years behind",
        "The clock is nine years behind for the whole of a run.",
        &table.map(|(_, whose, ..)| whose),
    )
    .whole(true);
    for (name, whose, server, variables) in table {
        let (_proxy, dsn) = place(server, name);
        let agent = Agent::new("db1.example", &dsn);
        let mut command = agent.command();
        for (key, value) in variables {
            command = command.env(*key, *value);
        }
        let status = command.spawn().unwrap().wait().unwrap();
        assert!(status.success(), "{name}: {status}: {}", agent.log());
        // Times are of the server's clock: end_state looks at that.
        let left = end_state(&mut server.admin(), name, true);
        assert_eq!(left, bench.undisturbed, "{name}");
        section.add(whose, Outcome::Finished);
    }
    section.publish();
}

/// Nothing is lost from the document, and nothing is in it that no test publishes.
#[test]
fn the_document_has_the_sections_that_there_must_be() {
    let text = std::fs::read_to_string(matrix::path()).unwrap();
    let written: BTreeSet<String> = matrix::sections(&text).into_keys().collect();
    let expected = matrix::titles();
    let missing: Vec<_> = expected.difference(&written).collect();
    let odd: Vec<_> = written.difference(&expected).collect();
    assert!(
        missing.is_empty() && odd.is_empty(),
        "docs/reference/crash-matrix.md lacks {missing:#?}, and has {odd:#?}"
    );
    assert!(text.starts_with(matrix::HEAD), "its head is another one");
}

/// The matrix fails a run for what is worse than the written outcome alone.
#[test]
fn an_outcome_that_got_worse_is_noticed() {
    let commands = ["0x01", "CREATE TABLE", "cluster-series", "COMMIT", "0x01"];
    let script = Script::new(commands.map(str::to_owned).to_vec());
    let section = |checks, series| {
        let mut section = Section::new("server", "fault", "About.", &script);
        section.add("checks", checks);
        section.add("cluster-series", series);
        section
    };
    let (good, bad) = (Outcome::Finished, Outcome::Retried);
    let written = section(good, good).body();
    assert_eq!(section(good, good).worse_than(&written), [""; 0]);
    assert_eq!(section(bad, good).worse_than(&written), [""; 0]);
    assert_eq!(section(good, bad).worse_than(&written).len(), 1);
    assert_eq!(section(good, good).worse_than("").len(), 2);
    // A part that is written and not struck any more.
    let mut half = Section::new("server", "fault", "About.", &script);
    half.add("checks", good);
    assert_eq!(half.worse_than(&written).len(), 1);
    // Fewer points, where all of them are struck anyway.
    let mut twice = section(good, good);
    twice.add("checks", good);
    let once = section(good, good).whole(true);
    assert_eq!(once.worse_than(&twice.body()).len(), 1);
    assert_eq!(
        section(good, good).worse_than(&section(bad, bad).body()),
        [""; 0]
    );
}

/// One test for each build, so that they run beside each other.
macro_rules! on_both {
    ($($fault:ident),*) => {
        mod mariadb_10_11 {
            $(#[test] fn $fault() { super::$fault(super::Build::Host); })*
        }
        mod mariadb_11_8 {
            $(#[test] fn $fault() { super::$fault(super::Build::Debian13); })*
        }
    };
}

on_both!(
    agent_killed,
    server_killed,
    server_shut_down,
    stalled,
    read_only,
    no_connection,
    disk_full,
    clocks_years_behind
);
