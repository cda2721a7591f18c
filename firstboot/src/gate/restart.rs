//! The gate before a daemon's restart. A database outage must never take down
//! a running cloud, so it refuses only what is known to be wrong.

use super::clearance::ClearanceRecord;
use super::decide::{Decision, Image, decide};
use super::facts::Facts;
use crate::codes;
use crate::failure::Failure;

/// May a daemon of `image` start again? `stored` is the clearance that is kept,
/// `live` what the database says now, `None` when it cannot be asked. Returns
/// why it may.
pub fn restart(
    image: &Image,
    fqdn: &str,
    stored: Option<&ClearanceRecord>,
    boot_id: &str,
    live: Option<&Facts>,
) -> Result<String, Box<Failure>> {
    let cleared = stored.is_some_and(|record| {
        record.boot_id == boot_id
            && record.fqdn == fqdn
            && record.series == image.series
            && record.image_version == image.image_version
    });
    match live.map(|facts| decide(image, fqdn, facts)) {
        Some(Decision::Proceed(_)) if cleared => Ok(format!("series {} may run", image.series)),
        Some(Decision::Wait(_)) | None if cleared => Ok(
            "cleared earlier during this boot; the database cannot say otherwise now".to_owned(),
        ),
        Some(Decision::Refuse(failure) | Decision::Wait(failure)) => Err(failure),
        // The agent has not finished: it keeps the clearance, and the unit
        // comes after it.
        Some(Decision::Proceed(_)) => Err(Box::new(Failure::new(
            &codes::GATE_NO_CLEARANCE,
            "the agent has not cleared this boot yet",
        ))),
        None => Err(Box::new(Failure::new(
            &codes::GATE_NO_CLEARANCE,
            "this boot has no clearance and the database cannot be asked for one",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::facts::Slot;

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
            series: "0.7".parse().unwrap(),
            release: "0.7.1".into(),
            image_version: "1".into(),
            boot_id: "b".into(),
            passed_at: 1.0,
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
            ..Facts::default()
        }
    }

    type Case<'a> = (Option<&'a ClearanceRecord>, Option<&'a Facts>, &'a str);

    #[test]
    fn only_a_known_mismatch_or_no_clearance_stops_a_daemon() {
        let (same, other, empty) = (live("0.7"), live("0.9"), Facts::default());
        let kept = record();
        let stale = ClearanceRecord {
            boot_id: "earlier".into(),
            ..record()
        };
        let renamed = ClearanceRecord {
            fqdn: "m".into(),
            ..record()
        };
        let table: [Case<'_>; 9] = [
            (Some(&kept), Some(&same), "ok"),
            (Some(&kept), None, "ok"),
            // A database that was restored empty is not a known mismatch.
            (Some(&kept), Some(&empty), "ok"),
            (Some(&kept), Some(&other), "SF-GATE-VERSION"),
            (None, None, "SF-GATE-NO-CLEARANCE"),
            (None, Some(&same), "SF-GATE-NO-CLEARANCE"),
            (None, Some(&empty), "SF-GATE-WAITING"),
            (Some(&stale), None, "SF-GATE-NO-CLEARANCE"),
            (Some(&renamed), None, "SF-GATE-NO-CLEARANCE"),
        ];
        for (stored, facts, expected) in table {
            let found = match restart(&image("0.7"), "n", stored, "b", facts) {
                Ok(_) => "ok",
                Err(failure) => failure.code.id,
            };
            assert_eq!(found, expected, "{stored:?} {facts:?}");
        }
    }

    #[test]
    fn another_image_is_not_covered_by_the_clearance() {
        let mut image = image("0.7");
        image.image_version = "2".into();
        assert!(restart(&image, "n", Some(&record()), "b", None).is_err());
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
