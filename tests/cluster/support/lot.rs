//! Many runs of the real agent, each stopped at a point of its own and in a
//! database of its own, so that one fault strikes all of them at once.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use sf_command::Child;

use super::agent::Agent;
use super::matrix::Outcome;
use super::proxy::{At, Proxy, Side, Then};
use super::steps::Point;

/// Runs that are on their way at once. More would only wait for processors, and
/// run into the agent's own time limits on a slow machine.
const AT_ONCE: usize = 10;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(280);

/// The barrier at which runs stop.
#[derive(Default)]
pub(crate) struct Barrier {
    state: Mutex<(BTreeSet<usize>, bool)>,
    changed: Condvar,
}

impl Barrier {
    /// Stands here until it opens.
    pub(crate) fn park(&self, index: usize) {
        let mut state = self.state.lock().unwrap();
        state.0.insert(index);
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Who stands here.
    pub(crate) fn parked(&self) -> BTreeSet<usize> {
        self.state.lock().unwrap().0.clone()
    }

    /// Until that many stand here, or for a minute.
    pub(crate) fn wait_for(&self, count: usize) -> bool {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.parked().len() < count && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.parked().len() >= count
    }

    /// Lets everybody go on, now and later.
    pub(crate) fn open(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.1 = true;
        }
        self.changed.notify_all();
    }
}

/// One of the runs.
pub(crate) struct Run {
    pub(crate) point: Point,
    /// Its database.
    pub(crate) name: String,
    pub(crate) proxy: Proxy,
    pub(crate) agent: Agent,
    child: Child,
    /// Exit code, or minus the signal, once it has ended.
    pub(crate) code: i32,
}

/// Runs that stand at their points.
pub(crate) struct Lot {
    barrier: Arc<Barrier>,
    runs: Vec<Run>,
}

impl Drop for Lot {
    fn drop(&mut self) {
        self.barrier.open();
    }
}

impl Lot {
    /// Starts a run for every point and returns when all stand there. `place`
    /// makes the database of that name with a proxy in front, and gives the DSN;
    /// `then` says what becomes of the connection once the fault has struck.
    pub(crate) fn fill(
        points: &[Point],
        prefix: &str,
        then: fn(Side) -> Then,
        mut place: impl FnMut(&str) -> (Proxy, String),
    ) -> Self {
        let mut lot = Self {
            barrier: Arc::default(),
            runs: Vec::new(),
        };
        for (index, point) in points.iter().enumerate() {
            let name = format!("{prefix}{index}");
            let (proxy, dsn) = place(&name);
            let barrier = Arc::clone(&lot.barrier);
            let side = point.side;
            proxy.arm_then(At::Command(point.number), side, move || {
                barrier.park(index);
                then(side)
            });
            let agent = Agent::new("db1.example", &dsn);
            let child = agent.command().spawn().unwrap();
            lot.runs.push(Run {
                point: *point,
                name,
                proxy,
                agent,
                child,
                code: -1,
            });
            lot.wait_for(index + 1, AT_ONCE);
        }
        lot.wait_for(points.len(), 1);
        lot
    }

    /// Until fewer than `under` of the first `started` are on their way.
    fn wait_for(&mut self, started: usize, under: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let parked = self.barrier.parked();
            if started - parked.len() < under {
                return;
            }
            for (index, run) in self.runs.iter_mut().enumerate() {
                let ended = run.child.try_wait().unwrap();
                // The last command is one that the agent does not wait for.
                let early = ended.is_some() && !self.barrier.parked().contains(&index);
                assert!(
                    !early,
                    "{:?}: not reached: {}\n{:#?}\n{:?}",
                    run.point,
                    run.agent.log(),
                    run.proxy.log(),
                    run.proxy.errors()
                );
            }
            assert!(
                Instant::now() < deadline,
                "the runs do not get to their points"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets all go on.
    pub(crate) fn open(&self) {
        self.barrier.open();
    }

    /// Kills all of them where they stand.
    pub(crate) fn kill(&mut self) {
        for run in &mut self.runs {
            run.child.kill().unwrap();
        }
    }

    /// Waits for the ends. A run that was killed or ended with 75 has been run
    /// again, and well; its own end stays with it.
    pub(crate) fn finish(mut self) -> Vec<Run> {
        let deadline = Instant::now() + PATIENCE;
        let mut runs = std::mem::take(&mut self.runs);
        for run in &mut runs {
            run.code = end(&mut run.child, deadline);
            let good = Outcome::of(run.code).is_some();
            assert!(good, "{:?}: {}: {}", run.point, run.code, run.agent.log());
        }
        let deadline = Instant::now() + PATIENCE;
        for chunk in runs
            .iter_mut()
            .filter(|run| run.code != 0)
            .collect::<Vec<_>>()
            .chunks_mut(AT_ONCE)
        {
            for run in &mut *chunk {
                run.child = run.agent.command().spawn().unwrap();
            }
            for run in chunk {
                let code = end(&mut run.child, deadline);
                assert_eq!(
                    code,
                    0,
                    "{:?}: the next run: {}",
                    run.point,
                    run.agent.log()
                );
            }
        }
        runs
    }
}

fn end(child: &mut Child, deadline: Instant) -> i32 {
    let left = deadline.saturating_duration_since(Instant::now());
    let status = child.wait_timeout(left).unwrap();
    let status = status.expect("an agent hangs");
    status
        .code()
        .unwrap_or_else(|| -status.signal().unwrap_or_default())
}
