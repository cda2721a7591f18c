//! The command line.
//!
//! Owns: arguments, what goes to which stream, exit codes. Standard output is
//! data, standard error is narration. Refuses: logic; each subcommand calls the
//! library.
//!
//! Exit codes (sysexits): 0 done; 64 wrong usage, an unknown profile or
//! release; 69 this machine, its network or disk; 70 a defect of sf-image; 77 a
//! finding of the hygiene gate; 78 profiles, releases or metadata are wrong, or
//! name a package that does not exist. `boot-test` has its own: 1 the scenario failed,
//! 2 it is wrong.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sf_contract::failure::Kind;

use crate::check::Checked;
use crate::checkout::Checkout;
use crate::error::Report;

mod boot_test;
mod build;
mod check;
mod list;
mod metadata;
mod render;

/// Builds immutable, bootable images of Shaken Fist nodes.
#[derive(Debug, Parser)]
#[command(
    name = "sf-image",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Exit codes: 0 done; 64 wrong usage; 69 this machine, network or disk; 70 a defect; \
    77 something is in the image that must not be; 78 profiles, releases or metadata are wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Args),
    Check(check::Args),
    Render(render::Args),
    List(list::Args),
    Metadata(metadata::Args),
    BootTest(boot_test::Args),
}

/// Where profiles and releases are.
#[derive(Debug, Clone, Args)]
struct RootArg {
    /// Folder with profiles/, releases/ and mkosi.conf.d/ [default: the checkout around the current folder]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl RootArg {
    fn open(&self) -> Result<Checkout, Report> {
        Ok(Checkout::open(self.root.as_deref())?)
    }

    /// The checkout and its documents, none of which has a problem.
    fn open_checked(&self) -> Result<(Checkout, Checked), Report> {
        let checkout = self.open()?;
        let checked = crate::check::check(&checkout);
        if checked.problems.is_empty() {
            return Ok((checkout, checked));
        }
        let frames = crate::check::report(&checked.problems, &checkout);
        Err(Report::text(
            Kind::Configuration,
            "the profiles and releases are not right",
        )
        .detail(frames))
    }
}

/// Runs the command that this process's arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data; mistakes go to standard error.
            let code = if error.use_stderr() {
                Kind::Usage.exit_code()
            } else {
                0
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Build(args) => finish(args.json, args.run()),
        Command::Check(args) => finish(false, args.run()),
        Command::Render(args) => finish(false, args.run()),
        Command::List(args) => finish(args.json, args.run()),
        Command::Metadata(args) => args.run(),
        Command::BootTest(args) => args.run(),
    }
}

fn finish(json: bool, result: Result<String, Report>) -> ExitCode {
    match result {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(report) => failed(json, &report, report.kind.exit_code()),
    }
}

/// Says why, in both forms where JSON is wanted.
fn failed(json: bool, report: &Report, code: u8) -> ExitCode {
    if json {
        let mut object = report.to_json();
        object["exit_code"] = code.into();
        // Where this cannot be written either, the text says so.
        let _ = write(&document(object));
    }
    let _ = io::stderr().write_all(report.render().as_bytes());
    ExitCode::from(code)
}

/// A JSON object as it is printed, with its schema: that is raised when a field
/// goes or changes its meaning, not when one is added.
fn document(mut value: serde_json::Value) -> String {
    if let Some(object) = value.as_object_mut() {
        object.insert("schema".into(), 1.into());
    }
    format!("{value:#}\n")
}

/// Writes data, and ends with `code` where that worked.
fn print(text: &str, code: ExitCode) -> ExitCode {
    let Err(error) = write(text) else {
        return code;
    };
    let report = Report::text(
        Kind::Environment,
        format!("the answer could not be written to standard output: {error}"),
    )
    .hint(Some(
        "free space where standard output goes, or send it elsewhere",
    ));
    failed(false, &report, report.kind.exit_code())
}

/// A reader that has gone away (`| head`) is no failure.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The commands, those of commands included.
    fn all() -> Vec<(String, clap::Command)> {
        fn below(command: &clap::Command, path: &str, all: &mut Vec<(String, clap::Command)>) {
            for command in command.get_subcommands() {
                let path = format!("{path} {}", command.get_name());
                below(command, &path, all);
                all.push((path, command.clone()));
            }
        }
        let mut all = Vec::new();
        below(&Cli::command(), "", &mut all);
        assert!(all.iter().any(|(path, _)| path == " metadata seal"));
        all
    }

    /// A secret is never in argv (the fourth of ARCHITECTURE.md's invariants).
    #[test]
    fn no_help_text_offers_a_secret() {
        for (path, mut command) in all() {
            // The name of systemd's file is no offer.
            let help = command
                .render_long_help()
                .to_string()
                .to_lowercase()
                .replace("credential.secret", "");
            for word in ["password", "secret", "token", "passphrase"] {
                assert!(!help.contains(word), "{path}: {word}\n{help}");
            }
        }
    }

    #[test]
    fn every_option_has_a_help_text() {
        for (path, command) in all() {
            assert!(command.get_about().is_some(), "{path}");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path} {}",
                    argument.get_id()
                );
            }
        }
    }
}
