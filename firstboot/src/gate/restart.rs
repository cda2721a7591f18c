//! The gate before a daemon's restart. A database outage must never take down
//! a running cloud, so it refuses only what is known to be wrong.

use super::clearance::ClearanceRecord;
use super::decide::{Decision, Image, decide};
use super::facts::Facts;
use super::pass::Node;
use super::refusal::Refusal;
use crate::claim::{self, Step};
use crate::codes;
use crate::failure::Failure;

/// What helps where it is the agent that is waited for, and not the database.
pub const NOT_CLEARED: &str = "See what the agent waits for, or why it has stopped \
                               (`sf-firstboot status`), and mend that; the unit keeps trying. \
                               Where the agent has ended well, what it left in \
                               /run/sf-firstboot is lost or damaged: \
                               systemctl restart sf-firstboot.";

/// Why a daemon may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// The record says so.
    Recorded,
    /// This boot was cleared, and the database cannot say otherwise now.
    ClearedEarlier,
    /// This boot was cleared and nothing speaks against it, but the record does
    /// not know it, or not as the holder of its role: the node was forgotten or
    /// its role released while it ran, or the database was restored from an older
    /// backup. It has to be recorded again, or others would be let in beside a
    /// series that nobody counts, or a second one would take the role.
    Unrecorded,
}

impl std::fmt::Display for May {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Recorded => "the cluster's record says so",
            Self::ClearedEarlier => {
                "cleared earlier during this boot; the database cannot say otherwise now"
            }
            Self::Unrecorded => "cleared earlier during this boot, and not recorded any more",
        })
    }
}

/// May a daemon of `image` start again? `stored` is the clearance that is kept,
/// `refused` a refusal since, `live` what the database says now, `None` when it
/// cannot be asked. As long as it says nothing new, a refusal stands.
pub fn restart(
    image: &Image,
    node: &Node,
    (stored, refused): (Option<&ClearanceRecord>, Option<&Refusal>),
    boot_id: &str,
    live: Option<&Facts>,
) -> Result<May, Box<Failure>> {
    let cleared = stored.is_some_and(|record| {
        record.boot_id == boot_id
            && record.fqdn == node.fqdn
            && record.series == image.series
            && record.image_version == image.image_version
    });
    // Cleared, but under another name: no database helps with that.
    let renamed =
        stored.filter(|record| !cleared && record.boot_id == boot_id && record.fqdn != node.fqdn);
    let not_cleared = |what: &str| {
        Box::new(match renamed {
            Some(record) => under_another_name(&record.fqdn, &node.fqdn),
            None => Failure::new(&codes::GATE_NO_CLEARANCE, what),
        })
    };
    let refused = refused.filter(|refusal| refusal.boot_id == boot_id);
    let Some(facts) = live else {
        return match refused {
            Some(refusal) => Err(Box::new(refusal.failure())),
            None if cleared => Ok(May::ClearedEarlier),
            None => Err(not_cleared(
                "this boot has no clearance and the database cannot be asked for one",
            )),
        };
    };
    match (decide(image, facts), refused) {
        // A database that was restored empty says nothing either.
        (Decision::Wait(_), Some(refusal)) => return Err(Box::new(refusal.failure())),
        (Decision::Wait(_), None) if cleared => return Ok(May::ClearedEarlier),
        // The series are gone, and nobody else is let in beside it; what the
        // record still says of names and roles holds.
        (Decision::Refuse(failure), None)
            if cleared && failure.code.id == codes::BOOTSTRAP_DAMAGED.id =>
        {
            claim::judge(node, facts)?;
            return Ok(May::ClearedEarlier);
        }
        (Decision::Refuse(failure) | Decision::Wait(failure), _) => return Err(failure),
        (Decision::Proceed(_), _) => {}
    }
    // Another machine under this name, or another holder of this node's role.
    let step = claim::judge(node, facts)?;
    if !cleared {
        // The agent has not finished: it keeps the clearance, and the unit
        // comes after it.
        let failure = not_cleared("the agent has not cleared this boot yet");
        return Err(if renamed.is_some() {
            failure
        } else {
            Box::new(
                failure
                    .remedy(NOT_CLEARED)
                    .next_command("sf-firstboot status"),
            )
        });
    }
    let recorded = facts
        .own
        .as_ref()
        .is_some_and(|row| row.series == Some(image.series));
    Ok(if recorded && !matches!(step, Step::Take { .. }) {
        May::Recorded
    } else {
        May::Unrecorded
    })
}

