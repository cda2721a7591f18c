use super::super::facts::{NodeRow, Others};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn series(text: &str) -> Series {
    text.parse().unwrap()
}

/// `0.8` with its predecessor `0.7`.
fn image(minor: u64) -> Image {
    Image {
        series: series(&format!("0.{minor}")),
        predecessor: minor.checked_sub(1).map(|n| series(&format!("0.{n}"))),
        release: format!("0.{minor}.1"),
        image_version: format!("0.{minor}.1-1"),
    }
}

/// About the node "me".
fn facts(slots: &[(u8, u64)], nodes: &[(&str, u64)]) -> Facts {
    let mut others: BTreeMap<Series, Vec<String>> = BTreeMap::new();
    for (fqdn, minor) in nodes.iter().filter(|(fqdn, _)| *fqdn != "me") {
        let names = others.entry(image(*minor).series).or_default();
        names.push((*fqdn).to_owned());
    }
    let own = nodes.iter().find(|(fqdn, _)| *fqdn == "me");
    Facts {
        slots: slots
            .iter()
            .map(|(slot, minor)| Slot {
                slot: *slot,
                series: image(*minor).series,
                predecessor: image(*minor).predecessor,
                release: image(*minor).release,
            })
            .collect(),
        own: own.map(|(_, minor)| NodeRow {
            series: Some(image(*minor).series),
            instance_id: "i".into(),
            ..NodeRow::default()
        }),
        others: others
            .into_iter()
            .map(|(series, names)| (series, names.into_iter().collect()))
            .collect(),
        ..Facts::default()
    }
}

/// The decision in a word, for the table.
fn word(decision: &Decision) -> String {
    match decision {
        Decision::Proceed(How::Join { slot }) => format!("join {slot}"),
        Decision::Proceed(How::Introduce {
            slot, retire: None, ..
        }) => format!("introduce {slot}"),
        Decision::Proceed(How::Introduce {
            slot,
            retire: Some(series),
            ..
        }) => format!("introduce {slot} for {series}"),
        Decision::Wait(failure) | Decision::Refuse(failure) => failure.code.id.to_owned(),
    }
}

#[test]
fn every_case_has_its_answer() {
    const NO: &str = "SF-GATE-VERSION";
    type Case = (
        u64,
        &'static [(u8, u64)],
        &'static [(&'static str, u64)],
        &'static str,
    );
    let table: [Case; 19] = [
        // Before the bootstrap.
        (7, &[], &[], "SF-GATE-WAITING"),
        // The cluster's own series.
        (7, &[(0, 7)], &[], "join 0"),
        (7, &[(0, 7)], &[("me", 7), ("a", 7)], "join 0"),
        (8, &[(0, 7), (1, 8)], &[("a", 7), ("b", 8)], "join 1"),
        (7, &[(0, 7), (1, 8)], &[("me", 8), ("b", 8)], "join 0"),
        // One up, one down, with a free slot.
        (8, &[(0, 7)], &[("a", 7)], "introduce 1"),
        (8, &[(1, 7)], &[("a", 7)], "introduce 0"),
        (7, &[(1, 8)], &[("a", 8)], "introduce 0"),
        // Two away, in both directions, even where nobody runs anything.
        (9, &[(0, 7)], &[("a", 7)], NO),
        (9, &[(0, 7)], &[], NO),
        (9, &[(0, 7)], &[("me", 7)], NO),
        (6, &[(0, 8)], &[("a", 8)], NO),
        // Both slots held.
        (9, &[(0, 7), (1, 8)], &[("a", 7), ("b", 8)], NO),
        (6, &[(0, 7), (1, 8)], &[("a", 7), ("b", 8)], NO),
        (10, &[(0, 7), (1, 8)], &[("b", 8)], NO),
        // One of the two is left by its last node: by others, or by this one.
        (9, &[(0, 7), (1, 8)], &[("b", 8)], "introduce 0 for 0.7"),
        (
            9,
            &[(0, 7), (1, 8)],
            &[("me", 7), ("b", 8)],
            "introduce 0 for 0.7",
        ),
        (
            6,
            &[(0, 7), (1, 8)],
            &[("me", 8), ("b", 7)],
            "introduce 1 for 0.8",
        ),
        // Room, but the series that stays is no neighbour.
        (9, &[(0, 7), (1, 8)], &[("b", 7)], NO),
    ];
    for (minor, slots, nodes, expected) in table {
        let decision = decide(&image(minor), &facts(slots, nodes));
        assert_eq!(
            word(&decision),
            expected,
            "0.{minor} in {slots:?} {nodes:?}"
        );
    }
}

