//! Many runs of the real agent, each stopped at a point of its own and in a
//! database of its own, so that one fault strikes all of them at once.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::process::ExitStatusExt as _;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use sf_command::Child;

use super::matrix::Outcome;
use super::proxy::{At, Proxy, Side, Then};
use super::steps::Point;

/// Runs that are on their way at once. More would only wait for processors, and
/// run into the agent's own time limits on a slow machine.
const AT_ONCE: usize = 10;

/// For how long runs are started before all of them are struck. Whoever stands
/// at a command for longer than the 30 s that the agent gives it goes elsewhere,
/// and is not struck there any more.
const FILLING: Duration = Duration::from_secs(12);

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

/// An agent that can be run again and again.
pub(crate) trait Runs {
    /// Starts a run.
    fn start(&self) -> Child;
    /// What the last run wrote.
    fn log(&self) -> String;
}

/// One of the runs.
pub(crate) struct Run<A> {
    pub(crate) point: Point,
    /// Its database.
    pub(crate) name: String,
    pub(crate) proxy: Proxy,
    pub(crate) agent: A,
    child: Child,
    /// Exit code, or minus the signal, once it has ended.
    pub(crate) code: i32,
}

/// Runs that stand at their points.
pub(crate) struct Lot<A> {
    barrier: Arc<Barrier>,
    runs: Vec<Run<A>>,
}

impl<A> Drop for Lot<A> {
    fn drop(&mut self) {
        self.barrier.open();
    }
}

impl<A: Runs> Lot<A> {
    /// Starts a run for each of the points and returns when all stand there, but
    /// for those that are left for the next time: none may stand for too long.
    /// `place` makes the database of that name with a proxy in front, and the
    /// agent; `then` says what becomes of the connection once the fault has struck.
    pub(crate) fn fill(
        points: &mut VecDeque<Point>,
        prefix: &str,
        until: Instant,
        then: fn(Side) -> Then,
        mut place: impl FnMut(&str) -> (Proxy, A),
    ) -> Self {
        let mut lot = Self {
            barrier: Arc::default(),
            runs: Vec::new(),
        };
        while Instant::now() < until
            && let Some(point) = points.pop_front()
        {
            let index = lot.runs.len();
            let name = format!("{prefix}{index}");
            let (proxy, agent) = place(&name);
            let barrier = Arc::clone(&lot.barrier);
            let side = point.side;
            proxy.arm_then(At::Command(point.number), side, move || {
                barrier.park(index);
                then(side)
            });
            let child = agent.start();
            lot.runs.push(Run {
                point,
                name,
                proxy,
                agent,
                child,
                code: -1,
            });
            lot.wait_for(AT_ONCE);
        }
        lot.wait_for(1);
        lot
    }

    /// When the runs of a lot that is filled now have to be there.
    pub(crate) fn deadline() -> Instant {
        Instant::now() + FILLING
    }

    /// Until fewer than `under` are on their way.
    fn wait_for(&mut self, under: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let parked = self.barrier.parked();
            if self.runs.len() - parked.len() < under {
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
    pub(crate) fn finish(mut self) -> Vec<Run<A>> {
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
                run.child = run.agent.start();
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
