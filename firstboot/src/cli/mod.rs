//! The command line: one file for each subcommand. Standard output is data,
//! standard error is narration, the exit code is the failure's kind.

mod again;
mod bootstrap_cluster;
mod check;
mod cluster;
mod confirm;
mod explain;
mod gate;
mod grants;
mod output;
mod ready;
mod report;
mod reset;
mod run;
mod status;
mod stopped;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use again::Again;
use clap::{Args, Parser, Subcommand};
use output::{framed, narrate, print, print_failed, print_json};
use sf_contract::failure::Kind;
use sf_contract::role::Role;

use crate::card::Card;
use crate::codes;
use crate::failure::Failure;
use crate::image::Given;
use crate::log;
use crate::panics;
use crate::paths::Paths;
use crate::report::{Reporter, by_hand, log_findings};
use crate::sources::Remote;

/// Checks this node, joins or bootstraps the cluster, and starts Shaken Fist.
///
/// Exit codes: 0 done; 64 wrong usage; 69 the machine, 75 not yet (trying
/// again helps), 77 refused, 78 metadata or database settings: the operator
/// acts; 70 a defect of this program.
#[derive(Debug, Parser)]
#[command(name = "sf-firstboot", version, max_term_width = 100)]
struct Cli {
    /// How log lines on standard error look.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    log_format: log::Format,
    /// How much is logged.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug"])]
    log_level: String,
    /// Folder that stands for the root of the node, for tests and for mounted images.
    #[arg(
        long,
        global = true,
        default_value = "/",
        value_name = "DIR",
        hide = true
    )]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Command),
    Check(check::Command),
    BootstrapCluster(bootstrap_cluster::Command),
    Gate(gate::Command),
    Status(status::Command),
    Cluster(cluster::Command),
    Explain(explain::Command),
    Grants(grants::Command),
    Reset(reset::Command),
    Ready(ready::Command),
    Report(report::Command),
    Stopped(stopped::Command),
}

impl Command {
    /// What the caller gave that the next command needs, and whether the answer
    /// is to be JSON.
    fn caller(&self) -> (Again, bool) {
        match self {
            Self::Check(command) => command.caller(),
            Self::BootstrapCluster(command) => command.caller(),
            Self::Cluster(command) => command.caller(),
            Self::Explain(command) => command.caller(),
            Self::Status(command) => (Again::default(), command.json),
            Self::Grants(_) | Self::Reset(_) => (Again::default(), false),
            Self::Run(_) | Self::Gate(_) | Self::Ready(_) | Self::Report(_) | Self::Stopped(_) => {
                (Again::by_a_unit(), false)
            }
        }
    }

    /// Is it a unit's command, run for systemd, whose words nobody waits for at a
    /// terminal?
    fn is_a_units(&self) -> bool {
        matches!(
            self,
            Self::Run(_) | Self::Gate(_) | Self::Ready(_) | Self::Report(_) | Self::Stopped(_)
        )
    }

    /// Does its end stand for the node's, with a card on the console?
    fn is_the_nodes_run(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Ready(_))
    }
}

/// Metadata and image, where they are not those of this node.
#[derive(Debug, Args)]
struct Desk {
    /// Node metadata to use before what is found on this machine; may be repeated, the last wins.
    #[arg(long, value_name = "FILE")]
    metadata: Vec<PathBuf>,
    /// Image manifest, such as the one published beside an image [default: that of the running image].
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Release descriptor, `releases/NAME/release.toml` [default: that of the running image].
    #[arg(long, value_name = "FILE")]
    release_descriptor: Option<PathBuf>,
    /// Role to check for: hypervisor, network, database-tier, single-node [default: the manifest's].
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
}

