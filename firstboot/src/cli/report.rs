//! `sf-firstboot report`: internal, for the unit sf-report.service.

use clap::Args;

use super::{Outcome, need_root};
use crate::call_home;
use crate::database;
use crate::paths::Paths;

/// Posts the agent's result to report.url (run by sf-report.service).
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct Command {}

impl Command {
    #[expect(clippy::unused_self, reason = "all subcommands are called alike")]
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        need_root(paths)?;
        let runtime = database::runtime()?;
        let posted = runtime.block_on(call_home::post(paths));
        runtime.shutdown_background();
        if let Some(url) = posted? {
            tracing::info!(url, "the result was posted");
        } else {
            tracing::info!("there is no result to post");
        }
        Ok(())
    }
}
