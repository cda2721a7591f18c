//! Every small history of a cluster, against the gate's decisions; and a sample
//! of the same histories against a real server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;

use sf_firstboot::gate::Decision;
use support::history::{Cluster, Ended, Event, Minor, name};
use support::metadata::{bootstrapped, image};
use support::replay::{Random, history};
use support::shared;

const NODES: usize = 4;
const SERIES: std::ops::RangeInclusive<Minor> = 5..=9;

/// All that can happen to four nodes with images of five series.
fn events() -> Vec<Event> {
    let mut all = Vec::new();
    for node in 0..NODES {
        all.extend(SERIES.map(|minor| Event::Boot(node, minor)));
        all.extend([Event::Off(node), Event::Forget(node), Event::Restart(node)]);
    }
    all.push(Event::Lose);
    all
}

/// Every state that any history leads to, and from each every event: no three
/// series run together, no step of a rolling upgrade is refused, and what a
/// refusal advises works.
#[test]
fn every_history_of_four_nodes_and_five_series() {
    let events = events();
    let mut seen = BTreeSet::new();
    let mut new = vec![Cluster::new(7)];
    let (mut steps, mut refusals) = (0_u32, 0_u32);
    while let Some(cluster) = new.pop() {
        for event in events.iter().filter(|event| cluster.possible(**event)) {
            steps += 1;
            if let Event::Boot(node, minor) = *event {
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
            let next = next.canonical(NODES);
            if seen.insert(next.clone()) {
                new.push(next);
            }
        }
    }
    // Far fewer would mean that the model stands still.
    assert!(
        seen.len() > 300 && steps > 9_000 && refusals > 3_000,
        "{} states, {steps} steps, {refusals} refusals",
        seen.len()
    );
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
    let event = events[random.below(events.len() - 1)];
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
