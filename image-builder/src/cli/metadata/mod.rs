//! `sf-image metadata …`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use sf_contract::failure::Kind;
use sf_contract::release::Release;
use sf_contract::role::Role;

use super::{RootArg, finish};
use crate::check::Checked;
use crate::error::Report;
use crate::metadata::judge::judge;
use crate::metadata::{Audience, Verdict, read};

mod check;
mod new;
mod seal;

/// Write, judge and hand over the metadata of nodes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::Args),
    Check(check::Args),
    Seal(seal::Args),
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        match self.command {
            Command::New(args) => finish(false, args.run()),
            Command::Check(args) => args.run(),
            Command::Seal(args) => finish(args.json, args.run()),
        }
    }
}

/// Which node the metadata is for.
#[derive(Debug, clap::Args)]
struct For {
    /// The profile of the node's image [default: judge what all roles have in common]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The release of Shaken Fist in the node's image
    #[arg(long, value_name = "NAME", default_value = "0.7")]
    release: String,
    #[command(flatten)]
    root: RootArg,
}

impl For {
    /// Reads and judges files. Also tells whom for, as in "for a hypervisor of
    /// release 0.7".
    fn judge(&self, files: &[PathBuf], node: Option<&str>) -> Result<(Verdict, String), Report> {
        let (_, checked) = self.root.open_checked()?;
        let release = release(&checked, &self.release)?;
        let (audience, whom) = match &self.profile {
            Some(name) => {
                let role = role(&checked, name)?;
                (Audience::Role(role), format!("a node of role {role}"))
            }
            None => (
                Audience::Any(Role::ALL.to_vec()),
                "nodes of any role".into(),
            ),
        };
        let sources = read::sources(files, node)?;
        let verdict = judge(sources, release, &audience);
        Ok((verdict, format!("{whom}, release {}", release.name)))
    }
}

/// What is said when the metadata is wrong.
fn wrong(verdict: &Verdict, files: &[PathBuf], whom: &str) -> Report {
    let many = match verdict.problems.len() {
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    };
    Report::text(
        Kind::Configuration,
        format!("{} is not right for {whom}: {many}", names(files)),
    )
    .detail(format!("{}\n\n{}", verdict.frames(), verdict.besides()))
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    names.join(" + ")
}

fn release<'c>(checked: &'c Checked, name: &str) -> Result<&'c Release, Report> {
    checked.releases.get(name).ok_or_else(|| {
        let known: Vec<&str> = checked.releases.keys().map(String::as_str).collect();
        Report::text(Kind::Usage, format!("there is no release \"{name}\""))
            .hint(Some(format!("there are: {}", known.join(", "))))
    })
}

fn role(checked: &Checked, profile: &str) -> Result<Role, Report> {
    if let Some(resolved) = checked.resolved.get(profile) {
        return Ok(resolved.role);
    }
    let known: Vec<&str> = checked.resolved.keys().map(String::as_str).collect();
    Err(Report::text(
        Kind::Usage,
        format!("there is no profile \"{profile}\" that images are built from"),
    )
    .hint(Some(format!("there are: {}", known.join(", ")))))
}
