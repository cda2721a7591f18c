//! The decision: one total function of what is known.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sf_contract::series::Series;

use super::facts::{Facts, Slot};
use crate::codes;
use crate::failure::Failure;

/// What the image says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Series of its Shaken Fist release.
    pub series: Series,
    /// The series that may run beside it.
    pub predecessor: Option<Series>,
    /// Shaken Fist's version, `0.7.2`.
    pub release: String,
    /// The image's own version, `0.7.2-1`.
    pub image_version: String,
}

/// How a node gets into the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Its series is recorded: one row for the node.
    Join {
        /// The slot that the series holds.
        slot: u8,
    },
    /// Its series is not recorded, a neighbour is, and there is room.
    Introduce {
        /// The slot that the series is going to hold.
        slot: u8,
        /// The neighbour, which has to stay.
        beside: Series,
        /// The series without nodes that leaves the slot first.
        retire: Option<Series>,
    },
}

/// The gate's answer.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Go on.
    Proceed(How),
    /// Nothing is recorded yet; asking again later helps.
    Wait(Box<Failure>),
    /// No, and why, and what would work.
    Refuse(Box<Failure>),
}

/// May `image` run on the node that `facts` are about? Writes and reads nothing.
pub fn decide(image: &Image, facts: &Facts) -> Decision {
    if !facts.unreadable.is_empty() {
        return Decision::Refuse(Box::new(Failure::new(
            &codes::GATE_RECORD,
            format!(
                "the cluster's version record cannot be understood: {}",
                facts.unreadable.join("; ")
            ),
        )));
    }
    if let Some(slot) = facts.slots.iter().find(|slot| slot.series == image.series) {
        return Decision::Proceed(How::Join { slot: slot.slot });
    }
    if let Some(lost) = &facts.lost {
        return Decision::Refuse(Box::new(Failure::new(
            &codes::BOOTSTRAP_DAMAGED,
            lost.as_str(),
        )));
    }
    match facts.slots.as_slice() {
        [] => Decision::Wait(Box::new(Failure::new(
            &codes::GATE_WAITING,
            "the cluster has no recorded version yet",
        ))),
        [only] if adjacent(image, only) => Decision::Proceed(How::Introduce {
            slot: 1 - only.slot.min(1),
            beside: only.series,
            retire: None,
        }),
        [first, second] => [(first, second), (second, first)]
            .into_iter()
            .find(|(keep, leave)| adjacent(image, keep) && facts.no_other_on(leave.series))
            .map_or_else(
                || refuse(image, facts),
                |(keep, leave)| {
                    Decision::Proceed(How::Introduce {
                        slot: leave.slot,
                        beside: keep.series,
                        retire: Some(leave.series),
                    })
                },
            ),
        _ => refuse(image, facts),
    }
}

/// N beside N+1, whichever of the two is the image: each knows only the one
/// before it.
fn adjacent(image: &Image, slot: &Slot) -> bool {
    image.predecessor == Some(slot.series) || slot.predecessor == Some(image.series)
}

fn refuse(image: &Image, facts: &Facts) -> Decision {
    let holders: Vec<String> = facts
        .slots
        .iter()
        .map(|slot| {
            let nodes = facts.others_on(slot.series);
            format!("series {} ({nodes})", slot.series)
        })
        .collect();
    let predecessor = match image.predecessor {
        Some(series) => format!("runs beside {series} at most"),
        None => "runs beside no other".to_owned(),
    };
    let failure = Failure::new(
        &codes::GATE_VERSION,
        format!(
            "this image is release {} of series {}, which {predecessor}; the cluster runs {}",
            image.release,
            image.series,
            holders.join(" and ")
        ),
    )
    .value(image.series.to_string())
    .source(format!("image {}", image.image_version))
    .remedy(what_would_work(image, facts))
    .next_command("sf-firstboot cluster status");
    Decision::Refuse(Box::new(failure))
}

fn what_would_work(image: &Image, facts: &Facts) -> String {
    match facts.slots.as_slice() {
        [only] => {
            let before = only
                .predecessor
                .map(|series| format!(", of {series} before it"))
                .unwrap_or_default();
            format!(
                "Boot an image of series {}{before}, or of the series that follows {}. \
                 To get to {}, upgrade the cluster one series at a time.",
                only.series, only.series, image.series
            )
        }
        slots => {
            let series: Vec<String> = slots.iter().map(|slot| slot.series.to_string()).collect();
            let mut text = format!("Boot an image of series {}.", series.join(" or "));
            for keep in slots.iter().filter(|slot| adjacent(image, slot)) {
                for leave in slots.iter().filter(|slot| slot.series != keep.series) {
                    let nodes = facts.others_on(leave.series);
                    let _infallible = write!(
                        text,
                        " Series {} can come in once no node runs {} any more: upgrade {nodes}, or \
                         free the row of a dead node with `sf-firstboot cluster forget NODE`.",
                        image.series, leave.series,
                    );
                }
            }
            text
        }
    }
}

#[cfg(test)]
mod tests;
