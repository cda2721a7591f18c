//! Passing the gate: the decision, and the rows that record it. A decision
//! holds for the record it was made from; where the record changed meanwhile a
//! key or a foreign key refuses the write, and the decision is made again.

use std::time::Instant;

use sf_contract::role::Role;
use sf_contract::series::Series;

use super::clearance::{Clearance, ClearanceRecord};
use super::decide::{Decision, How, Image, decide};
use super::facts::{self, Facts, NodeRow};
use crate::claim::{self, Step};
use crate::codes;
use crate::database::{Arg, Class, Connector, Link, Session, SqlError, Statement, schema};
use crate::failure::Failure;

/// The node that asks.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub fqdn: String,
    /// What it is for.
    pub role: Role,
    /// [`crate::identity::machine_id`].
    pub instance_id: String,
}

/// How far a node came, for its row.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The agent's phase, `configure`.
    pub phase: &'a str,
    /// `ready` or `failed`; `None` while it goes on.
    pub outcome: Option<&'a str>,
    /// Code of the failure, `SF-PKI-EXPIRED`.
    pub last_error: Option<&'a str>,
}

/// Decides and, on Proceed, records it, with the claim of the node's role. A
/// refusal or a wait writes nothing and comes back as the failure (77, or 75
/// before the bootstrap).
///
/// `boot_id` is the boot that the clearance counts for.
pub async fn pass(
    connector: &Connector,
    image: &Image,
    node: &Node,
    boot_id: &str,
    deadline: Instant,
    tell: &mut dyn FnMut(&str),
) -> Result<Clearance, Failure> {
    let mut link = Link::new(connector, deadline, &codes::GATE_CONTENDED, tell);
    let outcome = link
        .retry(async |session| {
            let facts = known(session, image, node).await?;
            let judged = match judge(image, node, facts) {
                Ok(judged) => judged,
                Err(failure) => return Ok(Err(failure)),
            };
            let now = session.now();
            record(session, (image, node), &judged, now).await?;
            Ok(Ok((judged, now)))
        })
        .await?;
    let ((facts, _, step), passed_at) = outcome.map_err(|failure| *failure)?;
    tell_claim(node, &step);
    if let Some(mut session) = link.into_session() {
        retire_empty(&mut session, image, &facts).await;
        session.release().await;
    }
    Ok(Clearance::new(ClearanceRecord {
        fqdn: node.fqdn.clone(),
        instance_id: node.instance_id.clone(),
        series: image.series,
        release: image.release.clone(),
        image_version: image.image_version.clone(),
        boot_id: boot_id.to_owned(),
        passed_at,
    }))
}

/// Writes how far the node came. Demands a clearance: what a node that was
/// refused leaves in the database is [`crate::fleet::trace`]'s.
pub async fn progress(
    session: &mut Session,
    clearance: &Clearance,
    progress: &Progress<'_>,
) -> Result<(), Failure> {
    session
        .execute(&progress_row(&clearance.record().fqdn, progress))
        .await
        .map(drop)
        .map_err(SqlError::into_failure)
}

pub(super) fn progress_row(fqdn: &str, progress: &Progress<'_>) -> Statement {
    let text = |value: Option<&str>| Arg::from(value.map(str::to_owned));
    Statement {
        doing: "recording the node's progress",
        sql: "UPDATE bootstrap_nodes SET phase = ?, outcome = ?, last_error = ? \
              WHERE fqdn = ?",
        args: vec![
            progress.phase.into(),
            text(progress.outcome),
            text(progress.last_error),
            fqdn.into(),
        ],
    }
}

/// What is known, and what follows from it.
pub(super) type Judged = (Facts, How, Step);

/// What the record says; nothing where there is none.
pub(super) async fn known(
    session: &mut Session,
    image: &Image,
    node: &Node,
) -> Result<Facts, SqlError> {
    let tables = schema::state(session).await?;
    if tables.has_record() {
        facts::read(session, &node.fqdn, image.series).await
    } else {
        Ok(Facts::default())
    }
}

pub(super) fn judge(image: &Image, node: &Node, facts: Facts) -> Result<Judged, Box<Failure>> {
    let how = match decide(image, &facts) {
        Decision::Wait(failure) | Decision::Refuse(failure) => return Err(failure),
        Decision::Proceed(how) => how,
    };
    claim::judge(node, &facts).map(|step| (facts, how, step))
}

async fn record(
    session: &mut Session,
    (image, node): (&Image, &Node),
    judged: &Judged,
    now: f64,
) -> Result<(), SqlError> {
    let (_, how, step) = judged;
    // One statement commits itself.
    let alone = matches!(how, How::Join { .. }) && *step == Step::Nothing;
    if !alone {
        session.begin().await?;
    }
    enter(session, (image, node), judged, now).await?;
    if alone {
        Ok(())
    } else {
        session.commit().await
    }
}

