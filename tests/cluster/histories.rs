//! Every small history of a cluster, against the gate's decisions; and a sample
//! of the same histories against a real server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use sf_firstboot::gate::Decision;
use support::history::{Cluster, Ended, Event, Minor, name};
use support::metadata::{bootstrapped, image};
use support::replay::{Random, history};
use support::shared;

const NODES: usize = 4;
const SERIES: RangeInclusive<Minor> = 5..=9;

/// All that can happen to four nodes with images of five series.
fn events() -> Vec<Event> {
    events_of(NODES, &SERIES)
}

fn events_of(nodes: usize, series: &RangeInclusive<Minor>) -> Vec<Event> {
    let mut all = Vec::new();
    for node in 0..nodes {
        all.extend(series.clone().map(|minor| Event::Boot(node, minor)));
        all.extend([Event::Off(node), Event::Forget(node)]);
        all.extend([Event::Restart(node), Event::Outage(node)]);
    }
    all
}

/// And with the database: it is lost, and made anew by a node that has not
/// belonged to the cluster, or that was made to forget it.
fn all_events() -> Vec<Event> {
    all_events_of(NODES, &SERIES)
}

fn all_events_of(nodes: usize, series: &RangeInclusive<Minor>) -> Vec<Event> {
    let mut all = events_of(nodes, series);
    for node in 0..nodes {
        all.extend(series.clone().map(|minor| Event::Bootstrap(node, minor)));
        all.push(Event::Reset(node));
    }
    all.push(Event::Lose);
    all
}

/// Every state that any history leads to, and from each every event: no three
/// series run together, no step of a rolling upgrade is refused, and what a
/// refusal advises works.
#[test]
fn every_history_of_four_nodes_and_five_series() {
    let events = all_events();
    let mut seen = BTreeSet::new();
    let mut new = vec![Cluster::new(7)];
    let (mut steps, mut refusals, mut torn) = (0_u32, 0_u32, 0_u32);
    while let Some(cluster) = new.pop() {
        for event in events.iter().filter(|event| cluster.possible(**event)) {
            steps += 1;
            let boots = match *event {
                Event::Boot(node, minor) => Some((node, minor)),
                Event::Bootstrap(node, minor) if cluster.record.is_some() => Some((node, minor)),
                _ => None,
            };
            if let Some((node, minor)) = boots {
                let answer = cluster.answer(node, minor);
                if cluster.legal(node, minor) {
                    assert!(
                        matches!(answer, Decision::Proceed(_)),
                        "a legal step is refused: {event:?} in {cluster:?}: {answer:?}"
                    );
                }
                if let Decision::Refuse(failure) = answer {
                    refusals += 1;
                    advice_works(&cluster, node, minor, &failure);
                }
            }
            let mut next = cluster.clone();
            next.apply(*event);
            next.check();
            stay_down(&next);
            // To try again with an answer is to boot: the history goes on there.
            next.refused.clear();
            if next.torn() {
                torn += 1;
                if next.record.is_some() {
                    strays_come_to_rest(&next);
                }
            }
            // Who has belonged to a cluster never makes another one.
            if cluster.record.is_none() && next.record.is_some() {
                let Event::Bootstrap(node, _) = event else {
                    panic!("{event:?} made a cluster in {cluster:?}");
                };
                assert!(!cluster.members.contains(node), "{event:?} in {cluster:?}");
            }
            let next = next.canonical(NODES);
            if seen.insert(next.clone()) {
                new.push(next);
            }
        }
    }
    // Far fewer would mean that the model stands still.
    assert!(
        seen.len() > 300 && steps > 9_000 && refusals > 3_000 && torn > 100,
        "{} states, {steps} steps, {refusals} refusals, {torn} torn",
        seen.len()
    );
    println!("{} states, {steps} steps", seen.len());
}

/// Daemons that were refused do not start because nobody can be asked.
fn stay_down(cluster: &Cluster) {
    for node in cluster.refused.keys() {
        let mut outage = cluster.clone();
        assert!(
            matches!(outage.apply(Event::Outage(*node)), Ended::Stopped(_)),
            "{cluster:?}"
        );
        assert_eq!(&outage, cluster);
    }
}

/// The same for three nodes and three series, with the refused ones as nodes that
/// were booted and may be asked again, in an outage or not.
#[test]
fn every_history_with_nodes_whose_daemons_were_refused() {
    let (nodes, series) = (3, 6..=8);
    let events = all_events_of(nodes, &series);
    let mut seen = BTreeSet::new();
    let mut new = vec![Cluster::new(7)];
    let (mut stopped, mut back) = (0_u32, 0_u32);
    while let Some(cluster) = new.pop() {
        for event in events.iter().filter(|event| cluster.possible(**event)) {
            let mut next = cluster.clone();
            let ended = next.apply(*event);
            next.check();
            match (event, ended) {
                (Event::Outage(node), Ended::Stopped(_)) => {
                    assert!(cluster.refused.contains_key(node), "{cluster:?}");
                    stopped += 1;
                }
                (Event::Outage(node), Ended::Well) => {
                    assert!(cluster.running.contains_key(node), "{cluster:?}");
                }
                (Event::Restart(node), Ended::Well) if cluster.refused.contains_key(node) => {
                    back += 1;
                }
                _ => {}
            }
            let next = next.canonical(nodes);
            if seen.insert(next.clone()) {
                new.push(next);
            }
        }
    }
    assert!(stopped > 100 && back > 10, "{stopped} stopped, {back} back");
    println!("{} states", seen.len());
}