fn under_another_name(cleared: &str, named: &str) -> Failure {
    Failure::new(
        &codes::GATE_NO_CLEARANCE,
        format!(
            "this boot was cleared for {cleared}, and the metadata calls this node {named} now"
        ),
    )
    .value(named)
    .source("metadata field node.name")
    .remedy(format!(
        "Run `systemctl restart sf-firstboot`: it passes the gate as {named}. Or give the node \
         its name back."
    ))
    .next_command("systemctl restart sf-firstboot")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Claim;
    use crate::gate::facts::{NodeRow, Slot};
    use sf_contract::role::Role;

    fn image(series: &str) -> Image {
        Image {
            series: series.parse().unwrap(),
            predecessor: None,
            release: format!("{series}.1"),
            image_version: "1".into(),
        }
    }

    fn record() -> ClearanceRecord {
        ClearanceRecord {
            fqdn: "n".into(),
            instance_id: "disk/hw".into(),
            series: "0.7".parse().unwrap(),
            release: "0.7.1".into(),
            image_version: "1".into(),
            boot_id: "b".into(),
            passed_at: 1.0,
        }
    }

    fn node() -> Node {
        Node {
            fqdn: "n".into(),
            role: Role::Network,
            instance_id: "disk/hw".into(),
        }
    }

    fn live(series: &str) -> Facts {
        Facts {
            slots: vec![Slot {
                slot: 0,
                series: series.parse().unwrap(),
                predecessor: None,
                release: String::new(),
            }],
            own: Some(NodeRow {
                series: Some(series.parse().unwrap()),
                instance_id: "disk/hw".into(),
                ..NodeRow::default()
            }),
            ..Facts::default()
        }
    }

    fn holding(series: &str) -> Facts {
        let mut facts = live(series);
        facts.claims.push(Claim {
            role: "network".into(),
            fqdn: "n".into(),
            instance_id: "disk/hw".into(),
            claimed_at: 0.0,
            last_boot: None,
        });
        facts
    }

    type Case<'a> = (Option<&'a ClearanceRecord>, Option<&'a Facts>, &'a str);

    #[test]
    fn only_a_known_mismatch_or_no_clearance_stops_a_daemon() {
        let (same, other, empty) = (holding("0.7"), live("0.9"), Facts::default());
        let kept = record();
        let stale = ClearanceRecord {
            boot_id: "earlier".into(),
            ..record()
        };
        let renamed = ClearanceRecord {
            fqdn: "m".into(),
            ..record()
        };
        let forgotten = Facts {
            own: None,
            ..live("0.7")
        };
        let restored = Facts {
            own: None,
            ..live("0.8")
        };
        let mut after = live("0.8");
        after.slots[0].predecessor = Some("0.7".parse().unwrap());
        after.own = None;
        let mut cloned = live("0.7");
        cloned.own.as_mut().unwrap().instance_id = "other/machine".into();
        let mut handed_over = holding("0.7");
        handed_over.claims[0].fqdn = "m".into();
        let released = live("0.7");
        let lost = Facts {
            lost: Some("the cluster's series is gone".into()),
            ..Facts::default()
        };
        let without_series = |facts: &Facts| Facts {
            slots: Vec::new(),
            ..Facts {
                lost: lost.lost.clone(),
                ..facts.clone()
            }
        };
        let (lost_and_held, lost_and_cloned) =
            (without_series(&handed_over), without_series(&cloned));
        let unreadable = Facts {
            unreadable: vec!["series x".into()],
            ..lost.clone()
        };
        let table: [Case<'_>; 20] = [
            (Some(&kept), Some(&same), "Recorded"),
            (Some(&kept), None, "ClearedEarlier"),
            // A database that was restored empty is not a known mismatch.
            (Some(&kept), Some(&empty), "ClearedEarlier"),
            (Some(&kept), Some(&lost), "ClearedEarlier"),
            (None, Some(&lost), "SF-BOOTSTRAP-DAMAGED"),
            // What is left of the record still holds.
            (Some(&kept), Some(&lost_and_held), "SF-CLAIM-HELD"),
            (Some(&kept), Some(&lost_and_cloned), "SF-NODE-CLONE"),
            (Some(&kept), Some(&unreadable), "SF-GATE-RECORD"),
            // Forgotten while it ran; and its series retired since.
            (Some(&kept), Some(&forgotten), "Unrecorded"),
            (Some(&kept), Some(&after), "Unrecorded"),
            // Its role was released while it ran, and nobody has taken it.
            (Some(&kept), Some(&released), "Unrecorded"),
            (Some(&kept), Some(&restored), "SF-GATE-VERSION"),
            (Some(&kept), Some(&cloned), "SF-NODE-CLONE"),
            (Some(&kept), Some(&handed_over), "SF-CLAIM-HELD"),
            (Some(&kept), Some(&other), "SF-GATE-VERSION"),
            (None, None, "SF-GATE-NO-CLEARANCE"),
            (None, Some(&same), "SF-GATE-NO-CLEARANCE"),
            (None, Some(&empty), "SF-GATE-WAITING"),
            (Some(&stale), None, "SF-GATE-NO-CLEARANCE"),
            (Some(&renamed), None, "SF-GATE-NO-CLEARANCE"),
        ];
        for (stored, facts, expected) in table {
            let found = match restart(&image("0.7"), &node(), (stored, None), "b", facts) {
                Ok(may) => format!("{may:?}"),
                Err(failure) => failure.code.id.to_owned(),
            };
            assert_eq!(found, expected, "{stored:?} {facts:?}");
        }
    }

    #[test]
    fn a_node_that_was_renamed_since_is_told_what_to_do() {
        let renamed = ClearanceRecord {
            fqdn: "m".into(),
            ..record()
        };
        for facts in [None, Some(&holding("0.7"))] {
            let stored = (Some(&renamed), None);
            let failure = restart(&image("0.7"), &node(), stored, "b", facts).unwrap_err();
            assert_eq!(
                failure.what,
                "this boot was cleared for m, and the metadata calls this node n now"
            );
            assert!(
                failure
                    .remedy_text()
                    .contains("systemctl restart sf-firstboot")
            );
            let stored = (Some(&renamed), None);
            let failure = restart(&image("0.7"), &node(), stored, "later", facts).unwrap_err();
            assert!(!failure.what.contains("cleared for"), "{failure}");
        }
    }

    #[test]
    fn a_refusal_stands_until_the_record_says_otherwise() {
        type Case<'a> = (
            Option<&'a ClearanceRecord>,
            &'a Refusal,
            Option<&'a Facts>,
            &'a str,
        );
        let refusal = |boot: &str| {
            Refusal::of(&Failure::new(&codes::CLAIM_HELD, "net2 holds it"), boot).unwrap()
        };
        let (kept, mark, earlier) = (record(), refusal("b"), refusal("earlier"));
        let (same, empty, other) = (holding("0.7"), Facts::default(), live("0.9"));
        let table: [Case<'_>; 7] = [
            (Some(&kept), &mark, None, "SF-CLAIM-HELD"),
            (None, &mark, None, "SF-CLAIM-HELD"),
            (Some(&kept), &mark, Some(&empty), "SF-CLAIM-HELD"),
            (Some(&kept), &mark, Some(&same), "Recorded"),
            (Some(&kept), &mark, Some(&other), "SF-GATE-VERSION"),
            (Some(&kept), &earlier, None, "ClearedEarlier"),
            (None, &earlier, None, "SF-GATE-NO-CLEARANCE"),
        ];
        for (stored, refused, facts, expected) in table {
            let both = (stored, Some(refused));
            let found = match restart(&image("0.7"), &node(), both, "b", facts) {
                Ok(may) => format!("{may:?}"),
                Err(failure) => failure.code.id.to_owned(),
            };
            assert_eq!(found, expected, "{stored:?} {refused:?} {facts:?}");
        }
    }

    #[test]
    fn another_image_is_not_covered_by_the_clearance() {
        let mut image = image("0.7");
        image.image_version = "2".into();
        assert!(restart(&image, &node(), (Some(&record()), None), "b", None).is_err());
    }

    #[test]
    fn the_record_survives_its_file() {
        let text = serde_json::to_string(&record()).unwrap();
        assert_eq!(
            serde_json::from_str::<ClearanceRecord>(&text).unwrap(),
            record()
        );
    }
}