/// The statements of a passage.
pub(super) async fn enter(
    session: &mut Session,
    (image, node): (&Image, &Node),
    (facts, how, step): &Judged,
    now: f64,
) -> Result<(), SqlError> {
    let mut known = facts.own.clone();
    if let How::Introduce {
        slot,
        beside,
        retire,
    } = *how
    {
        // The neighbour has to be there still, and to stay: another node may be
        // about to retire it, and what it lets in instead may be far from this
        // series. A row that refers to it keeps it, on Galera too.
        if known.as_ref().is_none_or(|row| row.series != Some(beside)) {
            write_row(session, (image, node), known.as_ref(), beside, now).await?;
            known = Some(NodeRow {
                series: Some(beside),
                instance_id: node.instance_id.clone(),
                ..NodeRow::default()
            });
        }
        if let Some(series) = retire {
            let matched = session.execute(&retirement(series)).await?;
            found(matched, session)?;
        }
        introduce(session, (image, node), slot, now).await?;
    }
    write_row(session, (image, node), known.as_ref(), image.series, now).await?;
    claim::write(session, node, step, now).await
}

async fn introduce(
    session: &mut Session,
    (image, node): (&Image, &Node),
    slot: u8,
    now: f64,
) -> Result<(), SqlError> {
    session
        .execute(&Statement {
            doing: "introducing the series",
            sql: "INSERT INTO cluster_series (slot, series, predecessor, \
                  release_version, introduced_at, introduced_by) \
                  VALUES (?, ?, ?, ?, ?, ?)",
            args: vec![
                Arg::Int(slot.into()),
                image.series.to_string().into(),
                image.predecessor.map(|series| series.to_string()).into(),
                image.release.as_str().into(),
                Arg::Real(now),
                node.fqdn.as_str().into(),
            ],
        })
        .await
        .map(drop)
}

fn tell_claim(node: &Node, step: &Step) {
    match step {
        Step::Nothing | Step::Keep { resumed: false, .. } => {}
        Step::Take { role } => tracing::info!(role, "{} holds the role now", node.fqdn),
        Step::Keep { role, .. } => tracing::info!(
            role,
            "{} keeps the role: the same machine with a new disk",
            node.fqdn
        ),
        Step::Leave { roles } => {
            tracing::info!(roles = roles.join(","), "{} gives the role up", node.fqdn);
        }
    }
}

pub(super) fn retirement(series: Series) -> Statement {
    Statement {
        doing: "retiring the old series",
        sql: "DELETE FROM cluster_series WHERE series = ?",
        args: vec![series.to_string().into()],
    }
}

/// Writes that the node runs `series`. The row that is replaced is the one that
/// was judged: another machine of this name may have passed since.
async fn write_row(
    session: &mut Session,
    (image, node): (&Image, &Node),
    known: Option<&NodeRow>,
    series: Series,
    now: f64,
) -> Result<(), SqlError> {
    let mut args = vec![
        node.role.name().into(),
        series.to_string().into(),
        image.release.as_str().into(),
        image.image_version.as_str().into(),
        node.instance_id.as_str().into(),
        Arg::Real(now),
        node.fqdn.as_str().into(),
    ];
    let sql = if let Some(row) = known {
        args.push(row.instance_id.as_str().into());
        args.push(row.series.map(|series| series.to_string()).into());
        "UPDATE bootstrap_nodes SET role = ?, series = ?, release_version = ?, \
         image_version = ?, instance_id = ?, phase = 'gate', outcome = NULL, last_boot = ?, \
         last_error = NULL WHERE fqdn = ? AND instance_id = ? AND series <=> ?"
    } else {
        "INSERT INTO bootstrap_nodes (role, series, release_version, image_version, \
         instance_id, phase, outcome, last_boot, last_error, fqdn) \
         VALUES (?, ?, ?, ?, ?, 'gate', NULL, ?, NULL, ?)"
    };
    let matched = session
        .execute(&Statement {
            doing: "recording the node's series",
            sql,
            args,
        })
        .await?;
    found(matched, session)
}

/// A row that was there when the decision was made and is gone now makes the
/// decision void.
fn found(matched: u64, session: &Session) -> Result<(), SqlError> {
    if matched > 0 {
        Ok(())
    } else {
        Err(SqlError::overtaken(
            "recording the node's series",
            session.at(),
        ))
    }
}

/// Retires a series that nobody runs any more: the end of an upgrade, or of
/// one that was rolled back. Whoever notices does it; if a node joins at the
/// same moment the foreign key keeps the series, so failures do not matter.
async fn retire_empty(session: &mut Session, image: &Image, before: &Facts) {
    for series in empty(image, before) {
        match session.execute(&retirement(series)).await {
            Ok(0) => {}
            Ok(_) => tracing::info!(%series, "series retired: no node runs it"),
            Err(error) if error.class == Class::ForeignKey => {}
            Err(error) => tracing::debug!(class = ?error.class, "series not retired"),
        }
    }
}

/// The other series that no node runs.
pub(super) fn empty(image: &Image, facts: &Facts) -> Vec<Series> {
    let slots = facts.slots.iter().map(|slot| slot.series);
    slots
        .filter(|series| *series != image.series && facts.no_other_on(*series))
        .collect()
}
