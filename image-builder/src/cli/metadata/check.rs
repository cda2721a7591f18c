//! `sf-image metadata check`.

use std::path::PathBuf;
use std::process::ExitCode;

use sf_contract::failure::Kind;

use super::super::{document, finish, print};
use super::{For, names, wrong};
use crate::error::Report;

/// Judge metadata by the rules of the node's agent; shows no confidential value
///
/// Several files are merged like drop-ins: field by field the last one wins.
/// Values that stand in credentials or files of the node are listed as not
/// judged; so is nothing of the machine or the database, which
/// `sf-firstboot check` looks at.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The metadata; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    who: For,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        match self.judge() {
            Ok((text, true)) => print(&text, ExitCode::SUCCESS),
            Ok((text, false)) => print(&text, ExitCode::from(Kind::Configuration.exit_code())),
            Err(report) => finish(self.json, Err(report)),
        }
    }

    /// What goes to standard output, and whether all is right.
    fn judge(&self) -> Result<(String, bool), Report> {
        let (verdict, whom) = self.who.judge(&self.files, None)?;
        let right = verdict.is_right();
        if self.json {
            let mut json = verdict.to_json();
            json["exit_code"] = if right {
                0.into()
            } else {
                Kind::Configuration.exit_code().into()
            };
            json["files"] = serde_json::json!(self.files);
            json["profile"] = serde_json::json!(self.who.profile);
            json["release"] = self.who.release.as_str().into();
            return Ok((document(json), right));
        }
        if !right {
            return Err(wrong(&verdict, &self.files, &whom));
        }
        let text = format!(
            "{} is right for {whom}\n{}",
            names(&self.files),
            verdict.besides()
        );
        Ok((text, true))
    }
}
