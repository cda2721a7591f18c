//! `sf-firstboot run`: discover -> merge -> validate -> preflight -> bootstrap
//! -> gate -> configure -> start, each phase from the value of the one before.
//! Nothing is written before all checks have passed; the done marker is the
//! last write. (The ninth phase, ready, is a run of its own: the daemons are
//! ordered after this one.)

pub mod lock;
mod names;
pub mod node;
pub mod refused;

use std::time::{Duration, Instant};

use sf_contract::metadata::node::BootstrapMode;

use crate::bootstrap;
use crate::card::Card;
use crate::codes;
use crate::configure::{self, FromCluster};
use crate::database::{self, Link, Session};
use crate::failure::Failure;
use crate::fleet::trace;
use crate::gate::{self, Clearance, ClearanceRecord, Decision};
use crate::hook;
use crate::identity;
use crate::image::{Given, Image};
use crate::migration::Migration;
use crate::paths::Paths;
use crate::preflight;
use crate::read;
use crate::report::{Phase, Reporter};
use crate::sources::Remote;
use crate::state::{self, Before, Membership};
use crate::units;
use crate::write::{self, Access};
use node::Node;

/// This boot's clearance, in the runtime folder: what the gate before a
/// daemon's restart goes by when the database cannot be reached.
const CLEARANCE: &str = "clearance.json";

/// How long a node that was cleared before waits for its addresses: DHCP and
/// drivers take seconds, and a network that is away must not keep its daemons
/// down.
const LATE_NETWORK: Duration = Duration::from_secs(30);

/// Runs all phases, and says everywhere how it went.
pub fn run(paths: &Paths, reporter: &mut Reporter) -> Result<(), Card> {
    // Held until all is told: what is told is about the run that has it.
    let (_alone, result) = match lock::take(paths) {
        Ok(alone) => (Some(alone), attempt(paths, reporter).map_err(Card::new)),
        Err(failure) if failure.code.id == codes::BUSY.id => {
            let card = Card::new(one(failure));
            reporter.turned_away(&card);
            return Err(card);
        }
        Err(failure) => (None, Err(Card::new(one(failure)))),
    };
    match &result {
        Ok(()) => reporter.started(),
        Err(card) => reporter.failed(card),
    }
    result
}

fn attempt(paths: &Paths, reporter: &mut Reporter) -> Result<(), Vec<Failure>> {
    let node =
        node::read(paths, &Given::default(), &[], Remote::RUN, reporter).map_err(|invalid| {
            if let Some((frames, _)) = &invalid.frames {
                tracing::error!("what is wrong, in its place:\n{frames}");
            }
            invalid.failures
        })?;
    let runtime = database::runtime().map_err(one)?;
    let result = runtime.block_on(async {
        let before = node
            .key(paths)
            .map_or(Before::Nothing, |key| state::before(paths, &key));
        let result = phases(paths, &node, &before, reporter).await;
        if let Err(failures) = &result {
            if !reporter.has_reached(Phase::Configure) {
                state::withdraw(paths, &before);
            }
            let card = Card::new(failures.clone());
            trace::stopped(
                node.connector(),
                &node.gate_image(),
                &node.gate_node(paths),
                reporter.phase_name(),
                (card.kind(), card.code()),
            )
            .await;
        }
        node.connector().hang_up().await;
        result
    });
    // A look-up of a name may hang in a thread for longer than anybody waits.
    runtime.shutdown_background();
    result.map_err(|failures| {
        let placed: Vec<Failure> = failures
            .into_iter()
            .map(|failure| node.placed(node.about_dsn(failure)))
            .collect();
        refused::leave(paths, &placed);
        placed
    })
}

