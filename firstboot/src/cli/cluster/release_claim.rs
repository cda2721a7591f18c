//! `sf-firstboot cluster release-claim ROLE`.

use std::time::Instant;

use clap::Args;

use super::super::confirm::Question;
use super::super::{Outcome, print};
use super::{Database, LIMIT, converse, look};
use crate::claim::RELEASABLE;
use crate::clock;
use crate::codes;
use crate::failure::Failure;
use crate::fleet::hand;
use crate::paths::Paths;

/// Frees a role that one node holds, so that another node may take it.
///
/// Stop the holder first: it keeps doing the role's work for as long as it runs. `schema` is held by the node that makes
/// the release's tables, while it does.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// The role: network, or schema.
    #[arg(value_name = "ROLE", value_parser = RELEASABLE)]
    role: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) database: Database,
}

impl Command {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let (connector, place) = self.database.connector(paths)?;
        let fleet = look(&connector, &place)?;
        let mut claims = fleet.claims.iter().chain(&fleet.schema_maker);
        let Some(claim) = claims.find(|claim| claim.role == self.role) else {
            return Err(nobody(&self.role).into());
        };
        let author = hand::Author::here();
        let booted = claim
            .last_boot
            .map(|at| format!(", last booted {}", clock::at(at)));
        Question {
            what: &format!(
                "The {} role is taken from {} (held since {}{}), which must be off",
                claim.role,
                claim.fqdn,
                clock::at(claim.claimed_at),
                booted.unwrap_or_default()
            ),
            warnings: &[],
            name: &claim.role,
            yes: self.yes,
            force: false,
        }
        .ask()?;
        let deadline = Instant::now() + LIMIT;
        let done = hand::release(&connector, claim, &author, deadline);
        if !converse(&place, done)? {
            return Err(nobody(&self.role).into());
        }
        print(&format!(
            "the {} role is free; {} held it (recorded as done by {} on {})\n",
            claim.role, claim.fqdn, author.user, author.host
        ))?;
        Ok(())
    }
}

fn nobody(role: &str) -> Failure {
    Failure::new(
        &codes::CLAIM_FREE,
        format!("no node holds the {role} role, or its holder has booted or changed since it was looked up"),
    )
    .next_command("sf-firstboot cluster status")
}
