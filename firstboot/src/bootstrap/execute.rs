//! Doing the plan: all checks, then the tables, then one transaction for each
//! operation that has no record yet.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use sf_contract::release::Schema;

use super::judge::{Judgement, judge};
use super::observe::{Observed, observe, record};
use super::operation::Operation;
use super::plan::{Author, Plan};
use super::prepare::{Material, Prepared, prepare};
use crate::codes;
use crate::database::schema::{self, TableState};
use crate::database::{self, Connector, Link, OperationRecord, Session, SqlError};
use crate::failure::Failure;
use crate::gate::{self, Decision, Facts};
use crate::migration::Migration;

/// What became of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Written now, by this node.
    Created,
    /// Found without a record; recorded now, by this node.
    Adopted,
    /// Its record was there.
    Unchanged,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Name of the operation.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What differs from the metadata because people changed it since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What became of the plan, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Tables that this run made.
    pub tables: Vec<String>,
    /// Operations.
    pub operations: Vec<Done>,
}

impl Report {
    /// Did this run write anything?
    pub fn wrote(&self) -> bool {
        !self.tables.is_empty()
            || self
                .operations
                .iter()
                .any(|done| done.outcome != Outcome::Unchanged)
    }
}

/// Everything that is read before anything is written.
pub(super) struct Survey {
    pub(super) tables: Arc<TableState>,
    facts: Facts,
    pub(super) found: Vec<(Option<OperationRecord>, Observed)>,
    server: String,
}

