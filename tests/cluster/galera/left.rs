//! A server of the DSN that is of no use any more is left for another one.

use super::*;

/// What happens to the first server of the DSN while all runs stand at their
/// points, and what takes it back, but for what [`Galera::mend`] does.
struct Strike {
    fault: &'static str,
    about: &'static str,
    /// What becomes of a connection that stood at its point.
    then: fn(Side) -> Then,
    happens: fn(&mut Galera),
    back: fn(&mut Galera),
}

/// All runs end while the first server is of no use to them.
fn left_for_another(strike: &Strike) {
    let (cluster, _turn) = Galera::shared();
    let mut cluster = lock(&cluster);
    let base = with_the_gate(&cluster);
    let mut section = Section::new("Galera", strike.fault, strike.about, &base.script);
    let ways = WAYS.map(|way| way.name);
    let mut gate = Section::at_the_gate("Galera", strike.fault, strike.about, &ways);
    let mut points = base.script.points();
    let mut passages: Vec<_> = base.gate.iter().map(|way| way.script.points()).collect();
    let (first, others) = (cluster.address(0), others(&cluster));
    while !points.is_empty() || passages.iter().any(|points| !points.is_empty()) {
        let until = Lot::<Agent>::deadline();
        let lot = Lot::fill(&mut points, "run", until, strike.then, |name| {
            let (proxy, dsn) = place(&cluster, name);
            (proxy, Agent::new("db1.example", &dsn))
        });
        let mut admin = cluster.admin(0);
        let at_the_gate = base.gate.iter().zip(&mut passages).enumerate();
        let at_the_gate: Vec<_> = at_the_gate
            .map(|(index, (ground, points))| {
                let prefix = format!("way{index}_");
                Lot::<Booting>::fill(points, &prefix, until, strike.then, |name| {
                    let placed = ground.place(&mut admin, name, first, &others);
                    everywhere(&cluster);
                    placed
                })
            })
            .collect();
        drop(admin);
        (strike.happens)(&mut cluster);
        lot.open();
        at_the_gate.iter().for_each(Lot::open);
        let runs = lot.finish();
        let passed: Vec<_> = at_the_gate.into_iter().map(Lot::finish).collect();
        (strike.back)(&mut cluster);
        cluster.mend();
        judge(&cluster, &base, &runs, &mut section);
        for (ground, runs) in base.gate.iter().zip(&passed) {
            judge_passages(&cluster, ground, runs, &mut gate);
        }
    }
    section.publish();
    gate.publish();
}

#[test]
fn a_server_that_is_killed_is_left_for_another() {
    left_for_another(&Strike {
        fault: "the agent's server is killed",
        about: "SIGKILL to the first server of the DSN, which stays dead until all runs have ended and then rejoins.",
        then: |side| match side {
            Side::Before => Then::Pass,
            Side::After => Then::Cut,
        },
        happens: |cluster| cluster.kill(0),
        back: |_| {},
    });
}

#[test]
fn a_server_that_is_cut_off_is_left_for_another() {
    left_for_another(&Strike {
        fault: "the agent's server is cut off",
        about: "The first server of the DSN loses its network, without a word to anybody, until all runs have ended.",
        then: |side| match side {
            Side::Before => Then::Pass,
            Side::After => Then::Silence,
        },
        happens: |cluster| cluster.partition(0),
        back: |_| {},
    });
}

#[test]
fn a_server_without_quorum_is_left_for_another() {
    left_for_another(&Strike {
        fault: "the agent's server loses its quorum",
        about: "The first server of the DSN is cut off from its peers, not from its clients: it answers, and takes no statements (error 1047).",
        then: |_| Then::Pass,
        happens: |cluster| cluster.isolate(0),
        back: |cluster| cluster.wait_status(0, "wsrep_cluster_status", "non-Primary"),
    });
}

#[test]
fn a_server_that_is_read_only_is_left_for_another() {
    left_for_another(&Strike {
        fault: "the agent's server becomes read-only",
        about: "SET GLOBAL read_only = 1 on the first server of the DSN, until all runs have ended.",
        then: |_| Then::Pass,
        happens: |cluster| cluster.admin(0).run("SET GLOBAL read_only = 1"),
        back: |cluster| cluster.admin(0).run("SET GLOBAL read_only = 0"),
    });
}

/// It lets agents in and answers what they ask; what they write waits, and comes
/// to nothing (error 1205).
#[test]
fn a_server_that_a_backup_locks_is_left_for_another() {
    left_for_another(&Strike {
        fault: "a backup locks the agent's server",
        about: "FLUSH TABLES WITH READ LOCK on the first server of the DSN, until all runs have ended.",
        then: |_| Then::Pass,
        happens: |cluster| cluster.lock_for_backup(0),
        back: |_| {},
    });
}