impl Desk {
    fn given(&self) -> Given<'_> {
        Given {
            manifest: self.manifest.as_deref(),
            release: self.release_descriptor.as_deref(),
            role: self.role,
            desk_check: false,
        }
    }

    /// What these options are for the next command; `role` where none was given.
    fn again(&self, role: Option<Role>) -> Again {
        Again::of_metadata(&self.metadata).image(
            self.manifest.as_deref(),
            self.release_descriptor.as_deref(),
            self.role.or(role.filter(|_| !self.is_empty())),
        )
    }

    /// On the node, its servers are asked, for `wait` or a few seconds; a desk
    /// is not the node, and what its own drives and cloud say is none of this.
    fn remote(&self, paths: &Paths, wait: Duration) -> Remote {
        if !self.is_node(paths) {
            tracing::info!(
                "metadata is taken from --metadata, credentials and /etc/sf; config drives, sf.metadata_url and the cloud's metadata service belong to the node and are not looked at"
            );
            return Remote::Skip;
        }
        let wait = wait.max(Duration::from_secs(5));
        Remote::Ask {
            wait,
            wait_with_copy: wait,
        }
    }

    /// Is this the node itself? Not when anything about it was given.
    fn is_node(&self, paths: &Paths) -> bool {
        self.is_empty() && paths.manifest().exists()
    }

    fn is_empty(&self) -> bool {
        self.metadata.is_empty()
            && self.manifest.is_none()
            && self.release_descriptor.is_none()
            && self.role.is_none()
    }
}

/// How a command ended.
type Outcome = Result<(), Stop>;

/// Why a command stops.
#[derive(Debug)]
enum Stop {
    /// With findings; they are shown to a person.
    Card(Card),
    /// All has been said; only the exit code is left.
    Said(u8),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Card(Card::new(vec![failure]))
    }
}

/// Parses the command line, runs the command, shows what went wrong.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are what was asked for; the rest is wrong usage.
            let _closed = error.print();
            let code = if error.use_stderr() {
                Kind::Usage.exit_code()
            } else {
                0
            };
            return ExitCode::from(code);
        }
    };
    log::start(cli.log_format, &cli.log_level);
    let paths = Paths::under(&cli.root);
    let (again, json) = cli.command.caller();
    let of_the_node = cli.command.is_the_nodes_run();
    // Not whether somebody stands behind it: the gate before a daemon's start
    // has no environment to tell that by.
    let how = if cli.command.is_a_units() && cli.log_format.is_json() {
        Shown::Log
    } else if json {
        Shown::Json
    } else {
        Shown::Text
    };
    panics::install({
        let (paths, again) = (paths.clone(), again.clone());
        move |card| {
            if of_the_node {
                Reporter::resume(&paths).failed(card);
            }
            if !of_the_node || by_hand() {
                tell(&again.card(card.clone()), how);
            }
        }
    });
    let outcome = match cli.command {
        Command::Run(command) => command.run(&paths),
        Command::Check(command) => command.run(&paths),
        Command::BootstrapCluster(command) => command.run(&paths),
        Command::Gate(command) => command.run(&paths),
        Command::Status(command) => command.run(&paths),
        Command::Cluster(command) => command.run(&paths),
        Command::Explain(command) => command.run(&paths),
        Command::Grants(command) => command.run(&paths),
        Command::Reset(command) => command.run(&paths),
        Command::Ready(command) => command.run(&paths),
        Command::Report(command) => command.run(&paths),
        Command::Stopped(command) => command.run(&paths),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Said(code)) => ExitCode::from(code),
        Err(Stop::Card(card)) => {
            let exit_code = card.exit_code();
            tell(&again.card(card), how);
            ExitCode::from(exit_code)
        }
    }
}

/// How findings are shown.
#[derive(Clone, Copy, Debug)]
enum Shown {
    /// To a person.
    Text,
    /// To a person, and to the program that asked for JSON.
    Json,
    /// To the log, each line of which is JSON.
    Log,
}

/// Says what went wrong.
fn tell(card: &Card, how: Shown) {
    match how {
        Shown::Log => return log_findings(card),
        // Where this cannot be written either, the text says so.
        Shown::Json => drop(print_failed(card)),
        Shown::Text => {}
    }
    narrate(&card.errors());
}

/// For commands that change the system.
fn need_root(paths: &Paths) -> Result<(), Failure> {
    if paths.is_this_machine() && !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            &codes::NOT_ROOT,
            "this command must be run by root",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// Every option is explained, and none takes a secret: argv is public.
    #[test]
    fn options_are_explained_and_take_no_secrets() {
        fn each(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}", argument.get_id());
                let text = format!("{} {:?}", argument.get_id(), argument.get_value_names())
                    .to_lowercase();
                for word in ["password", "secret", "token", "dsn", "key", "seed"] {
                    assert!(!text.contains(word), "{text}");
                }
            }
            command.get_subcommands().for_each(each);
        }
        Cli::command().debug_assert();
        each(&Cli::command());
    }
}
