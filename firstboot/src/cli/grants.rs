//! `sf-firstboot grants`: what to grant to the database user of a role.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use sf_contract::release::Schema;
use sf_contract::role::Role;

use super::{Outcome, print};
use crate::database::grants;
use crate::image::{Given, Image};
use crate::paths::Paths;

/// Prints the SQL that gives a role's database user what it needs, and nothing more.
///
/// Run it on the server as an administrator; it may run before the first boot. The user
/// is made beforehand, with a password of your choice: CREATE USER ... IDENTIFIED BY ....
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Role of the nodes that log in: hypervisor, network, database-tier, single-node.
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// Their database user.
    #[arg(long, value_name = "NAME", default_value = "sf")]
    user: String,
    /// Where it logs in from, as MariaDB writes it: an address, a pattern such as 10.0.0.%.
    #[arg(long, value_name = "HOST", default_value = "%")]
    host: String,
    /// The database.
    #[arg(long, value_name = "NAME", default_value = "shakenfist")]
    database: String,
    /// Release descriptor, `releases/NAME/release.toml` [default: that of the running image].
    #[arg(long, value_name = "FILE")]
    release_descriptor: Option<PathBuf>,
}

impl Command {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let given = Given {
            release: self.release_descriptor.as_deref(),
            role: Some(self.role),
            ..Given::default()
        };
        let schema = if self.release_descriptor.is_some() || paths.release().exists() {
            Some(Image::read(paths, &given)?.release.schema)
        } else {
            None
        };
        let mut text = format!(
            "-- For the agent on {} nodes, which log in as this user.\n",
            self.role
        );
        if self.role.bootstraps() {
            text.push_str(match &schema {
                Some(Schema::Command { .. }) => {
                    "-- This release makes and migrates its own tables, and its daemons on this role log in as\n\
                     -- the same user: ALTER, INDEX and DROP are theirs.\n"
                }
                Some(Schema::Agent) => {
                    "-- This release keeps nothing of its own in MariaDB: its daemons need no grants.\n"
                }
                None => {
                    "-- Without --release-descriptor: a release that migrates its own tables needs ALTER, INDEX and\n\
                     -- DROP as well.\n"
                }
            });
        } else {
            text.push_str(
                "-- Its daemons do not log in to the database on this role.\n\
                 -- CREATE is granted only because a table that is not there yet cannot be granted on without\n\
                 -- it, and is taken back at once.\n",
            );
        }
        let schema = schema.unwrap_or(Schema::Agent);
        for statement in grants::least(self.role, &schema, &self.database, &self.user, &self.host) {
            let _infallible = writeln!(text, "{statement}");
        }
        print(&text);
        Ok(())
    }
}
