//! Checks against the cluster's database. They read; the rehearsal writes and
//! rolls back.

use sf_contract::release::Schema;

use super::{Context, Found};
use crate::bootstrap::{self, Rehearsal, Tried};
use crate::claim;
use crate::codes;
use crate::database::preflight::Preflight;
use crate::database::{self, Session, SqlError, schema};
use crate::engine;
use crate::failure::Failure;
use crate::forecast::{self, Part};
use crate::gate::{self, Decision, How, Rehearsed};
use crate::migration::others;

/// Connects, waiting as long as it may, and asks the server about itself.
pub(super) async fn database(context: &mut Context<'_>) -> Result<Found, Failure> {
    if let Some(authority) = authority_elsewhere(context) {
        let note = format!(
            "not judged here: the authority of its certificate is only on the node ({} is the {}); {}",
            authority.what, authority.place, authority.remedy
        );
        context.seen.authority = Some((authority.what.to_owned(), authority.place));
        return Ok(Found::skipped(note));
    }
    let connector = context.node.connector();
    // What the operator has to correct first will not be corrected by waiting.
    let connected = if context.hopeless {
        connector.connect().await
    } else {
        connector
            .connect_until(context.deadline, &mut *context.tell)
            .await
    };
    let mut session = match connected {
        Ok(session) => session,
        Err(failure) => {
            return Ok(Found::Failed {
                findings: vec![failure],
            });
        }
    };
    let need = engine::need(context.node);
    let found = database::preflight::run(&mut session, &need).await;
    let found = match found {
        Ok(found) => makes_tables(context, &mut session, found).await,
        Err(failure) => Err(failure),
    };
    let server = session.server().to_owned();
    context.session = Some(session);
    let (found, makes) = found?;
    if makes.is_some()
        && let Schema::Command { command, .. } = &context.node.image.release.schema
    {
        context.seen.command = Some(command.join(" "));
    }
    let encryption = found.standing.encryption.clone();
    context.standing = Some(found.standing);
    if found.findings.is_empty() {
        let encryption = encryption.unwrap_or_else(|| "unencrypted".into());
        let makes = makes.map(|text| format!("; {text}")).unwrap_or_default();
        Ok(Found::noted(format!(
            "{server} is {}, {encryption} (ssl-mode={}){makes}",
            found.server_version,
            context.node.metadata().database.dsn.ssl_mode()
        )))
    } else {
        Ok(Found::Failed {
            findings: found.findings,
        })
    }
}

/// What the database server's certificate is to be judged by, and a desk lacks.
struct Elsewhere {
    what: &'static str,
    place: String,
    remedy: String,
}

/// For `check` at a desk, where the mode verifies: to trust the system's
/// authorities in the place of the one that only the node has would foretell a
/// stop that is not going to happen.
fn authority_elsewhere(context: &Context<'_>) -> Option<Elsewhere> {
    let dsn = &context.node.metadata().database.dsn;
    if context.on_node || !context.rehearse || dsn.socket().is_some() || !dsn.ssl_mode().verifies()
    {
        return None;
    }
    if let Some(file) = dsn.ssl_ca() {
        return (!std::path::Path::new(file).exists()).then(|| Elsewhere {
            what: "ssl-ca of database.dsn",
            place: format!("file {file}"),
            remedy: format!("put a copy at {file} on this machine"),
        });
    }
    let place = context.node.elsewhere().get("pki.ca")?;
    Some(Elsewhere {
        what: "pki.ca",
        place: place.clone(),
        remedy: "give a copy with one more --metadata FILE behind the others, of two lines: \
                 `schema = 1` and `pki.ca = { file = \"/PATH/TO/COPY.pem\" }`"
            .into(),
    })
}

/// On a node that runs the release's command, what that is going to make is no
/// finding but a note; unless it must not run now.
async fn makes_tables(
    context: &Context<'_>,
    session: &mut Session,
    mut found: Preflight,
) -> Result<(Preflight, Option<String>), Failure> {
    let node = context.node;
    // A check at a desk stands for the node, a bootstrap from a desk does not.
    let here = context.on_node || context.rehearse;
    let Schema::Command { command, .. } = &node.image.release.schema else {
        return Ok((found, None));
    };
    let newer = |failure: &Failure| failure.code.id == codes::DB_SCHEMA_NEW.id;
    if !here || !engine::bootstraps(node) || found.findings.iter().any(newer) {
        return Ok((found, None));
    }
    let made = [&codes::DB_SCHEMA_MISSING, &codes::DB_SCHEMA_OLD];
    let (made, mut findings): (Vec<Failure>, Vec<Failure>) = found
        .findings
        .into_iter()
        .partition(|failure| made.iter().any(|code| code.id == failure.code.id));
    let announced = made.first().map(|failure| {
        format!(
            "this node runs {} first, since {}",
            command.join(" "),
            failure.what
        )
    });
    if let Some(gap) = made.first()
        && found.tables.has_record()
    {
        let release = node.image.manifest.shakenfist_version.to_string();
        let others = others::running(session, &node.metadata().node.name, &release)
            .await
            .map_err(SqlError::into_failure)?;
        findings.extend(others::failure(&others, &release, gap));
    }
    found.findings = findings;
    Ok((found, announced))
}