async fn phases(
    paths: &Paths,
    node: &Node,
    before: &Before,
    reporter: &mut Reporter,
) -> Result<(), Vec<Failure>> {
    // From here, and not from the run's begin: waiting for a metadata server has
    // had a deadline of its own.
    let deadline = Instant::now() + node.metadata().database.wait;
    let known = *before == Before::Done;
    if let Before::Interrupted(began) = before {
        reporter.resumed(began);
    }
    let quick = if known {
        cleared_as_before(paths, node, reporter, deadline).await?
    } else {
        None
    };
    let (clearance, key) = if let Some(clearance) = quick {
        (clearance, None)
    } else {
        reporter.phase(Phase::Preflight);
        preflight::all(paths, node, deadline, &mut |text| reporter.progress(text)).await?;
        let key = node.key_made(paths).map_err(one)?;
        state::begin(paths, &key).map_err(one)?;
        reporter.phase(Phase::Bootstrap);
        establish(paths, node, reporter, deadline).await?;
        reporter.phase(Phase::Gate);
        (
            pass(paths, node, reporter, deadline).await.map_err(one)?,
            Some(key),
        )
    };
    reporter.phase(Phase::Configure);
    let tell = &mut |text: &str| reporter.progress(text);
    let mut link = Link::new(node.connector(), deadline, &codes::DB_BUSY, tell);
    let cluster = link
        .retry(async |session| {
            if key.is_some() {
                record(session, &clearance, Phase::Configure, None).await;
            }
            database::cluster(session).await
        })
        .await
        .map_err(one)?;
    let mut session = link.into_session();
    let mut membership = Membership::of(&cluster.operations);
    if let Some(membership) = &mut membership {
        let own = node.gate_node(paths);
        membership.names = names::joined_as(paths, &own, session.as_mut()).await;
    }
    let cluster = FromCluster {
        auth_secret_seed: cluster.auth_secret_seed,
        config: cluster.config,
    };
    configure::write_all(paths, &node.image, node.metadata(), &cluster).map_err(one)?;
    node.keep_fetched(paths).map_err(one)?;
    if key.is_some() && bootstraps(node) {
        reporter.progress("establishing the system key in the release's own store");
        hook::system_key(paths, &node.image, node.metadata()).map_err(one)?;
    }
    reporter.phase(Phase::Start);
    if let Some(mut session) = session {
        record(&mut session, &clearance, Phase::Start, Some(trace::STARTED)).await;
        session.release().await;
    }
    keep(paths, clearance.record()).map_err(one)?;
    refused::lift(paths);
    if let Some(membership) = &membership {
        state::keep_membership(paths, membership).map_err(one)?;
    }
    if let Some(key) = &key {
        state::finish(paths, key).map_err(one)?;
    }
    // After the marker: starting is no write, and every boot does it.
    units::start(paths, &node.image, &clearance).map_err(one)
}

/// Does this node bootstrap, by its role and by what the metadata says?
pub fn bootstraps(node: &Node) -> bool {
    node.metadata().bootstrap_mode.bootstraps(node.image.role())
}

/// What the node needs of the database.
pub fn need(node: &Node) -> database::preflight::Need<'_> {
    database::preflight::Need {
        role: node.image.role(),
        bootstraps: bootstraps(node),
        schema: &node.image.release.schema,
        schema_versions: node.image.expected_schema(),
    }
}

/// The fast path: the same instance, image and metadata as last time. `None`
/// when the cluster is not as it was, so that all has to be done again.
async fn cleared_as_before(
    paths: &Paths,
    node: &Node,
    reporter: &mut Reporter,
    deadline: Instant,
) -> Result<Option<Clearance>, Vec<Failure>> {
    tracing::info!(
        "instance, image and metadata are those of the last run: preflight and bootstrap are skipped"
    );
    preflight::remind(paths, node).await;
    reporter.phase(Phase::Gate);
    // Not all of the time: the database has to be asked as well.
    let patience = LATE_NETWORK.min(node.metadata().database.wait / 2);
    let tell = &mut |text: &str| reporter.progress(text);
    preflight::await_addresses(paths, node, Instant::now() + patience, tell).await;
    let (image, name) = (node.gate_image(), &node.metadata().node.name);
    let tell = &mut |text: &str| reporter.progress(text);
    let mut link = Link::new(node.connector(), deadline, &codes::GATE_CONTENDED, tell);
    let facts = link
        .retry(async |session| gate::look(session, name, image.series).await)
        .await;
    if let Some(session) = link.into_session() {
        session.release().await;
    }
    match facts {
        Ok(facts) if !matches!(gate::decide(&image, &facts), Decision::Wait(_)) => {}
        Ok(_) => {
            tracing::warn!("the cluster's record is not there any more: running in full");
            return Ok(None);
        }
        // A database that is lost in the middle says nothing of the record, and
        // what only warns on an ordinary boot must not stop the node for that.
        Err(lost) if lost.kind().retried() => return Err(one(lost)),
        Err(failure) => {
            tracing::warn!(
                code = failure.code.id,
                "the cluster's record cannot be read: {failure}; running in full"
            );
            return Ok(None);
        }
    }
    pass(paths, node, reporter, deadline)
        .await
        .map(Some)
        .map_err(one)
}

async fn pass(
    paths: &Paths,
    node: &Node,
    reporter: &mut Reporter,
    deadline: Instant,
) -> Result<Clearance, Failure> {
    gate::pass(
        node.connector(),
        &node.gate_image(),
        &node.gate_node(paths),
        &identity::boot_id(paths),
        deadline,
        &mut |text| reporter.progress(text),
    )
    .await
}

