//! `sf-firstboot ready`: internal, for the unit sf-ready.service.

use clap::Args;

use super::{Outcome, Stop, need_root};
use crate::card::Card;
use crate::database::{self, Connector};
use crate::engine::{self, node};
use crate::failure::Failure;
use crate::fleet::trace;
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
        let image = Image::read(paths, &Given::default());
        let result = image
            .as_ref()
            .map_err(|failure| vec![failure.clone()])
            .and_then(|image| {
                let runtime = database::runtime().map_err(|failure| vec![failure])?;
                runtime.block_on(ready::wait(paths, image, &mut |text| {
                    reporter.progress(text);
                }))
            });
        if let Ok(image) = &image {
            trace(paths, image, result.as_ref().err());
        }
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

/// Tells the cluster's database, where it can be reached.
fn trace(paths: &Paths, image: &Image, failures: Option<&Vec<Failure>>) {
    let Some(loaded) = node::load_quietly(paths, image) else {
        return;
    };
    let Ok(runtime) = database::runtime() else {
        return;
    };
    let card = failures.map(|failures| Card::new(failures.clone()));
    let cleared = engine::cleared_node(paths, image, &loaded.metadata.node.name);
    runtime.block_on(trace::answered(
        &Connector::of(&loaded.metadata),
        &cleared,
        card.as_ref().map(|card| (card.kind(), card.code())),
    ));
    runtime.shutdown_background();
}
