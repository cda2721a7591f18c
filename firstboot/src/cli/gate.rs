//! `sf-firstboot gate`: may a daemon start, here and now? Asked before every
//! start of every daemon, so it is quick, and an outage of the database never
//! keeps a cleared node from restarting a daemon.

use std::time::{Duration, Instant};

use clap::Args;
use sf_contract::failure::Kind;

use super::Outcome;
use crate::codes;
use crate::database::{self, Connector};
use crate::engine::{self, node, refused};
use crate::failure::Failure;
use crate::fleet::trace;
use crate::gate::{self, May};
use crate::identity;
use crate::image::{Given, Image};
use crate::paths::Paths;
use crate::report::Phase;

/// For the whole conversation with the database.
const LIMIT: Duration = Duration::from_secs(3);

/// Says whether a daemon of this image may start beside the cluster's version.
///
/// Uses the clearance of this boot when the database cannot be reached, and
/// refuses only on a known mismatch.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Unit that is about to start, for the log.
    #[arg(value_name = "UNIT")]
    unit: Option<String>,
}

impl Command {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let image = Image::read(paths, &Given::default())?;
        let stored = engine::kept(paths);
        let loaded = node::load_quietly(paths, &image);
        let named = loaded
            .as_ref()
            .map(|loaded| loaded.metadata.node.name.clone());
        let Some(fqdn) = named.or_else(|| stored.as_ref().map(|record| record.fqdn.clone())) else {
            return Err(Failure::new(
                &codes::GATE_NO_CLEARANCE,
                "the agent has not cleared this boot, and there is no usable metadata to ask the database by",
            )
            .remedy(gate::NOT_CLEARED)
            .next_command("sf-firstboot status")
            .into());
        };
        let connector = loaded.map(|loaded| Connector::of(&loaded.metadata).within(LIMIT));
        let boot = identity::boot_id(paths);
        let (gate_image, gate_node) = (
            node::gate_image(&image),
            engine::cleared_node(paths, &image, &fqdn),
        );
        let mut unasked = None;
        let live = connector.as_ref().and_then(|connector| {
            asked(gate_facts(connector, &gate_image, &gate_node))
                .map_err(|failure| unasked = failure)
                .ok()
        });
        let refused = refused::kept(paths);
        // A server that takes no writes may be behind the one that does: what it
        // says refuses while it is the one to ask, and takes nothing back.
        let live = live.filter(|(_, read_only)| !read_only || refused.is_none());
        let may = gate::restart(
            &gate_image,
            &gate_node,
            (stored.as_ref(), refused.as_ref()),
            &boot,
            live.as_ref().map(|(facts, _)| facts),
        )
        .map_err(|failure| {
            if live.as_ref().is_some_and(|(_, read_only)| !read_only) {
                refused::leave(paths, std::slice::from_ref(&*failure));
            }
            match &unasked {
                Some(why) => failure.because(why.to_string()),
                None => *failure,
            }
        })?;
        if may == May::Unrecorded
            && let Some(connector) = &connector
        {
            tracing::warn!(
                "the cluster's record does not know this node, or its role, any more: recording it"
            );
            match asked(record(connector, &gate_image, &gate_node, &boot)) {
                // Others came first: now it is known that this one may not run.
                Err(Some(failure)) if failure.kind() == Kind::Refused => {
                    refused::leave(paths, std::slice::from_ref(&failure));
                    return Err(failure.into());
                }
                Ok(()) | Err(_) => {}
            }
        }
        if may != May::ClearedEarlier {
            refused::lift(paths);
        }
        tracing::info!(unit = self.unit, "may start: {may}");
        Ok(())
    }
}

/// What the record says, and whether a server that takes no writes says it.
async fn gate_facts(
    connector: &Connector,
    image: &gate::Image,
    node: &gate::Node,
) -> Result<(gate::Facts, bool), Failure> {
    let mut session = connector.connect().await?;
    let facts = gate::facts(&mut session, &node.fqdn, image.series).await;
    let read_only = session.read_only();
    session.close().await;
    Ok((facts?, read_only))
}

/// Writes the node's row again. Where the database is lost meanwhile, the
/// daemon starts all the same: this boot was cleared.
async fn record(
    connector: &Connector,
    image: &gate::Image,
    node: &gate::Node,
    boot: &str,
) -> Result<(), Failure> {
    let deadline = Instant::now() + LIMIT;
    // One connection for both: a silent host would cost its time twice.
    let connector = &connector.clone().keeping();
    let clearance = gate::pass(connector, image, node, boot, deadline, &mut |_| {}).await?;
    let mut session = connector.connect().await?;
    let progress = gate::Progress {
        phase: Phase::Start.name(),
        outcome: Some(trace::STARTED),
        last_error: None,
    };
    let result = gate::progress(&mut session, &clearance, &progress).await;
    session.close().await;
    result
}

/// What the database answers, if it answers at once; else why not, if it says.
fn asked<T>(question: impl Future<Output = Result<T, Failure>>) -> Result<T, Option<Failure>> {
    let runtime = database::runtime().map_err(Some)?;
    let answer = runtime.block_on(async { tokio::time::timeout(LIMIT, question).await });
    runtime.shutdown_background();
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(failure)) => {
            tracing::warn!(
                code = failure.code.id,
                "the database cannot be asked: {failure}"
            );
            Err(Some(failure))
        }
        Err(_) => {
            tracing::warn!("the database does not answer within {} s", LIMIT.as_secs());
            Err(None)
        }
    }
}
