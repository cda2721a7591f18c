//! Trying a passage out: the run's own statements, rolled back.

use super::decide::Image;
use super::facts::Facts;
use super::pass::{self, Node, Progress};
use crate::database::{self, Class, Session, SqlError};
use crate::failure::Failure;

/// Whose passage is tried.
#[derive(Clone, Debug)]
pub enum Candidate {
    /// This machine's.
    Here(Node),
    /// At a desk: that of the machine which has the name, as far as the record
    /// tells. It may come to have it while the desk tries.
    Named(Node),
}

impl Candidate {
    /// The node as the gate is going to see it, by what the record says.
    pub fn standing(&self, facts: &Facts) -> Node {
        match self {
            Self::Here(node) => node.clone(),
            Self::Named(node) => {
                let holder = facts.claims.iter().find(|claim| claim.fqdn == node.fqdn);
                let row = facts.own.as_ref().map(|row| &row.instance_id);
                let known = row.or(holder.map(|claim| &claim.instance_id));
                Node {
                    instance_id: known.unwrap_or(&node.instance_id).clone(),
                    ..node.clone()
                }
            }
        }
    }

    fn node(&self) -> &Node {
        match self {
            Self::Here(node) | Self::Named(node) => node,
        }
    }
}

/// What a passage would come to, as far as trying it out can tell.
#[derive(Clone, Debug)]
pub enum Rehearsed {
    /// Every statement ran, and was rolled back.
    Passes,
    /// The gate refuses, or has nothing to go by yet.
    Stops(Box<Failure>),
    /// Others were at the same rows all the time.
    Contended,
}

/// Runs the statements of a passage in a transaction that is rolled back.
pub async fn rehearse(
    session: &mut Session,
    image: &Image,
    candidate: &Candidate,
) -> Result<Rehearsed, Failure> {
    let tried = database::trial(session, async |session| {
        within(session, image, candidate).await
    })
    .await
    .map_err(SqlError::into_failure)?;
    Ok(tried.unwrap_or(Rehearsed::Contended))
}

/// The same in the transaction that the caller has begun, and is going to roll
/// back. All that a run writes from here on: passing, retiring what nobody
/// runs, telling how far the node came.
pub(crate) async fn within(
    session: &mut Session,
    image: &Image,
    candidate: &Candidate,
) -> Result<Rehearsed, SqlError> {
    let facts = pass::known(session, image, candidate.node()).await?;
    let node = &candidate.standing(&facts);
    let judged = match pass::judge(image, node, facts) {
        Ok(judged) => judged,
        Err(failure) => return Ok(Rehearsed::Stops(failure)),
    };
    let now = session.now();
    pass::enter(session, (image, node), &judged, now).await?;
    for series in pass::empty(image, &judged.0) {
        match session.execute(&pass::retirement(series)).await {
            Err(error) if error.class != Class::ForeignKey => return Err(error),
            _ => {}
        }
    }
    let progress = Progress {
        phase: "configure",
        outcome: None,
        last_error: None,
    };
    session
        .execute(&pass::progress_row(&node.fqdn, &progress))
        .await?;
    Ok(Rehearsed::Passes)
}