/// Bootstraps, or waits until another node has.
async fn establish(
    paths: &Paths,
    node: &Node,
    reporter: &mut Reporter,
    deadline: Instant,
) -> Result<(), Vec<Failure>> {
    let connector = node.connector();
    if bootstraps(node) {
        let plan = node.plan()?;
        let schema = &node.image.release.schema;
        let tell = &mut |text: &str| reporter.progress(text);
        let migration = Migration::of(paths, node);
        let report = bootstrap::run_on_node(
            connector,
            schema,
            migration.as_ref(),
            &plan,
            &node.author(),
            deadline,
            tell,
        )
        .await?;
        reporter.created(log_operations(&report));
        return Ok(());
    }
    let require = node.metadata().bootstrap_mode == BootstrapMode::Require;
    // "require" does not wait: the cluster exists, or something is wrong.
    let until = if require { Instant::now() } else { deadline };
    let waited =
        bootstrap::wait_for_bootstrap(connector, until, &mut |text| reporter.progress(text)).await;
    match waited {
        Ok(mut session) => {
            // Preflight may have come before the tables.
            let need = need(node);
            let findings = if need.role.bootstraps() {
                database::preflight::versions(&mut session, &need).await
            } else {
                Ok(Vec::new())
            };
            session.release().await;
            let findings = findings.map_err(one)?;
            if findings.is_empty() {
                Ok(())
            } else {
                Err(findings)
            }
        }
        Err(failure) if require && failure.code.id == codes::BOOTSTRAP_WAITING.id => Err(vec![
            Failure::new(&codes::BOOTSTRAP_REQUIRED, failure.what)
                .source("metadata field bootstrap.mode"),
        ]),
        // It waits for another because it was told to, which is easily forgotten.
        Err(failure)
            if node.image.role().bootstraps() && failure.code.id == codes::BOOTSTRAP_WAITING.id =>
        {
            Err(vec![
                failure
                    .value("bootstrap.mode = \"wait\"")
                    .source("metadata field bootstrap.mode")
                    .remedy(
                        "This node may not bootstrap: its metadata says bootstrap.mode = \"wait\". \
                         Start the database-tier node that does, and this one goes on; or write mode = \
                         \"auto\" here, then: systemctl restart sf-firstboot.",
                    ),
            ])
        }
        Err(failure) => Err(vec![failure]),
    }
}

/// Logs what a bootstrap did; the names of what it created.
pub fn log_operations(report: &bootstrap::Report) -> Vec<String> {
    let mut created = Vec::new();
    for done in &report.operations {
        tracing::info!(
            operation = done.name,
            outcome = outcome(done.outcome),
            note = done.note,
            "bootstrap operation"
        );
        if done.outcome == bootstrap::Outcome::Created {
            created.push(done.name.clone());
        }
    }
    created
}

/// An outcome as it is shown.
pub fn outcome(outcome: bootstrap::Outcome) -> &'static str {
    match outcome {
        bootstrap::Outcome::Created => "created",
        bootstrap::Outcome::Adopted => "adopted",
        bootstrap::Outcome::Unchanged => "unchanged",
    }
}

/// The node's row in the cluster's table. The cluster does without; so the
/// daemons need not wait for it.
async fn record(session: &mut Session, clearance: &Clearance, phase: Phase, outcome: Option<&str>) {
    let progress = gate::Progress {
        phase: phase.name(),
        outcome,
        last_error: None,
    };
    if let Err(failure) = gate::progress(session, clearance, &progress).await {
        tracing::warn!(
            code = failure.code.id,
            "this node's row could not be updated: {failure}"
        );
    }
}

fn keep(paths: &Paths, record: &ClearanceRecord) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(record).map_err(|error| {
        Failure::new(
            &codes::INTERNAL,
            "the clearance could not be written as JSON",
        )
        .cause(&error)
    })?;
    write::atomically(&paths.runtime(CLEARANCE), &text, Access::PRIVATE)
        .map(drop)
        .map_err(|error| state::unwritable(&error))
}

/// The clearance that this boot's run has kept.
pub fn kept(paths: &Paths) -> Option<ClearanceRecord> {
    serde_json::from_str(&read::text(&paths.runtime(CLEARANCE)).ok()?).ok()
}

/// The node as the gate cleared it in this boot, or else as it is seen from here.
pub fn cleared_node(paths: &Paths, image: &Image, fqdn: &str) -> gate::Node {
    let mut node = node::gate_node(paths, image, fqdn);
    let boot = identity::boot_id(paths);
    if let Some(kept) = kept(paths)
        && kept.boot_id == boot
        && kept.fqdn == node.fqdn
        && !kept.instance_id.is_empty()
    {
        node.instance_id = kept.instance_id;
    }
    node
}

fn one(failure: Failure) -> Vec<Failure> {
    vec![failure]
}
