//! `sf-firstboot explain`: where a field's value comes from, or what a code means.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::{Outcome, print, print_json};
use crate::card;
use crate::codes::{self, Code};
use crate::engine::node;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::sources::{self, Remote};

/// Says which source a metadata field comes from and what it shadows, or what a failure code means.
///
/// Without an argument: all fields that are set.
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
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        if let Some(id) = self
            .topic
            .as_deref()
            .filter(|topic| topic.to_ascii_uppercase().starts_with("SF-"))
        {
            let code = codes::find(id).ok_or_else(|| unknown_code(id))?;
            if self.json {
                let remedy = code.remedy;
                let exit_code = code.kind.exit_code();
                return print_json(
                    &serde_json::json!({"code": code, "remedy": remedy, "exit_code": exit_code}),
                );
            }
            print(&explained(code));
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
        for failure in &collected.broken {
            tracing::error!(code = failure.code.id, "{failure}");
        }
        let fields = collected.explain(self.topic.as_deref())?;
        if self.json {
            return print_json(&fields);
        }
        let mut text = String::new();
        for field in fields {
            let line = writeln!(text, "{field}");
            // Writing to a String cannot fail.
            debug_assert!(line.is_ok());
        }
        print(&text);
        Ok(())
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