/// What of the server works today, and may not for long. A run needs one host
/// and looks at no other.
pub(super) async fn upkeep(context: &mut Context<'_>) -> Result<Found, Failure> {
    let (Some(standing), Some(session)) = (&context.standing, &context.session) else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let mut findings = standing.warnings();
    if context.rehearse {
        let connector = context.node.connector();
        findings.extend(connector.ageing(session.server()).await);
        findings.extend(
            connector
                .others(session)
                .await
                .into_iter()
                .map(|failure| unused(failure, session.server())),
        );
    }
    Ok(Found::judged(findings))
}

/// A host of the DSN that does not work, beside one that does.
fn unused(failure: Failure, server: &str) -> Failure {
    let remedy = format!(
        "{} Or take it out of database.dsn.",
        failure.remedy_text().trim_end()
    );
    let mut unused = Failure::new(
        &codes::DB_HOST,
        format!("{}; {server} is used", failure.what),
    )
    .remedy(remedy)
    .because(failure.code.id);
    unused.causes.extend(failure.causes);
    unused.value = failure.value;
    unused.next_command = failure.next_command;
    unused
}

/// Why nothing is tried in a database without tables, behind the check of its
/// user's privileges.
const NO_TABLES: &str = "not rehearsed: the tables are not there yet; the grants to make them are";
const NO_TABLES_YET: &str =
    "not rehearsed: the tables are not there yet; the grants to write to them are";
const CONTENDED: &str =
    "not rehearsed: other nodes were at the same rows all the time, or a backup holds the tables";

/// What the bootstrap would do, and the gate's passage behind it, in one
/// transaction that is rolled back.
pub(super) async fn rehearsal(context: &mut Context<'_>) -> Result<Found, Failure> {
    if !context.rehearse {
        return Ok(Found::skipped(super::RUN_DOES_IT));
    }
    if !engine::bootstraps(context.node) {
        return awaited(context).await;
    }
    let found = try_bootstrapping(context).await?;
    if context.seen.rehearsed.is_none() {
        context.seen.tried.push(untried("bootstrap", &found));
    }
    Ok(found)
}

/// A part that ended in that.
fn untried(part: &'static str, found: &Found) -> Part {
    let why = match found {
        Found::Skipped { note } => Some(note.as_str()),
        found => found.findings().first().map(|failure| failure.code.id),
    };
    Part::of(part, why)
}

async fn try_bootstrapping(context: &mut Context<'_>) -> Result<Found, Failure> {
    if context.hopeless {
        return Ok(Found::skipped(super::OTHERS_FIRST));
    }
    let Ok(plan) = context.node.plan() else {
        return Ok(Found::skipped(super::OTHERS_FIRST));
    };
    let candidate = super::fleet::candidate(context);
    // For the checks behind this one: the session's limits are a trial's, then.
    super::fleet::facts(context).await?;
    let Some(session) = &mut context.session else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let author = context.node.author();
    let passing = (&context.node.gate_image(), &candidate);
    let schema = &context.node.image.release.schema;
    let rehearsed = bootstrap::rehearse(session, schema, &plan, &author, Some(passing)).await;
    let Rehearsal {
        report,
        tried,
        passage,
        overtaken,
    } = match rehearsed {
        Ok(rehearsal) => rehearsal,
        Err(findings) => return Ok(Found::Failed { findings }),
    };
    if overtaken {
        context.facts = None;
    }
    context.seen.passage = passage;
    let done: Vec<String> = report
        .operations
        .iter()
        .map(|done| format!("{} would be {}", done.name, engine::outcome(done.outcome)))
        .collect();
    let mut note = done.join(", ");
    let why = match tried {
        Tried::RolledBack | Tried::Nothing => None,
        Tried::NoTables => Some(NO_TABLES),
        Tried::Contended => Some(CONTENDED),
    };
    if let Some(why) = why {
        note.push_str("; ");
        note.push_str(why);
    }
    if tried != Tried::Nothing {
        context.seen.tried.push(Part::of("bootstrap", why));
    }
    context.seen.rehearsed = Some(report);
    Ok(Found::noted(note))
}

