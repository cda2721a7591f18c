//! Two nodes at the gate at once: one of them stands at a command of its
//! passage while the other passes as a whole, for every command in turn.
//! Whatever comes of it, the record is one that the rules allow, and both that
//! passed are in it.

use std::net::SocketAddr;
use std::sync::Arc;

use sf_firstboot::failure::Failure;

use super::lot::Barrier;
use super::metadata::{bootstrapped, pass};
use super::proxy::{At, Proxy, Side, Then};
use super::{Admin, connector, dsn, dsn_at};

/// A node and the minor number of the series that it boots.
type Boot = (&'static str, u64);

/// What was there, and who crosses whom.
pub(crate) struct Crossing {
    what: &'static str,
    before: &'static [Boot],
    first: Boot,
    second: Boot,
}

/// Joins, introductions and retirements, each across another. A cluster that is
/// bootstrapped has series 0.7.
pub(crate) const ALL: [Crossing; 8] = [
    Crossing {
        what: "a join across the retirement of its series",
        before: &[("h1", 7), ("h2", 8)],
        first: ("h9", 7),
        second: ("h1", 8),
    },
    Crossing {
        what: "a retirement across a join to its series",
        before: &[("h1", 7), ("h2", 8)],
        first: ("h1", 8),
        second: ("h9", 7),
    },
    Crossing {
        what: "two introductions from both sides",
        before: &[("h1", 7), ("h2", 7), ("h3", 7)],
        first: ("h1", 8),
        second: ("h2", 6),
    },
    Crossing {
        what: "two introductions of the same series",
        before: &[("h1", 7), ("h2", 7), ("h3", 7)],
        first: ("h1", 8),
        second: ("h2", 8),
    },
    Crossing {
        what: "a series that is skipped across a join to it",
        before: &[("h1", 7), ("h2", 8)],
        first: ("h1", 9),
        second: ("h9", 7),
    },
    Crossing {
        what: "a series that is skipped across a roll-back to it",
        before: &[("h1", 7), ("h2", 8)],
        first: ("h1", 9),
        second: ("h2", 7),
    },
    Crossing {
        what: "the next upgrade across a roll-back",
        before: &[("h1", 8), ("h2", 8)],
        first: ("h1", 9),
        second: ("h2", 7),
    },
    Crossing {
        what: "the last node of each series skips the other one",
        before: &[("h1", 7), ("h2", 8)],
        first: ("h1", 9),
        second: ("h2", 6),
    },
];

/// The database of the crossings on two servers, or on one.
pub(crate) struct Ground {
    name: String,
    first: SocketAddr,
    second: SocketAddr,
    admin: Admin,
    series: Vec<String>,
}

impl Ground {
    /// A database that is there, to be bootstrapped. The crossing node's
    /// connections go to `first`, those of everybody else to `second`.
    pub(crate) fn new(name: &str, first: SocketAddr, second: SocketAddr, mut admin: Admin) -> Self {
        bootstrapped(&dsn_at(name, second));
        let series = admin.rows(&format!("SELECT * FROM `{name}`.cluster_series"));
        Self {
            name: name.to_owned(),
            first,
            second,
            admin,
            series: series[0].clone(),
        }
    }

    /// Every command of the crossing's first node, both sides; how many.
    pub(crate) fn cross(&mut self, crossing: &Crossing) -> usize {
        // Undisturbed, to count.
        let proxy = Proxy::before(self.first);
        self.reset(crossing);
        proxy.arm(usize::MAX, Side::Before, || {});
        let _ = self.pass_through(&proxy, crossing.first);
        let commands = proxy.log();
        // Those before it reads anything are of no interest.
        let start = commands
            .iter()
            .position(|command| command.contains("SELECT CAST(table_name"))
            .unwrap();
        let mut points = 0;
        for number in start + 1..=commands.len() {
            for side in [Side::Before, Side::After] {
                points += usize::from(self.try_at(&proxy, crossing, number, side));
            }
        }
        assert!(points > 10, "{}: {points} points", crossing.what);
        points
    }

    /// Was the point reached?
    fn try_at(&mut self, proxy: &Proxy, crossing: &Crossing, number: usize, side: Side) -> bool {
        self.reset(crossing);
        let barrier = Arc::new(Barrier::default());
        let hold = Arc::clone(&barrier);
        proxy.arm_then(At::Command(number), side, move || {
            hold.park(0);
            Then::Pass
        });
        let (first, second, reached) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.pass_through(proxy, crossing.first));
            while barrier.parked().is_empty() && !thread.is_finished() {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let reached = !barrier.parked().is_empty();
            let other = scope.spawn(|| {
                let (fqdn, minor) = crossing.second;
                pass(&connector(&dsn_at(&self.name, self.second)), minor, fqdn).map(drop)
            });
            // It may have to wait for a lock that the first one holds.
            let started = std::time::Instant::now();
            while !other.is_finished() && started.elapsed().as_millis() < 300 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            barrier.open();
            (thread.join().unwrap(), other.join().unwrap(), reached)
        });
        proxy.disarm();
        let at = format!("{}, command {number} {side:?}", crossing.what);
        self.judge(&at, &[(crossing.first, first), (crossing.second, second)]);
        reached
    }

    fn pass_through(&self, proxy: &Proxy, (fqdn, minor): Boot) -> Result<(), Failure> {
        pass(&connector(&dsn(&self.name, proxy.port)), minor, fqdn).map(drop)
    }

    fn reset(&mut self, crossing: &Crossing) {
        let name = &self.name;
        let values: Vec<String> = self.series.iter().map(|cell| format!("'{cell}'")).collect();
        self.admin.run(&format!(
            "DELETE FROM `{name}`.bootstrap_nodes; DELETE FROM `{name}`.cluster_series; \
             INSERT INTO `{name}`.cluster_series VALUES ({})",
            values.join(", ")
        ));
        for (fqdn, minor) in crossing.before {
            pass(&connector(&dsn_at(name, self.second)), *minor, fqdn).unwrap();
        }
    }

    fn judge(&mut self, at: &str, passed: &[(Boot, Result<(), Failure>)]) {
        let name = &self.name;
        // What both servers agree on by now.
        self.admin.run("SET SESSION wsrep_sync_wait = 7");
        let minors = |rows: Vec<Vec<String>>| -> Vec<u64> {
            rows.iter()
                .map(|row| row[0].strip_prefix("0.").unwrap().parse().unwrap())
                .collect()
        };
        let series = minors(self.admin.rows(&format!(
            "SELECT series FROM `{name}`.cluster_series ORDER BY slot"
        )));
        let nodes = self.admin.rows(&format!(
            "SELECT fqdn, series FROM `{name}`.bootstrap_nodes"
        ));
        let seen = format!("{at}: {passed:?}: {series:?} {nodes:?}");
        assert!(matches!(series.len(), 1 | 2), "{seen}");
        assert!(
            series.iter().max().unwrap() - series.iter().min().unwrap() <= 1,
            "{seen}"
        );
        for row in &nodes {
            assert!(
                series.iter().any(|minor| row[1] == format!("0.{minor}")),
                "{seen}"
            );
        }
        for ((fqdn, minor), result) in passed {
            match result {
                Ok(()) => assert!(
                    nodes.contains(&vec![(*fqdn).to_owned(), format!("0.{minor}")]),
                    "{seen}"
                ),
                Err(failure) => assert_eq!(failure.code.id, "SF-GATE-VERSION", "{seen}"),
            }
        }
        let refused = passed.iter().filter(|(_, result)| result.is_err()).count();
        assert!(refused < 2, "nobody passed: {seen}");
    }
}
