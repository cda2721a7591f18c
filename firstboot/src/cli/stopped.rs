//! `sf-firstboot stopped`: internal, for the unit sf-firstboot.service.

use clap::Args;

use super::{Outcome, need_root};
use crate::card::Card;
use crate::image::{Given, Image};
use crate::paths::Paths;
use crate::report::{Audience, Phase, Reporter};
use crate::unstarted;

/// Says why systemd could not start the agent, if it could not (run by sf-firstboot.service).
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct Command {}

impl Command {
    #[expect(clippy::unused_self, reason = "all subcommands are called alike")]
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        need_root(paths)?;
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (code, status) = (variable("EXIT_CODE"), variable("EXIT_STATUS"));
        let Some(failure) = unstarted::failure(paths, &code, &status) else {
            return Ok(());
        };
        let mut reporter = Reporter::new(paths, Audience::Node);
        reporter.phase(Phase::Discover);
        // An image that cannot be read is not what this is about.
        if let Ok(image) = Image::read(paths, &Given::default()) {
            reporter.image(&image);
        }
        reporter.failed(&Card::new(vec![failure]));
        Ok(())
    }
}