/// The gate's passage in a transaction that is rolled back, for a node that the
/// other checks let in.
pub(super) async fn passage(context: &mut Context<'_>) -> Result<Found, Failure> {
    if !context.rehearse {
        return Ok(Found::skipped(super::RUN_DOES_IT));
    }
    let found = try_passing(context).await?;
    context.seen.tried.push(untried("gate", &found));
    Ok(found)
}

async fn try_passing(context: &mut Context<'_>) -> Result<Found, Failure> {
    let node = context.node;
    let image = node.gate_image();
    let candidate = super::fleet::candidate(context);
    let Some(standing) = super::fleet::standing(context).await? else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let Some(facts) = super::fleet::facts(context).await? else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let decision = gate::decide(&image, facts);
    let refusal = match &decision {
        Decision::Refuse(failure) => Some(failure.code.id),
        _ => claim::judge(&standing, facts).err().map(|f| f.code.id),
    };
    if let Some(code) = refusal {
        return Ok(Found::skipped(format!(
            "not rehearsed: the gate refuses this node ({code})"
        )));
    }
    if context.hopeless {
        return Ok(Found::skipped(super::OTHERS_FIRST));
    }
    let Some(session) = &mut context.session else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let rehearsed = match (context.seen.passage.take(), decision) {
        (Some(behind_the_bootstrap), _) => Ok(behind_the_bootstrap),
        (None, Decision::Proceed(_)) => gate::rehearse(session, &image, &candidate).await,
        (None, _) => {
            let tables = schema::state(session)
                .await
                .map_err(SqlError::into_failure)?;
            let why = match (tables.has_record(), engine::bootstraps(node)) {
                (true, true) => "not rehearsed: it comes behind the bootstrap, which was not",
                (true, false) => "not rehearsed: there is nothing to join before the bootstrap",
                (false, true) => NO_TABLES,
                (false, false) => NO_TABLES_YET,
            };
            return Ok(Found::skipped(why));
        }
    };
    let rehearsed = match rehearsed {
        Ok(rehearsed) => rehearsed,
        Err(failure) => {
            return Ok(Found::Failed {
                findings: vec![failure],
            });
        }
    };
    Ok(match rehearsed {
        Rehearsed::Passes => {
            Found::noted("every statement of the gate's passage ran, and was rolled back")
        }
        Rehearsed::Contended => Found::skipped(CONTENDED),
        Rehearsed::Stops(failure) => Found::Failed {
            findings: vec![*failure],
        },
    })
}

/// How far the bootstrap is for which this node waits.
async fn awaited(context: &mut Context<'_>) -> Result<Found, Failure> {
    let Some(session) = &mut context.session else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let lacks = bootstrap::lacks(session).await?;
    let server = session.server().to_owned();
    context.seen.lacks = Some(lacks.clone());
    Ok(match lacks {
        None => Found::noted("the cluster has been bootstrapped"),
        Some(lacks) if forecast::needs_a_cluster(context.node) => Found::Failed {
            findings: vec![
                Failure::new(
                    &codes::BOOTSTRAP_REQUIRED,
                    format!(
                        "the cluster in the database at {server} has not been bootstrapped: {lacks}"
                    ),
                )
                .source("metadata field bootstrap.mode"),
            ],
        },
        Some(lacks) => Found::noted(format!(
            "this node does not bootstrap: it would wait for the cluster ({lacks})"
        )),
    })
}

/// What the gate would say now.
pub(super) async fn versions(context: &mut Context<'_>) -> Result<Found, Failure> {
    let node = context.node;
    let Some(facts) = super::fleet::facts(context).await? else {
        return Ok(Found::skipped(super::NO_DATABASE));
    };
    let decision = gate::decide(&node.gate_image(), facts);
    context.seen.decision = Some(decision.clone());
    match decision {
        Decision::Proceed(how) => Ok(Found::noted(way_in(how, &node.gate_image()))),
        // The run waits for it, or makes it.
        Decision::Wait(failure) => Ok(Found::noted(failure.what)),
        Decision::Refuse(failure) => Ok(Found::Failed {
            findings: vec![*failure],
        }),
    }
}

fn way_in(how: How, image: &gate::Image) -> String {
    let series = image.series;
    match how {
        How::Join { .. } => format!("the cluster runs series {series}; this node joins it"),
        How::Introduce { retire: None, .. } => {
            format!("series {series} may run here, and would be new in the cluster")
        }
        How::Introduce {
            retire: Some(old), ..
        } => {
            format!(
                "series {series} may run here; it takes the place of {old}, which no node runs any more"
            )
        }
    }
}
