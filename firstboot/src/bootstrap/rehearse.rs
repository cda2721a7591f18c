//! Trying the plan out: the run's own checks and statements, rolled back.

use sf_contract::release::Schema;

use super::execute::{Done, Examined, Outcome, Report, examine, single, write};
use super::judge::Judgement;
use super::plan::{Author, Plan};
use super::prepare::{Material, Prepared, prepare};
use crate::database::{self, Class, Session, SqlError};
use crate::failure::Failure;
use crate::gate;

/// How far a rehearsal got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The statements ran, and were rolled back.
    RolledBack,
    /// Everything is there: no statement to try.
    Nothing,
    /// Tables are missing. Making them is the one thing that MariaDB does not
    /// roll back.
    NoTables,
    /// Others were at the same rows all the time.
    Contended,
}

/// What a rehearsal found.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// What a run would do.
    pub report: Report,
    /// How much of it was tried.
    pub tried: Tried,
    /// The gate's passage behind it, in the same transaction.
    pub passage: Option<gate::Rehearsed>,
    /// Did another node write some of it meanwhile? What was read before is old.
    pub overtaken: bool,
}

/// The same checks and the same statements, in one transaction that is rolled
/// back; behind them the passage of a node, if there is one, which finds what the
/// statements have established. Where tables are still missing only the checks
/// run. Holds the locks of its rows for as long as the statements take.
///
/// Where a bootstrap has written an operation since, all of it is looked at anew.
pub async fn rehearse(
    session: &mut Session,
    schema: &Schema,
    plan: &Plan,
    author: &Author,
    passing: Option<(&gate::Image, &gate::Candidate)>,
) -> Result<Rehearsal, Vec<Failure>> {
    let mut overtaken = 0;
    let mut meanwhile = false;
    loop {
        let (report, statements) = imagine(session, schema, plan, author, &mut meanwhile).await?;
        let tried = match statements {
            Statements::NoTables => Some((Tried::NoTables, None)),
            Statements::These(prepared) if prepared.is_empty() => Some((Tried::Nothing, None)),
            Statements::These(prepared) => try_out(session, &prepared, passing)
                .await
                .map_err(|error| single(error.into_failure()))?,
        };
        let (tried, passage) = match tried {
            Some(tried) => tried,
            // Each of them once, and whoever does more than that is no bootstrap.
            None if overtaken > plan.operations.len() => (Tried::Contended, None),
            None => {
                overtaken += 1;
                continue;
            }
        };
        return Ok(Rehearsal {
            report,
            tried,
            passage,
            overtaken: meanwhile || overtaken > 0,
        });
    }
}

enum Statements {
    NoTables,
    These(Vec<Prepared>),
}

/// What a run would do now, and by which statements.
async fn imagine(
    session: &mut Session,
    schema: &Schema,
    plan: &Plan,
    author: &Author,
    meanwhile: &mut bool,
) -> Result<(Report, Statements), Vec<Failure>> {
    let Examined {
        survey,
        verdicts,
        overtaken,
    } = examine(session, plan, author)
        .await
        .map_err(|error| single(error.into_failure()))?;
    *meanwhile |= overtaken;
    let judgements = verdicts?;
    let own = survey.tables.missing_own();
    let cluster = survey.tables.missing_cluster();
    let mut report = Report::default();
    report
        .tables
        .extend(own.iter().map(|name| (*name).to_owned()));
    if matches!(schema, Schema::Agent) {
        report
            .tables
            .extend(cluster.iter().map(|name| (*name).to_owned()));
    }
    // Hashing and random values come before the transaction.
    let mut prepared = Vec::new();
    for ((operation, judgement), (_, observed)) in
        plan.operations.iter().zip(judgements).zip(&survey.found)
    {
        let statements = prepare(
            operation,
            &judgement,
            observed,
            author,
            session.now(),
            &mut Material::default(),
        )
        .map_err(single)?;
        report.operations.push(Done {
            name: operation.name(),
            outcome: match judgement {
                Judgement::Create => Outcome::Created,
                Judgement::Adopt => Outcome::Adopted,
                Judgement::Done(_) | Judgement::Refuse(_) => Outcome::Unchanged,
            },
            note: match judgement {
                Judgement::Done(note) => note,
                _ => None,
            },
        });
        prepared.extend(statements);
    }
    let statements = if own.is_empty() && cluster.is_empty() {
        Statements::These(prepared)
    } else {
        Statements::NoTables
    };
    Ok((report, statements))
}

/// `None` where another node has written one of these rows since they were
/// prepared.
async fn try_out(
    session: &mut Session,
    prepared: &[Prepared],
    passing: Option<(&gate::Image, &gate::Candidate)>,
) -> Result<Option<(Tried, Option<gate::Rehearsed>)>, SqlError> {
    let tried = database::trial(session, async |session| {
        for transaction in prepared {
            match write(session, transaction).await {
                Err(error) if error.class == Class::Duplicate => return Ok(None),
                written => written?,
            }
        }
        let passage = match passing {
            Some((image, candidate)) => {
                Some(gate::rehearse_within(session, image, candidate).await?)
            }
            None => None,
        };
        Ok(Some((Tried::RolledBack, passage)))
    });
    Ok(tried.await?.unwrap_or(Some((Tried::Contended, None))))
}
