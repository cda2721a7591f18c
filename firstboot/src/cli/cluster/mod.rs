//! `sf-firstboot cluster`: the fleet as its database shows it, and what an
//! operator may do to the record. Needs the database and nothing else.

mod forget;
mod release_claim;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use sf_contract::metadata::dsn::{Dsn, DsnError};

use super::Outcome;
use super::again::Again;
use crate::codes;
use crate::database::{self, Connector};
use crate::engine::node;
use crate::failure::Failure;
use crate::fleet::{self, Fleet};
use crate::paths::Paths;
use crate::sources::{self, DatabaseFields, Remote};

/// For a command's whole conversation with the database.
const LIMIT: Duration = Duration::from_secs(30);

/// For one attempt at a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Shows the whole fleet, forgets a node, or hands a role over.
///
/// Runs anywhere from where the database can be reached. The database is that
/// of this node's metadata, unless --metadata or --database-file names another.
/// Any node's database user may look. To forget and to release takes a user of
/// its own, with what `sf-firstboot grants --operator` prints, given with
/// --database-file; a database-tier node's user may do it too.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Status(status::Command),
    Forget(forget::Command),
    ReleaseClaim(release_claim::Command),
}

impl Command {
    pub(super) fn caller(&self) -> (Again, bool) {
        let (database, json) = match &self.command {
            Action::Status(command) => (&command.database, command.json),
            Action::Forget(command) => (&command.database, false),
            Action::ReleaseClaim(command) => (&command.database, false),
        };
        let again =
            Again::of_metadata(&database.metadata).database_file(database.database_file.as_deref());
        (again, json)
    }

    pub(super) fn run(self, paths: &Paths) -> Outcome {
        match self.command {
            Action::Status(command) => command.run(paths),
            Action::Forget(command) => command.run(paths),
            Action::ReleaseClaim(command) => command.run(paths),
        }
    }
}

/// Which database.
#[derive(Debug, Args)]
pub(super) struct Database {
    /// Node metadata that says where the database is; any node's to look, a database-tier node's to change.
    #[arg(long, value_name = "FILE")]
    metadata: Vec<PathBuf>,
    /// File that holds nothing but a DSN, as `database.dsn` has it; an operator's, to change the record.
    #[arg(long, value_name = "FILE", conflicts_with = "metadata")]
    database_file: Option<PathBuf>,
}

impl Database {
    /// The way there, and where its DSN stands.
    fn connector(&self, paths: &Paths) -> Result<(Connector, String), Failure> {
        let found = if let Some(file) = &self.database_file {
            let read = sources::text_by_hand(file).and_then(|text| {
                text.ok_or_else(|| {
                    let what = format!("{} is not there", file.display());
                    Box::new(Failure::new(&codes::META_UNREADABLE, what))
                })
            });
            let dsn = read.map_err(|failure| {
                failure.source("--database-file").remedy(
                    "Name a file that exists, that you may read, and that holds the DSN alone, \
                     or a pipe, such as /dev/stdin.",
                )
            })?;
            DatabaseFields {
                dsn,
                place: file.display().to_string(),
                ca: None,
            }
        } else {
            // Whoever watches the fleet waits for no metadata server.
            let places = node::places(paths, &self.metadata).remote(Remote::Kept);
            sources::collect(&places).database()?
        };
        let dsn: Dsn = found.dsn.expose().parse().map_err(|error: DsnError| {
            Failure::new(&codes::META_INVALID, "the database's DSN cannot be used")
                .source(found.place.as_str())
                .remedy("Write it as the cause says.")
                // Its words are ours and hold nothing of the DSN: no masking of the form it shows.
                .because(error.to_string())
        })?;
        let connector = Connector::new(dsn).connect_timeout(CONNECT);
        let connector = match found.ca {
            Some(ca) => connector.ca_text(ca.expose()),
            None => connector,
        };
        Ok((connector, found.place))
    }
}

/// The whole fleet, as the database shows it now.
fn look(connector: &Connector, place: &str) -> Result<Fleet, Failure> {
    converse(place, async {
        let mut session = connector.connect().await?;
        let fleet = fleet::read(&mut session).await;
        session.close().await;
        fleet
    })
}

/// Runs one conversation with the database whose DSN stands at `place`.
fn converse<T>(place: &str, talk: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = database::runtime()?;
    let result = runtime.block_on(talk);
    runtime.shutdown_background();
    result.map_err(|mut failure| {
        if failure.code.id.starts_with("SF-DB-") {
            failure.source.get_or_insert_with(|| place.to_owned());
        }
        for_an_operator(failure)
    })
}

/// Remedies are written for a node's user, and this one is an operator's.
fn for_an_operator(failure: Failure) -> Failure {
    if failure.value.is_some() {
        // The login itself was refused; which command it was for makes no difference.
        let remedy = failure
            .remedy_text()
            .replace("--role ROLE", "--operator")
            .replace(database::WHICH_ROLE, "");
        return failure.remedy(remedy);
    }
    if failure.code.id != codes::DB_GRANTS.id {
        return failure;
    }
    // Most agents' users may look, and none but a bootstrapping one may change this.
    failure.remedy(
        "The database users of hypervisors and network nodes may look, not change this. Give \
         with --database-file the DSN of a user that has what `sf-firstboot grants --operator` \
         prints, or with --metadata that of a database-tier node.",
    )
}
