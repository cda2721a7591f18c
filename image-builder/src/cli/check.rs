//! `sf-image check`.

use sf_contract::failure::Kind;

use super::RootArg;
use crate::error::Report;

/// Validate all profiles and releases; needs neither root nor network
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    root: RootArg,
}

impl Args {
    pub(super) fn run(self) -> Result<String, Report> {
        let checkout = self.root.open()?;
        let checked = crate::check::check(&checkout);
        if checked.problems.is_empty() {
            return Ok(format!(
                "{} profiles and {} releases are right\n",
                checked.profiles.len(),
                checked.releases.len()
            ));
        }
        let frames = crate::check::report(&checked.problems, &checkout);
        Err(Report::text(
            Kind::Configuration,
            "the profiles and releases are not right",
        )
        .detail(frames))
    }
}
