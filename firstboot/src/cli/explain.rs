//! `sf-firstboot explain`: where a field's value comes from, or what a code means.

use std::path::PathBuf;

use clap::Args;

use super::again::Again;
use super::{Outcome, Stop, narrate, print, print_json};
use crate::card::{self, Card};
use crate::codes::{self, Code};
use crate::engine::node;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::sources::{self, Remote};

/// Says which source a metadata field comes from and what it shadows, or what a failure code means.
///
/// Without an argument: all fields, set or not. Where a source cannot be read, or
/// what it says of these fields is no value, that is said last, and the exit code is its own.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Metadata field by its dotted path (`database.dsn`), or a failure code (`SF-DB-REFUSED`).
    #[arg(value_name = "FIELD|CODE")]
    topic: Option<String>,
    /// Node metadata to use before what is found on this machine; may be repeated, the last wins.
    #[arg(long, value_name = "FILE")]
    metadata: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn caller(&self) -> (Again, bool) {
        (Again::of_metadata(&self.metadata), self.json)
    }

    pub(super) fn run(self, paths: &Paths) -> Outcome {
        if let Some(id) = self
            .topic
            .as_deref()
            .filter(|topic| topic.to_ascii_uppercase().starts_with("SF-"))
        {
            let code = codes::find(id).ok_or_else(|| unknown_code(id))?;
            if self.json {
                let exit_code = (!code.only_warns()).then(|| code.kind.exit_code());
                return print_json(serde_json::json!({
                    "code": code.id,
                    "kind": code.kind,
                    "title": code.title,
                    "why": code.why,
                    "remedy": code.remedy,
                    "exit_code": exit_code,
                }));
            }
            print(&explained(code))?;
            return Ok(());
        }
        // Quick, and the same with a dead server: what is kept of an earlier
        // answer counts. With a file named, this is about another machine.
        let remote = if self.metadata.is_empty() {
            Remote::Kept
        } else {
            Remote::Skip
        };
        let places = node::places(paths, &self.metadata).remote(remote);
        let collected = sources::collect(&places);
        for place in &collected.looked {
            tracing::debug!("looked at {place}");
        }
        for place in collected.unasked() {
            tracing::warn!("{place}; `sf-firstboot check` asks it");
        }
        let fields = collected.explain(self.topic.as_deref())?;
        let mistakes = collected.mistakes(self.topic.as_deref());
        let card = (!mistakes.is_empty()).then(|| self.caller().0.card(Card::new(mistakes)));
        if self.json {
            print_json(serde_json::json!({
                "ok": card.is_none(),
                "exit_code": card.as_ref().map_or(0, Card::exit_code),
                "fields": fields,
                "findings": card.as_ref().map_or(&[][..], |card| &card.findings),
            }))?;
        } else {
            let lines: Vec<String> = fields.iter().map(ToString::to_string).collect();
            print(&format!("{}\n", lines.join("\n")))?;
        }
        match card {
            None => Ok(()),
            Some(card) => {
                narrate(&card.errors());
                Err(Stop::Said(card.exit_code()))
            }
        }
    }
}

fn unknown_code(id: &str) -> Failure {
    let ids = codes::ALL.iter().map(|code| code.id);
    let near = sf_contract::document::did_you_mean(&id.to_ascii_uppercase(), ids).map_or_else(
        || "docs/reference/errors.md lists them all.".to_owned(),
        |near| format!("did you mean {near}?"),
    );
    Failure::new(&codes::USAGE, format!("there is no code {id}")).remedy(near)
}

fn explained(code: &Code) -> String {
    let exit = if code.only_warns() {
        "none: a warning stops nothing".to_owned()
    } else {
        format!(
            "{} ({}): {}",
            code.kind.exit_code(),
            card::kind_name(code.kind),
            card::acts(code.kind)
        )
    };
    format!(
        "{}: {}\n\nExit    {exit}\nWhy     {}\nRemedy  {}\n",
        code.id, code.title, code.why, code.remedy
    )
}