#[test]
fn records_that_make_no_sense_clear_nothing() {
    let lost = Facts {
        lost: Some("the cluster's series is gone".into()),
        ..Facts::default()
    };
    let Decision::Refuse(failure) = decide(&image(7), &lost) else {
        panic!("to wait would be in vain");
    };
    assert_eq!(failure.code.id, "SF-BOOTSTRAP-DAMAGED");
    let mut odd = facts(&[(0, 7)], &[]);
    odd.unreadable.push("slot 1 holds \"x\"".into());
    assert_eq!(word(&decide(&image(7), &odd)), "SF-GATE-RECORD");
    // The schema does not allow three; the function answers all the same.
    let three = facts(&[(0, 7), (1, 8), (2, 9)], &[]);
    assert_eq!(word(&decide(&image(10), &three)), "SF-GATE-VERSION");
}

#[test]
fn a_refusal_names_holders_and_what_would_work() {
    let Decision::Refuse(failure) = decide(
        &image(9),
        &facts(
            &[(0, 7), (1, 8)],
            &[
                ("n1", 7),
                ("n2", 7),
                ("n3", 7),
                ("n4", 7),
                ("n5", 7),
                ("n6", 7),
                ("n7", 7),
                ("x", 8),
            ],
        ),
    ) else {
        panic!("not refused")
    };
    insta::assert_snapshot!(failure.what, @"this image is release 0.9.1 of series 0.9, which runs beside 0.8 at most; the cluster runs series 0.7 (n1, n2, n3, n4, n5 and 2 more) and series 0.8 (x)");
    insta::assert_snapshot!(failure.remedy_text(), @"Boot an image of series 0.7 or 0.8. Series 0.9 can come in once no node runs 0.7 any more: upgrade n1, n2, n3, n4, n5 and 2 more, or free the row of a dead node with `sf-firstboot cluster forget NODE`.");

    let Decision::Refuse(failure) = decide(&image(9), &facts(&[(0, 7)], &[])) else {
        panic!("not refused")
    };
    insta::assert_snapshot!(failure.remedy_text(), @"Boot an image of series 0.7, of 0.6 before it, or of the series that follows 0.7. To get to 0.9, upgrade the cluster one series at a time.");
}

#[test]
fn what_was_not_counted_is_not_numbered() {
    let six = || (1..=6).map(|n| format!("n{n}"));
    assert_eq!(
        six().collect::<Others>().to_string(),
        "n1, n2, n3, n4, n5 and 1 more"
    );
    let uncounted = Others {
        more: None,
        ..six().collect()
    };
    assert_eq!(uncounted.to_string(), "n1, n2, n3, n4, n5 and more");
    assert_eq!(
        six().take(5).collect::<Others>().to_string(),
        "n1, n2, n3, n4, n5"
    );
}

proptest! {
    /// Whatever is recorded: after a Proceed at most two series are recorded,
    /// all neighbours, and no series with nodes of others was retired.
    #[test]
    fn no_answer_leads_to_three_series(
        minor in 5u64..12,
        first in 5u64..12,
        second in prop::option::of(5u64..12),
        nodes in prop::collection::vec((0usize..6, 0usize..2), 0..8),
    ) {
        let mut slots = vec![(0, first)];
        // What the gate itself let in: a second series is a neighbour.
        slots.extend(second.filter(|s| s.abs_diff(first) == 1).map(|s| (1, s)));
        let names = ["me", "a", "b", "c", "d", "e"];
        let mut rows: Vec<(&str, u64)> = Vec::new();
        for (name, slot) in nodes {
            if !rows.iter().any(|(there, _)| *there == names[name]) {
                rows.push((names[name], slots[slot.min(slots.len() - 1)].1));
            }
        }
        let others = rows.iter().filter(|(name, _)| *name != "me");
        let held: Vec<Series> = others.map(|(_, minor)| image(*minor).series).collect();
        let facts = facts(&slots, &rows);
        let image = image(minor);
        if let Decision::Proceed(how) = decide(&image, &facts) {
            let mut after: Vec<(u8, Series)> =
                facts.slots.iter().map(|slot| (slot.slot, slot.series)).collect();
            if let How::Introduce { slot, beside, retire } = how {
                after.retain(|(_, series)| Some(*series) != retire);
                prop_assert!(after.iter().all(|(taken, _)| *taken != slot));
                prop_assert!(after.iter().any(|(_, series)| *series == beside));
                after.push((slot, image.series));
            }
            prop_assert!(after.len() <= 2 && after.iter().all(|(slot, _)| *slot < 2));
            prop_assert!(after.iter().any(|(_, series)| *series == image.series));
            for held in held {
                prop_assert!(after.iter().any(|(_, series)| *series == held));
            }
            let minors: Vec<u64> = after.iter().map(|(_, series)| {
                series.to_string().rsplit_once('.').unwrap().1.parse().unwrap()
            }).collect();
            prop_assert!(minors.iter().all(|n| n.abs_diff(minors[0]) <= 1));
        }
    }
}
