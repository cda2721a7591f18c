//! `sf-firstboot grants`: what to grant to the database user of a role, or of
//! an operator's desk.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use sf_contract::release::Schema;
use sf_contract::role::Role;

use super::{Outcome, print};
use crate::database::grants;
use crate::failure::Failure;
use crate::image::{Given, Image};
use crate::paths::Paths;

/// Why table by table CREATE comes and goes.
const FOR_A_MOMENT: &str = "\
-- CREATE is granted only because a table that is not there yet cannot be granted on without
-- it, and is taken back at once.
";

/// Prints the SQL that gives a role's or an operator's database user what it needs, and nothing more.
///
/// Run it on the server as an administrator; it may run before the first boot. The user
/// is made beforehand, with a password of your choice: CREATE USER ... IDENTIFIED BY ....
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    whom: Whom,
    /// The database user [default: sf; with --operator: sf-operator].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Where it logs in from, as MariaDB writes it: an address, a pattern such as 10.0.0.%.
    #[arg(long, value_name = "HOST", default_value = "%")]
    host: String,
    /// The database.
    #[arg(long, value_name = "NAME", default_value = "shakenfist")]
    database: String,
    /// Release descriptor, `releases/NAME/release.toml` [default: that of the running image].
    #[arg(long, value_name = "FILE", conflicts_with = "operator")]
    release_descriptor: Option<PathBuf>,
}

/// Whose user it is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// Role of the nodes that log in: hypervisor, network, database-tier, single-node.
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// A person at a desk, for `cluster status`, `cluster forget` and `cluster release-claim`.
    #[arg(long)]
    operator: bool,
}

impl Command {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let (mut text, statements) = match self.whom.role {
            Some(role) => self.of_role(paths, role)?,
            None => (
                "-- For `sf-firstboot cluster` at a desk: to watch the fleet, forget nodes, release claims.\n"
                    .to_owned()
                    + FOR_A_MOMENT,
                grants::operator(&self.database, self.user("sf-operator"), &self.host),
            ),
        };
        for statement in statements {
            let _infallible = writeln!(text, "{statement}");
        }
        print(&text)?;
        Ok(())
    }

    /// clap's own conditional default took effect with --role as well.
    fn user<'u>(&'u self, default: &'u str) -> &'u str {
        self.user.as_deref().unwrap_or(default)
    }

    fn of_role(&self, paths: &Paths, role: Role) -> Result<(String, Vec<String>), Failure> {
        let given = Given {
            release: self.release_descriptor.as_deref(),
            role: Some(role),
            ..Given::default()
        };
        let schema = if self.release_descriptor.is_some() || paths.release().exists() {
            Some(Image::read(paths, &given)?.release.schema)
        } else {
            None
        };
        let mut text = format!("-- For the agent on {role} nodes, which log in as this user.\n");
        if role.bootstraps() {
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
            text.push_str("-- Its daemons do not log in to the database on this role.\n");
            text.push_str(FOR_A_MOMENT);
        }
        let schema = schema.unwrap_or(Schema::Agent);
        let statements = grants::least(role, &schema, &self.database, self.user("sf"), &self.host);
        Ok((text, statements))
    }
}