/// Establishes what is missing. Runs to the end or to a failure that says why;
/// running it again goes on where it stopped, and on a bootstrapped cluster
/// reads and writes nothing.
///
/// Refusals come before the first write and all together.
pub async fn run(
    connector: &Connector,
    schema: &Schema,
    plan: &Plan,
    author: &Author,
    deadline: Instant,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Vec<Failure>> {
    let mut link = Link::new(connector, deadline, &codes::BOOTSTRAP_CONTENDED, tell);
    let result = work(&mut link, (schema, None), plan, author).await;
    if let Some(session) = link.into_session() {
        session.release().await;
    }
    result
}

/// As [`run`], on a node that has the release's own command: where that has to
/// make or migrate tables it is run, once no check stands against it.
pub async fn run_on_node(
    connector: &Connector,
    schema: &Schema,
    migration: Option<&Migration<'_>>,
    plan: &Plan,
    author: &Author,
    deadline: Instant,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Vec<Failure>> {
    let mut link = Link::new(connector, deadline, &codes::BOOTSTRAP_CONTENDED, tell);
    let migration = migration.map(|migration| (migration, deadline));
    let result = work(&mut link, (schema, migration), plan, author).await;
    if let Some(session) = link.into_session() {
        session.release().await;
    }
    result
}

async fn work(
    link: &mut Link<'_>,
    (schema, migration): (&Schema, Option<(&Migration<'_>, Instant)>),
    plan: &Plan,
    author: &Author,
) -> Result<Report, Vec<Failure>> {
    let Examined {
        survey, verdicts, ..
    } = link
        .retry(async |session| examine(session, plan, author).await)
        .await
        .map_err(single)?;
    let judgements = verdicts?;
    let (made, tables, waiting) = make_tables(link, schema, survey.tables)
        .await
        .map_err(single)?;
    let tables = match (migration, waiting) {
        (Some((migration, deadline)), _) => {
            migration.ensure(link, deadline).await.map_err(single)?
        }
        (None, Some(failure)) => return Err(single(failure)),
        (None, None) => tables,
    };
    let mut report = Report {
        tables: made,
        operations: Vec::new(),
    };
    for (operation, judgement) in plan.operations.iter().zip(judgements) {
        let done = match judgement {
            Judgement::Done(note) => Done {
                name: operation.name(),
                outcome: Outcome::Unchanged,
                note,
            },
            _ => establish(link, &tables, operation, author)
                .await
                .map_err(single)?,
        };
        link.tell(&describe(&done));
        report.operations.push(done);
    }
    Ok(report)
}

/// What is there, and what that means.
pub(super) struct Examined {
    pub(super) survey: Survey,
    /// All refusals, or a verdict for each operation.
    pub(super) verdicts: Result<Vec<Judgement>, Vec<Failure>>,
    /// Had another node written a record since it was looked for?
    pub(super) overtaken: bool,
}

/// Reads and judges. A record is read before its artefact: where another node
/// commits both in between, the artefact looks as if nobody had recorded it, and
/// no refusal may rest on that. Then all of it is read anew, once for each
/// operation at most.
pub(super) async fn examine(
    session: &mut Session,
    plan: &Plan,
    author: &Author,
) -> Result<Examined, SqlError> {
    let mut overtaken = false;
    loop {
        let survey = survey(session, plan, author).await?;
        let verdicts = verdicts(&survey, plan, author);
        if verdicts.is_ok() || !recorded_since(session, plan, &survey).await? {
            return Ok(Examined {
                survey,
                verdicts,
                overtaken,
            });
        }
        overtaken = true;
    }
}

/// Is there a record by now of an operation that had none?
async fn recorded_since(
    session: &mut Session,
    plan: &Plan,
    survey: &Survey,
) -> Result<bool, SqlError> {
    let tables = schema::state(session).await?;
    for (operation, (before, _)) in plan.operations.iter().zip(&survey.found) {
        if before.is_none() && record(session, &tables, &operation.name()).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn survey(session: &mut Session, plan: &Plan, author: &Author) -> Result<Survey, SqlError> {
    let mut tables = schema::state(session).await?;
    let records = loop {
        if !tables.has("bootstrap_operations") {
            break Vec::new();
        }
        let records = database::operations(session).await?;
        if records.is_empty() || tables.missing_cluster().is_empty() {
            break records;
        }
        // Records of what is in tables that were missing a moment ago: another
        // node has made both since, or somebody has dropped the tables. Only
        // the tables as they are after the records tell.
        let since = schema::state(session).await?;
        if since == tables {
            break records;
        }
        tables = since;
    };
    let facts = if tables.has_record() {
        gate::read_facts(session, &author.fqdn, plan.image.series).await?
    } else {
        Facts::default()
    };
    let mut found = Vec::new();
    for operation in &plan.operations {
        let name = operation.name();
        let record = records.iter().find(|record| record.name == name).cloned();
        found.push((record, observe(session, &tables, operation).await?));
    }
    Ok(Survey {
        tables,
        facts,
        found,
        server: session.server().to_owned(),
    })
}

/// All refusals, or a verdict for each operation.
fn verdicts(survey: &Survey, plan: &Plan, author: &Author) -> Result<Vec<Judgement>, Vec<Failure>> {
    let mut failures = Vec::new();
    failures.extend(survey.tables.misfit(&survey.server));
    // A node that may not run here must not finish another one's bootstrap.
    if let Decision::Refuse(failure) = gate::decide(
        &gate::Image {
            image_version: author.image_version.clone(),
            ..plan.image.clone()
        },
        &survey.facts,
    ) {
        failures.push(*failure);
    }
    let mut judgements = Vec::new();
    for (operation, (record, observed)) in plan.operations.iter().zip(&survey.found) {
        match judge(operation, record.as_ref(), observed, &survey.server) {
            // The gate refuses for want of a series, too.
            Judgement::Refuse(failure) => {
                if !failures.iter().any(|known| known.what == failure.what) {
                    failures.push(*failure);
                }
            }
            judgement => judgements.push(judgement),
        }
    }
    if failures.is_empty() {
        Ok(judgements)
    } else {
        Err(failures)
    }
}

/// Makes the tables that are missing; the names of those made, what is there
/// now, and which ones the release has to make.
async fn make_tables(
    link: &mut Link<'_>,
    schema: &Schema,
    seen: Arc<TableState>,
) -> Result<(Vec<String>, Arc<TableState>, Option<Failure>), Failure> {
    let mut made = Vec::new();
    let mut state = Some(seen);
    let (tables, waiting) = link
        .retry(async |session| {
            // After a broken connection the state has to be read again.
            let before = match state.take() {
                Some(tables) => tables,
                None => schema::state(session).await?,
            };
            let new = schema::ensure(session, schema, &before).await?;
            let tables = if new.is_empty() {
                before
            } else {
                made.extend(new);
                schema::state(session).await?
            };
            let waiting = tables.waits_for_release(schema, session.at());
            Ok((tables, waiting))
        })
        .await?;
    Ok((
        made.into_iter().map(str::to_owned).collect(),
        tables,
        waiting,
    ))
}

/// One operation, as often as it takes.
async fn establish(
    link: &mut Link<'_>,
    tables: &TableState,
    operation: &Operation,
    author: &Author,
) -> Result<Done, Failure> {
    let mut material = Material::default();
    let mut attempted = false;
    link.retry(async |session| {
        attempt(
            session,
            tables,
            operation,
            author,
            &mut material,
            &mut attempted,
        )
        .await
    })
    .await?
}

async fn attempt(
    session: &mut Session,
    tables: &TableState,
    operation: &Operation,
    author: &Author,
    material: &mut Material,
    attempted: &mut bool,
) -> Result<Result<Done, Failure>, SqlError> {
    let name = operation.name();
    let found = record(session, tables, &name).await?;
    let observed = observe(session, tables, operation).await?;
    let judgement = judge(operation, found.as_ref(), &observed, session.server());
    if matches!(judgement, Judgement::Refuse(_))
        && found.is_none()
        && record(session, tables, &name).await?.is_some()
    {
        // Committed between the two reads: see `examine`.
        return Err(SqlError::overtaken(
            "reading what is there of an operation",
            session.at(),
        ));
    }
    let prepared = match prepare(
        operation,
        &judgement,
        &observed,
        author,
        session.now(),
        material,
    ) {
        Ok(prepared) => prepared,
        Err(failure) => return Ok(Err(failure)),
    };
    let done = |outcome, note| {
        Ok(Ok(Done {
            name: name.clone(),
            outcome,
            note,
        }))
    };
    match (judgement, prepared) {
        (Judgement::Refuse(failure), _) => Ok(Err(*failure)),
        (_, Some(transaction)) => {
            *attempted = true;
            session.begin().await?;
            write(session, &transaction).await?;
            // An answer that gets lost here is found out by the next attempt:
            // the record is there, or nothing is.
            session.commit().await?;
            done(outcome_of(transaction.outcome), None)
        }
        (Judgement::Done(note), None) => {
            let mine = found.filter(|record| *attempted && record.completed_by == author.fqdn);
            let outcome = mine.map_or(Outcome::Unchanged, |record| outcome_of(&record.outcome));
            done(outcome, note)
        }
        (Judgement::Create | Judgement::Adopt, None) => Ok(Err(Failure::new(
            &codes::INTERNAL,
            format!("nothing was prepared for {name}"),
        ))),
    }
}

/// The record first: its key is what excludes others.
pub(super) async fn write(session: &mut Session, transaction: &Prepared) -> Result<(), SqlError> {
    session.execute(&transaction.record).await?;
    for statement in &transaction.artefact {
        session.execute(statement).await?;
    }
    Ok(())
}

fn outcome_of(word: &str) -> Outcome {
    if word == "adopted" {
        Outcome::Adopted
    } else {
        Outcome::Created
    }
}

fn describe(done: &Done) -> String {
    let word = match done.outcome {
        Outcome::Created => "created",
        Outcome::Adopted => "adopted",
        Outcome::Unchanged => "unchanged",
    };
    match &done.note {
        Some(note) => format!("bootstrap: {} {word} ({note})", done.name),
        None => format!("bootstrap: {} {word}", done.name),
    }
}

pub(super) fn single(failure: Failure) -> Vec<Failure> {
    vec![failure]
}
