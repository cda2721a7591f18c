//! `sf-firstboot status`: what this node is, what happened, what to do; to be
//! read at three in the morning.

use std::fmt::Write as _;

use clap::Args;

use super::{Outcome, Stop, print, print_json};
use crate::card;
use crate::codes;
use crate::failure::Failure;
use crate::identity;
use crate::image::{Given, Image};
use crate::paths::Paths;
use crate::status::{State, Status};
use crate::units;
use sf_contract::failure::Kind;

/// Shows what the agent last did on this node, its card if it failed, and the units' states.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

impl Command {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let Some(status) = Status::read(paths) else {
            return Err(Stop::from(
                Failure::new(
                    &codes::STATUS_ABSENT,
                    "the agent has left no status on this machine",
                )
                .next_command("systemctl status sf-firstboot"),
            ));
        };
        let units = unit_states(paths);
        let earlier = status.boot_id != identity::boot_id(paths);
        if self.json {
            return print_json(
                serde_json::json!({"status": status, "earlier_boot": earlier, "units": units}),
            );
        }
        print(&text(&status, earlier, &units))?;
        Ok(())
    }
}

/// The units that matter, with their states.
fn unit_states(paths: &Paths) -> Vec<(String, String)> {
    let mut names = vec!["sf-firstboot.service".to_owned()];
    if let Ok(image) = Image::read(paths, &Given::default()) {
        names.extend(
            image
                .manifest
                .daemons
                .iter()
                .map(|daemon| format!("{daemon}.service")),
        );
    }
    names.extend(["sf-ready.service", "boot-complete.target"].map(str::to_owned));
    names
        .into_iter()
        .map(|name| {
            let state = units::state(paths, &name).unwrap_or_else(|| "unknown".into());
            (name, state)
        })
        .collect()
}

fn text(status: &Status, earlier: bool, units: &[(String, String)]) -> String {
    let unknown = || "unknown".to_owned();
    let mut rows = vec![
        (
            "node",
            format!(
                "{} ({})",
                status.node.clone().unwrap_or_else(unknown),
                status.role.clone().unwrap_or_else(unknown)
            ),
        ),
        (
            "image",
            format!(
                "{} {}, Shaken Fist {}{}",
                status.image_id.clone().unwrap_or_else(unknown),
                status.image_version.clone().unwrap_or_else(unknown),
                status.shakenfist_version.clone().unwrap_or_else(unknown),
                if status.debug { ", DEBUG IMAGE" } else { "" }
            ),
        ),
        ("state", state(status)),
        (
            "since",
            status
                .finished_at
                .clone()
                .unwrap_or_else(|| status.started_at.clone()),
        ),
    ];
    if let Some(waiting) = &status.waiting_for {
        rows.push(("waiting", waiting.clone()));
    }
    if let Some(began) = &status.resumed {
        rows.push(("resumed", format!("a first boot that began {began}")));
    }
    if !status.created.is_empty() {
        rows.push(("created", status.created.join(", ")));
    }
    if earlier {
        rows.push((
            "note",
            "this is from an earlier boot; the agent has not run in this one".into(),
        ));
    }
    for (index, (unit, state)) in units.iter().enumerate() {
        rows.push((
            if index == 0 { "units" } else { "" },
            format!("{unit:<26} {state}"),
        ));
    }
    let mut text = String::new();
    for (label, value) in rows {
        let line = writeln!(text, "{label:<8} {value}");
        // Writing to a String cannot fail.
        debug_assert!(line.is_ok());
    }
    if let Some(card) = &status.card {
        text.push('\n');
        if status.state == State::Running {
            text.push_str("The attempt before this one ended with:\n");
        }
        text.push_str(card);
    }
    text
}

fn state(status: &Status) -> String {
    let seconds = status
        .seconds
        .map(|seconds| format!(" after {seconds} s"))
        .unwrap_or_default();
    match status.state {
        State::Running => format!("running, in phase {}", status.phase),
        State::Started => format!("daemons started{seconds}; waiting for them to answer"),
        State::Ready => "ready: the daemons answer".into(),
        State::Failed => {
            let kind = Kind::ALL
                .into_iter()
                .find(|kind| Some(kind.exit_code()) == status.exit_code);
            format!(
                "FAILED in phase {}{seconds}: {}{}",
                status.phase,
                status.code.as_deref().unwrap_or("unknown"),
                kind.map(|kind| format!(" ({})", card::acts(kind)))
                    .unwrap_or_default()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_node_at_three_in_the_morning() {
        let status = Status {
            node: Some("db1.example.com".into()),
            role: Some("database-tier".into()),
            image_id: Some("sf-database-tier".into()),
            image_version: Some("0.7.2-1".into()),
            shakenfist_version: Some("0.7.2".into()),
            state: State::Failed,
            phase: "preflight".into(),
            seconds: Some(300.2),
            exit_code: Some(75),
            code: Some("SF-DB-REFUSED".into()),
            card: Some("(the card)\n".into()),
            finished_at: Some("2026-11-23T03:00:00.000Z".into()),
            ..Status::default()
        };
        let units = [
            (
                "sf-firstboot.service".to_owned(),
                "activating (auto-restart)".to_owned(),
            ),
            ("sf-api.service".to_owned(), "inactive (dead)".to_owned()),
        ];
        insta::assert_snapshot!(text(&status, false, &units), @"
        node     db1.example.com (database-tier)
        image    sf-database-tier 0.7.2-1, Shaken Fist 0.7.2
        state    FAILED in phase preflight after 300.2 s: SF-DB-REFUSED (tried again by itself until it works)
        since    2026-11-23T03:00:00.000Z
        units    sf-firstboot.service       activating (auto-restart)
                 sf-api.service             inactive (dead)

        (the card)
        ");
    }
}
