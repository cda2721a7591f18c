//! The row `schema` of `bootstrap_claims`: which node runs the command.

use crate::claim;
use crate::database::{Arg, Session, SqlError, Statement};
use crate::gate::Node;
use crate::identity::same_machine;

/// The row.
pub(super) struct Hold {
    pub(super) fqdn: String,
    instance_id: String,
    /// UNIX seconds by the database's clock.
    pub(super) claimed_at: f64,
}

impl Hold {
    pub(super) fn is_of(&self, node: &Node) -> bool {
        self.fqdn == node.fqdn && same_machine(&self.instance_id, &node.instance_id)
    }
}

pub(super) async fn read(session: &mut Session) -> Result<Option<Hold>, SqlError> {
    Ok(claim::schema(session).await?.map(|claim| Hold {
        fqdn: claim.fqdn,
        instance_id: claim.instance_id,
        claimed_at: claim.claimed_at,
    }))
}

/// The primary key refuses all but one; the others look again.
pub(super) async fn take(session: &mut Session, node: &Node) -> Result<(), SqlError> {
    let now = session.now();
    session
        .execute(&Statement {
            doing: "taking the row for making the tables",
            sql: "INSERT INTO bootstrap_claims (role, fqdn, instance_id, claimed_at) \
                  VALUES ('schema', ?, ?, ?)",
            args: vec![
                node.fqdn.as_str().into(),
                node.instance_id.as_str().into(),
                Arg::Real(now),
            ],
        })
        .await
        .map(drop)
}

/// Writes this machine's own row anew: on Galera only rows that are written
/// take part in certification, and a release that crosses this must make one of
/// the two lose.
pub(super) async fn renew(session: &mut Session, node: &Node) -> Result<(), SqlError> {
    session.begin().await?;
    let matched = session
        .execute(&Statement {
            doing: "going on with making the tables",
            sql: "DELETE FROM bootstrap_claims WHERE role = 'schema' AND fqdn = ?",
            args: vec![node.fqdn.as_str().into()],
        })
        .await?;
    if matched == 0 {
        return Err(SqlError::overtaken(
            "going on with making the tables",
            session.at(),
        ));
    }
    take(session, node).await?;
    session.commit().await
}

/// `false` when the row is not this node's any more.
pub(super) async fn release(session: &mut Session, node: &Node) -> Result<bool, SqlError> {
    session
        .execute(&Statement {
            doing: "letting go of making the tables",
            sql: "DELETE FROM bootstrap_claims WHERE role = 'schema' AND fqdn = ?",
            args: vec![node.fqdn.as_str().into()],
        })
        .await
        .map(|matched| matched > 0)
}