/// Nodes that run while another one makes the cluster anew are on no record, so
/// no rule sees them. One run of the agent of each, or of a daemon's gate: then
/// they are on it, or are stopped.
fn strays_come_to_rest(torn: &Cluster) {
    let strays: Vec<usize> = torn.strays.iter().copied().collect();
    for first in 0..strays.len() {
        let mut cluster = torn.clone();
        for step in 0..strays.len() {
            let node = strays[(first + step) % strays.len()];
            let minor = cluster.running[&node];
            cluster.apply(if step % 2 == 0 {
                Event::Restart(node)
            } else {
                Event::Boot(node, minor)
            });
            cluster.check();
        }
        assert!(
            cluster.strays.is_empty() && !cluster.torn(),
            "{torn:?}: {cluster:?}"
        );
    }
}

/// As long as every node has belonged to the cluster, and nobody resets one, a
/// lost database stays lost: nothing that starts can part the series.
#[test]
fn a_lost_database_parts_no_series_as_long_as_nobody_begins_anew() {
    let mut random = Random(4);
    let mut lost = 0;
    for _ in 0..20_000 {
        let mut cluster = Cluster::new(7);
        cluster.members = (0..NODES).collect();
        let events: Vec<Event> = all_events()
            .into_iter()
            .filter(|event| !matches!(event, Event::Reset(_)))
            .collect();
        for _ in 0..30 {
            let event = events[random.below(events.len())];
            if cluster.possible(event) {
                cluster.apply(event);
                assert!(!cluster.torn(), "{cluster:?}");
            }
        }
        lost += u32::from(cluster.record.is_none());
    }
    assert!(lost > 1_000, "{lost}");
}

/// A refusal names whoever holds the slots; every series that it says would
/// work does, and so does forgetting the nodes that it names.
fn advice_works(
    cluster: &Cluster,
    node: usize,
    minor: Minor,
    failure: &sf_firstboot::failure::Failure,
) {
    let record = cluster.record.as_ref().unwrap();
    let others = |slot: Minor| {
        record
            .rows
            .iter()
            .filter(move |(other, held)| **other != node && **held == slot)
            .map(|(other, _)| *other)
    };
    for slot in record.slots.iter().flatten() {
        for other in others(*slot) {
            assert!(failure.what.contains(&name(other)), "{failure}");
        }
        assert!(
            failure
                .remedy_text()
                .contains(&image(*slot).series.to_string()),
            "{failure}"
        );
        assert!(matches!(cluster.answer(node, *slot), Decision::Proceed(_)));
    }
    let comes_in = format!("Series {} can come in", image(minor).series);
    if failure.remedy_text().contains(&comes_in) {
        let mut after = cluster.clone();
        for slot in record.slots.iter().flatten() {
            let hint = format!("no node runs {} any more", image(*slot).series);
            if failure.remedy_text().contains(&hint) {
                for other in others(*slot) {
                    after.apply(Event::Forget(other));
                }
            }
        }
        assert!(
            matches!(after.answer(node, minor), Decision::Proceed(_)),
            "{failure}: {}",
            failure.remedy_text()
        );
    }
}

/// Node by node, in any order and with any number of roll-backs, from one
/// series to the next and the one after.
#[test]
fn rolling_upgrades_are_never_refused() {
    let mut random = Random(1);
    for _ in 0..2_000 {
        let nodes = 1 + random.below(6);
        let mut cluster = Cluster::new(6);
        for node in 0..nodes {
            assert_eq!(cluster.apply(Event::Boot(node, 6)), Ended::Well);
        }
        for target in 7..=9 {
            let mut at: Vec<Minor> = vec![target - 1; nodes];
            while at.iter().any(|minor| *minor != target) {
                let node = random.below(nodes);
                let minor = target - u64::from(random.below(3) == 0);
                assert_eq!(
                    cluster.apply(Event::Boot(node, minor)),
                    Ended::Well,
                    "{node} to {minor} in {cluster:?}"
                );
                at[node] = minor;
                cluster.check();
                if random.below(4) == 0 {
                    assert_eq!(cluster.apply(Event::Restart(node)), Ended::Well);
                }
            }
        }
    }
}

/// Tables that are restored from an older backup: once the agents of all
/// running nodes have run again and none was refused, the record is whole.
#[test]
fn a_restored_backup_is_whole_again_when_all_running_nodes_have_passed() {
    let mut random = Random(2);
    let mut whole = 0;
    for _ in 0..20_000 {
        let mut cluster = Cluster::new(7);
        for _ in 0..random.below(8) {
            any_step(&mut cluster, &mut random);
        }
        cluster.apply(Event::Backup);
        for _ in 0..random.below(8) {
            any_step(&mut cluster, &mut random);
        }
        cluster.apply(Event::Restore);
        let running = cluster.running.clone();
        let all = running
            .iter()
            .all(|(node, minor)| cluster.apply(Event::Boot(*node, *minor)) == Ended::Well);
        if all {
            whole += 1;
            for _ in 0..8 {
                any_step(&mut cluster, &mut random);
                cluster.check();
            }
        }
    }
    assert!(whole > 10_000, "{whole}");
}

fn any_step(cluster: &mut Cluster, random: &mut Random) {
    let events = events();
    let event = events[random.below(events.len())];
    if cluster.possible(event) {
        cluster.apply(event);
    }
}

/// The sample: what the model says is what the server holds, after every step.
#[test]
fn sampled_histories_against_a_real_server() {
    let server = shared();
    let mut random = Random(3);
    for round in 0..8 {
        let database = format!("history{round}");
        let connector = bootstrapped(&server.database(&database));
        history(
            &[connector],
            &mut server.admin(),
            &database,
            &mut random,
            30,
        );
    }
}
