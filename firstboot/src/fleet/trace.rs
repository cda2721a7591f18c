//! What a node leaves in the cluster's database about its own boot, so that
//! the fleet can be watched from one desk. A trace that cannot be written is
//! logged, and stops nothing.
//!
//! A node that has never passed the gate gets a row without a series, which
//! holds no slot and clears nothing. A row of another machine under the same
//! name is left alone.

use std::time::Duration;

use sf_contract::failure::Kind;

use crate::codes::{self, Code};
use crate::database::{Arg, Class, Connector, Session, SqlError, Statement};
use crate::failure::Failure;
use crate::gate::{Image, Node, Progress};
use crate::identity::same_machine;

/// The daemons were told to start.
pub const STARTED: &str = "started";
/// The daemons answer.
pub const READY: &str = "ready";
/// Stopped for now.
pub const WAITING: &str = "waiting";
/// Stopped by a rule of the cluster.
pub const REFUSED: &str = "refused";
/// Stopped until somebody acts.
pub const FAILED: &str = "failed";

/// For the whole conversation with the database.
const LIMIT: Duration = Duration::from_secs(3);

/// Failures of the database that are about what it holds: it has answered, and
/// may take a row all the same.
const ANSWERED: [&Code; 8] = [
    &codes::DB_CHARSET,
    &codes::DB_ENGINE,
    &codes::DB_GRANTS,
    &codes::DB_SCHEMA,
    &codes::DB_SCHEMA_MISSING,
    &codes::DB_SCHEMA_NEW,
    &codes::DB_SCHEMA_OLD,
    &codes::DB_STATEMENT,
];

/// The outcome of a run that stopped for a failure of this kind.
pub fn outcome(kind: Kind) -> &'static str {
    match kind {
        Kind::Transient => WAITING,
        Kind::Refused => REFUSED,
        Kind::Usage | Kind::Environment | Kind::Internal | Kind::Configuration => FAILED,
    }
}

/// Leaves the trace of a run that stopped, but for one that stopped for want
/// of the database.
pub async fn stopped(
    connector: &Connector,
    image: &Image,
    node: &Node,
    phase: &str,
    (kind, code): (Kind, &str),
) {
    if code.starts_with("SF-DB-") && !ANSWERED.iter().any(|answered| answered.id == code) {
        return;
    }
    let progress = Progress {
        phase,
        outcome: Some(outcome(kind)),
        last_error: Some(code),
    };
    let written = within(connector, async |session| {
        report(session, image, node, &progress).await
    });
    said(written.await);
}

/// Leaves the trace of what the daemons answered. Only a node with a row, from
/// this boot's gate, has something to say.
pub async fn answered(connector: &Connector, node: &Node, failure: Option<(Kind, &str)>) {
    let written = within(connector, async |session| {
        session
            .execute(&Statement {
                doing: "recording the node's readiness",
                sql: "UPDATE bootstrap_nodes SET phase = 'ready', outcome = ?, last_error = ? \
                      WHERE fqdn = ? AND instance_id = ?",
                args: vec![
                    failure.map_or(READY, |(kind, _)| outcome(kind)).into(),
                    Arg::from(failure.map(|(_, code)| code.to_owned())),
                    node.fqdn.as_str().into(),
                    node.instance_id.as_str().into(),
                ],
            })
            .await
            .map(drop)
    });
    said(written.await);
}

async fn report(
    session: &mut Session,
    image: &Image,
    node: &Node,
    progress: &Progress<'_>,
) -> Result<(), SqlError> {
    let rows = session
        .rows(
            "reading this node's row",
            "SELECT instance_id, series FROM bootstrap_nodes WHERE fqdn = ?",
            &[node.fqdn.as_str().into()],
        )
        .await?;
    let known = rows.first().map(|row| (row.string(0), row.text(1)));
    let mut args = vec![
        node.role.name().into(),
        image.release.as_str().into(),
        image.image_version.as_str().into(),
        node.instance_id.as_str().into(),
        progress.phase.into(),
        Arg::from(progress.outcome.map(str::to_owned)),
        Arg::Real(session.now()),
        Arg::from(progress.last_error.map(str::to_owned)),
        node.fqdn.as_str().into(),
    ];
    let sql = match known {
        Some((machine, Some(_))) if !same_machine(&machine, &node.instance_id) => return Ok(()),
        Some((machine, _)) => {
            args.push(machine.into());
            "UPDATE bootstrap_nodes SET role = ?, release_version = ?, image_version = ?, \
             instance_id = ?, phase = ?, outcome = ?, last_boot = ?, last_error = ? \
             WHERE fqdn = ? AND instance_id = ?"
        }
        None => {
            "INSERT INTO bootstrap_nodes (role, release_version, image_version, instance_id, \
             phase, outcome, last_boot, last_error, fqdn, series) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
        }
    };
    let done = session
        .execute(&Statement {
            doing: "recording how this node's boot ended",
            sql,
            args,
        })
        .await;
    match done {
        // Another machine of this name was faster: it is its row.
        Err(error) if error.class == Class::Duplicate => Ok(()),
        other => other.map(drop),
    }
}

async fn within(
    connector: &Connector,
    work: impl AsyncFnOnce(&mut Session) -> Result<(), SqlError>,
) -> Result<(), Failure> {
    let attempt = async {
        let mut session = connector.clone().within(LIMIT).connect().await?;
        let result = work(&mut session).await.map_err(SqlError::into_failure);
        session.close().await;
        result
    };
    tokio::time::timeout(LIMIT, attempt).await.unwrap_or(Ok(()))
}

fn said(written: Result<(), Failure>) {
    if let Err(failure) = written {
        tracing::debug!(code = failure.code.id, "no trace was left: {failure}");
    }
}
