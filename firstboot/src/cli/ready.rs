//! `sf-firstboot ready`: internal, for the unit sf-ready.service.

use clap::Args;

use super::{Outcome, Stop, need_root};
use crate::card::Card;
use crate::database;
use crate::image::{Given, Image};
use crate::paths::Paths;
use crate::ready;
use crate::report::{Phase, Reporter, by_hand};
use crate::units;

/// Waits until the daemons answer (run by sf-ready.service).
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct Command {}

impl Command {
    #[expect(clippy::unused_self, reason = "all subcommands are called alike")]
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        need_root(paths)?;
        let mut reporter = Reporter::resume(paths);
        reporter.phase(Phase::Ready);
        let result = Image::read(paths, &Given::default())
            .map_err(|failure| vec![failure])
            .and_then(|image| {
                let runtime = database::runtime().map_err(|failure| vec![failure])?;
                runtime.block_on(ready::wait(paths, &image, &mut |text| {
                    reporter.progress(text);
                }))
            });
        match result {
            Ok(daemons) => {
                reporter.ready(&daemons);
                units::bless(paths);
                Ok(())
            }
            Err(failures) => {
                let card = Card::new(failures);
                reporter.failed(&card);
                Err(if by_hand() {
                    Stop::Card(card)
                } else {
                    Stop::Said(card.exit_code())
                })
            }
        }
    }
}
