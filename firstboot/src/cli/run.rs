//! `sf-firstboot run`.

use clap::Args;

use super::{Outcome, Stop, need_root};
use crate::engine;
use crate::paths::Paths;
use crate::report::{Audience, Reporter, by_hand};

/// Runs all phases: what the unit sf-firstboot.service does on every boot.
#[derive(Debug, Args)]
pub(super) struct Command {}

impl Command {
    #[expect(clippy::unused_self, reason = "all subcommands are called alike")]
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        need_root(paths)?;
        let mut reporter = Reporter::new(paths, Audience::Node);
        engine::run(paths, &mut reporter).map_err(|card| {
            // The log and the card have said it to a service.
            if by_hand() {
                Stop::Card(card)
            } else {
                Stop::Said(card.exit_code())
            }
        })
    }
}
