//! `sf-firstboot cluster forget NODE`.

use std::collections::BTreeSet;
use std::time::Instant;

use clap::Args;
use sf_contract::document::did_you_mean;

use super::super::confirm::Question;
use super::super::{Outcome, print};
use super::{Database, LIMIT, converse, look};
use crate::clock;
use crate::codes;
use crate::failure::Failure;
use crate::fleet::{Fleet, State, hand};
use crate::paths::Paths;

/// A node that booted less than this ago, by the server's clock, is likely to be
/// alive: a day.
const RECENT: f64 = 86_400.0;

/// Removes a node that is gone for good: frees its series, its role and its name.
///
/// Also the way to replace a node's hardware: forget the old machine, then boot the new
/// one under the same name. A node that is alive must not be forgotten; it is
/// recorded again at its next boot.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// The node's name, as `cluster status` shows it, with or without its domain.
    #[arg(value_name = "NODE")]
    node: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// With --yes: in spite of warnings that the node may be alive.
    #[arg(long, requires = "yes")]
    force: bool,
    #[command(flatten)]
    pub(super) database: Database,
}

impl Command {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let (connector, place) = self.database.connector(paths)?;
        let fleet = look(&connector, &place)?;
        let name = known(&fleet, &self.node)?;
        let author = hand::Author::here();
        Question {
            what: &format!("{name} will be forgotten: its series and its role are free then"),
            warnings: &warnings(&fleet, name),
            name,
            yes: self.yes,
            force: self.force,
        }
        .ask()?;
        let seen = hand::Seen::of(&fleet, name);
        let deadline = Instant::now() + LIMIT;
        if !converse(&place, hand::forget(&connector, &seen, &author, deadline))? {
            return Err(changed(name).into());
        }
        print(&format!(
            "{name} is forgotten (recorded as done by {} on {})\n",
            author.user, author.host
        ))?;
        Ok(())
    }
}

/// The node of that name, or of that name without its domain: so the table
/// shows them.
fn known<'f>(fleet: &'f Fleet, name: &str) -> Result<&'f str, Failure> {
    let nodes = fleet.nodes.iter().map(|node| node.fqdn.as_str());
    let claims = fleet.claims.iter().chain(&fleet.schema_maker);
    let holders = claims.map(|claim| claim.fqdn.as_str());
    let all: BTreeSet<&str> = nodes.chain(holders).collect();
    if let Some(known) = all.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(known);
    }
    let hosts = |known: &&&str| {
        let host = known.split_once('.').map_or(**known, |(host, _)| host);
        host.eq_ignore_ascii_case(name)
    };
    let of_name: Vec<&str> = all.iter().filter(hosts).copied().collect();
    match of_name.as_slice() {
        [known] => Ok(known),
        [] => Err(unknown(fleet, name)),
        several => Err(unknown(fleet, name).remedy(format!(
            "Several nodes are called that; write the whole name: {}.",
            several.join(" or ")
        ))),
    }
}

fn unknown(fleet: &Fleet, name: &str) -> Failure {
    let names = fleet.nodes.iter().map(|node| node.fqdn.as_str());
    let failure = Failure::new(
        &codes::NODE_UNKNOWN,
        format!("the cluster's record has no node {name}"),
    )
    .next_command("sf-firstboot cluster status");
    match did_you_mean(name, names) {
        Some(near) => failure.remedy(format!("Did you mean {near}?")),
        None => failure,
    }
}

/// What was confirmed is about what was shown.
fn changed(name: &str) -> Failure {
    Failure::new(
        &codes::UNCONFIRMED,
        format!("{name} has booted, or was forgotten, since it was looked up; nothing was done"),
    )
    .remedy("Look again, and give the command again if it is still to go.")
    .next_command("sf-firstboot cluster status")
}

fn warnings(fleet: &Fleet, name: &str) -> Vec<String> {
    let now = fleet.now;
    let mut warnings = Vec::new();
    if let Some(node) = fleet.nodes.iter().find(|node| node.fqdn == name) {
        if now - node.last_boot < RECENT {
            warnings.push(format!(
                "{name} booted {} ago ({}) and may be alive; a third series may then be let in \
                 beside what it runs",
                clock::ago(node.last_boot, now),
                clock::at(node.last_boot)
            ));
        } else if matches!(node.state, State::Ready | State::Started) {
            warnings.push(format!(
                "{name} was {} when it was last heard of ({}); make sure that it is off",
                node.state.word(),
                clock::at(node.last_boot)
            ));
        }
    }
    let claims = fleet.claims.iter().chain(&fleet.schema_maker);
    for claim in claims.filter(|claim| claim.fqdn == name) {
        warnings.push(format!(
            "{name} holds the {} role; another node may take it then",
            claim.role
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Claim;
    use crate::fleet::Member;

    /// By the clock that wrote the row: the desk's may be years off.
    #[test]
    fn a_node_that_booted_today_may_be_alive() {
        let member = |ago: f64| Member {
            state: State::Failed,
            fqdn: "hv1".into(),
            role: "hypervisor".into(),
            series: None,
            release: String::new(),
            image_version: String::new(),
            phase: "preflight".into(),
            last_boot: 1000.0 + RECENT - ago,
            last_error: None,
        };
        let of = |ago| Fleet {
            now: 1000.0 + RECENT,
            nodes: vec![member(ago)],
            ..Fleet::default()
        };
        let recent = warnings(&of(3600.0 * 3.0), "hv1");
        assert!(recent[0].contains("hv1 booted 3h ago"), "{recent:?}");
        assert!(warnings(&of(RECENT + 1.0), "hv1").is_empty());
    }

    #[test]
    fn who_makes_the_tables_is_not_forgotten_without_a_warning() {
        let fleet = Fleet {
            schema_maker: Some(Claim {
                role: "schema".into(),
                fqdn: "db1.example.com".into(),
                instance_id: String::new(),
                claimed_at: 0.0,
                last_boot: None,
            }),
            ..Fleet::default()
        };
        let name = known(&fleet, "db1").unwrap();
        let warnings = warnings(&fleet, name);
        assert!(
            warnings[0].contains("db1.example.com holds the schema role"),
            "{warnings:?}"
        );
    }
}
