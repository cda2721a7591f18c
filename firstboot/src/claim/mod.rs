//! Roles that one node of a cluster has, and the one machine behind a name.
//!
//! The network role is claimed: a row of `bootstrap_claims`, whose primary key
//! keeps a second holder out. [`judge`] says what becomes of it, from facts
//! alone; [`write`] does it within the gate's transaction, so that a claim and
//! the row of its node appear together. Rows of other names in that table are
//! not this module's.

mod judge;

pub use judge::{Step, judge};

use sf_contract::role::Role;

use crate::database::{Arg, Session, SqlError, Statement};
use crate::gate::Node;

/// A row of `bootstrap_claims`, with what its holder's own row adds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Claim {
    /// What is claimed, `network`.
    pub role: String,
    /// Its holder.
    pub fqdn: String,
    /// The holder's [`crate::identity::machine_id`].
    #[serde(skip)]
    pub instance_id: String,
    /// UNIX seconds.
    pub claimed_at: f64,
    /// When the holder last booted, UNIX seconds; `None` when it has no row.
    pub last_boot: Option<f64>,
}

/// What a node of `role` claims.
pub fn claimed_by(role: Role) -> Option<&'static str> {
    match role {
        Role::Network | Role::SingleNode => Some(NETWORK),
        Role::Hypervisor | Role::DatabaseTier => None,
    }
}

/// The network role.
pub const NETWORK: &str = "network";

/// What nodes claim for as long as they have the role.
pub const CLAIMED: [&str; 1] = [NETWORK];

/// Held by the node that makes the release's tables, while it does:
/// [`crate::migration`].
pub const SCHEMA: &str = "schema";

/// What an operator may take from a node.
pub const RELEASABLE: [&str; 2] = [NETWORK, SCHEMA];

/// Reads the claims of roles.
pub(crate) async fn read(session: &mut Session) -> Result<Vec<Claim>, SqlError> {
    let mut claims = read_all(session).await?;
    claims.retain(|claim| CLAIMED.contains(&claim.role.as_str()));
    Ok(claims)
}

/// Reads which node makes the release's tables just now.
pub(crate) async fn schema(session: &mut Session) -> Result<Option<Claim>, SqlError> {
    let claims = read_all(session).await?;
    Ok(claims.into_iter().find(|claim| claim.role == SCHEMA))
}

/// Reads all claims.
pub(crate) async fn read_all(session: &mut Session) -> Result<Vec<Claim>, SqlError> {
    let rows = session
        .rows(
            "reading which node holds which role",
            "SELECT c.role, c.fqdn, c.instance_id, CAST(c.claimed_at AS CHAR), \
             CAST(n.last_boot AS CHAR) FROM bootstrap_claims c \
             LEFT JOIN bootstrap_nodes n ON n.fqdn = c.fqdn ORDER BY c.role",
            &[],
        )
        .await?;
    let seconds = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    Ok(rows
        .iter()
        .map(|row| Claim {
            role: row.string(0),
            fqdn: row.string(1),
            instance_id: row.string(2),
            claimed_at: seconds(row.text(3)).unwrap_or(0.0),
            last_boot: seconds(row.text(4)),
        })
        .collect())
}

/// Writes a step, in the transaction that the caller has begun. A claim that
/// has changed since the facts were read makes an error that starts all over.
pub(crate) async fn write(
    session: &mut Session,
    node: &Node,
    step: &Step,
    now: f64,
) -> Result<(), SqlError> {
    match step {
        Step::Nothing => Ok(()),
        Step::Take { role } => insert(session, node, role, now).await,
        // Deleted and written again, even where nothing changes: only rows that
        // are written take part in Galera's certification, and so a release that
        // crosses this makes one of the two lose at COMMIT.
        Step::Keep {
            role, claimed_at, ..
        } => {
            let matched = delete(session, node, role).await?;
            if matched == 0 {
                return Err(SqlError::overtaken("keeping the claim", session.at()));
            }
            insert(session, node, role, *claimed_at).await
        }
        Step::Leave { roles } => {
            for role in roles {
                delete(session, node, role).await?;
            }
            Ok(())
        }
    }
}

async fn insert(
    session: &mut Session,
    node: &Node,
    role: &str,
    claimed_at: f64,
) -> Result<(), SqlError> {
    session
        .execute(&Statement {
            doing: "claiming the role",
            sql: "INSERT INTO bootstrap_claims (role, fqdn, instance_id, claimed_at) \
                  VALUES (?, ?, ?, ?)",
            args: vec![
                role.into(),
                node.fqdn.as_str().into(),
                node.instance_id.as_str().into(),
                Arg::Real(claimed_at),
            ],
        })
        .await
        .map(drop)
}

async fn delete(session: &mut Session, node: &Node, role: &str) -> Result<u64, SqlError> {
    session
        .execute(&Statement {
            doing: "giving the claim up",
            sql: "DELETE FROM bootstrap_claims WHERE role = ? AND fqdn = ?",
            args: vec![role.into(), node.fqdn.as_str().into()],
        })
        .await
}
