//! `sf-firstboot stopped`: internal, for the unit sf-firstboot.service.

use clap::Args;

use super::{Outcome, need_root};
use crate::card::Card;
use crate::identity;
use crate::image::{Given, Image};
use crate::paths::Paths;
use crate::report::{Audience, Phase, Reporter};
use crate::status::{State, Status};
use crate::unstarted::{self, End};

/// Says how the agent ended, if it could not say so itself (run by sf-firstboot.service).
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct Command {}

impl Command {
    #[expect(clippy::unused_self, reason = "all subcommands are called alike")]
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        need_root(paths)?;
        let variable = |name| std::env::var(name).unwrap_or_default();
        let boot = identity::boot_id(paths);
        let end = End {
            code: variable("EXIT_CODE"),
            status: variable("EXIT_STATUS"),
            result: variable("SERVICE_RESULT"),
            untold: Status::read(paths)
                .is_some_and(|status| status.state == State::Running && status.boot_id == boot),
        };
        let Some(failure) = unstarted::failure(paths, &end) else {
            return Ok(());
        };
        if end.ran() {
            // Where it came to is told by the status that it left.
            Reporter::resume(paths).failed(&Card::new(vec![failure]));
            return Ok(());
        }
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
