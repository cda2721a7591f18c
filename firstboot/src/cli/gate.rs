//! `sf-firstboot gate`: may a daemon start, here and now? Asked before every
//! start of every daemon, so it is quick, and an outage of the database never
//! keeps a cleared node from restarting a daemon.

use std::time::Duration;

use clap::Args;
use sf_contract::metadata::Target;

use super::Outcome;
use crate::codes;
use crate::database::{self, Connector};
use crate::engine::{self, node};
use crate::failure::Failure;
use crate::gate;
use crate::identity;
use crate::image::{Given, Image};
use crate::paths::Paths;
use crate::sources::{self, Remote};

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
        // A daemon's restart never waits for a metadata server.
        let collected = sources::collect(&node::places(paths, &[]).remote(Remote::Kept));
        let target = Target {
            role: image.role(),
            release: &image.release,
        };
        let loaded = match collected.load(target) {
            Ok(loaded) => Some(loaded),
            Err(rejected) => {
                let failure = rejected.summary();
                tracing::warn!(
                    code = failure.code.id,
                    "the database cannot be asked, for want of metadata: {}",
                    failure.what
                );
                None
            }
        };
        let named = loaded
            .as_ref()
            .map(|loaded| loaded.metadata.node.name.clone());
        let Some(fqdn) = named.or_else(|| stored.as_ref().map(|record| record.fqdn.clone())) else {
            return Err(Failure::new(
                &codes::GATE_NO_CLEARANCE,
                "the agent has not cleared this boot, and there is no usable metadata to ask the database by",
            )
            .next_command("sf-firstboot status")
            .into());
        };
        let live = loaded.and_then(|loaded| {
            let database = &loaded.metadata.database;
            facts(
                &Connector::new(database.dsn.clone())
                    .connect_timeout(database.connect_timeout.min(LIMIT)),
            )
        });
        let boot = identity::boot_id(paths);
        let allowed = gate::restart(
            &node::gate_image(&image),
            &fqdn,
            stored.as_ref(),
            &boot,
            live.as_ref(),
        )
        .map_err(|failure| *failure)?;
        tracing::info!(unit = self.unit, "may start: {allowed}");
        Ok(())
    }
}

/// What the database says, if it says it at once.
fn facts(connector: &Connector) -> Option<gate::Facts> {
    let runtime = database::runtime().ok()?;
    let asked = runtime.block_on(async {
        let asked = async {
            let mut session = connector.connect().await?;
            gate::facts(&mut session).await
        };
        tokio::time::timeout(LIMIT, asked).await
    });
    runtime.shutdown_background();
    match asked {
        Ok(Ok(facts)) => Some(facts),
        Ok(Err(failure)) => {
            tracing::warn!(
                code = failure.code.id,
                "the database cannot be asked: {failure}"
            );
            None
        }
        Err(_) => {
            tracing::warn!("the database does not answer within {} s", LIMIT.as_secs());
            None
        }
    }
}
