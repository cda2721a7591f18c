//! `sf-firstboot bootstrap-cluster`: the bootstrap alone, by hand.

use std::time::{Duration, Instant};

use clap::Args;
use sf_contract::role::Role;

use super::again::Again;
use super::{Desk, Outcome, Stop, framed, print, print_json};
use crate::bootstrap::{self, Report};
use crate::card::Card;
use crate::codes;
use crate::database;
use crate::engine::{self, lock, node};
use crate::failure::Failure;
use crate::image::Given;
use crate::migration::Migration;
use crate::paths::Paths;
use crate::preflight::{self, Context};
use crate::report::{Audience, Reporter};

/// Bootstraps the cluster in its database, after all checks; starts nothing on this machine.
///
/// What is there already is left alone: running it again writes nothing.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    desk: Desk,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn caller(&self) -> (Again, bool) {
        (self.desk.again(Some(Role::DatabaseTier)), self.json)
    }

    pub(super) fn run(self, paths: &Paths) -> Outcome {
        // Other roles' database users do not see what the bootstrap looks at: to
        // them it is gone.
        if let Some(role) = self.desk.role.filter(|role| !role.bootstraps()) {
            return Err(Failure::new(
                &codes::USAGE,
                format!("a node of role {role} does not bootstrap a cluster"),
            )
            .source("--role")
            .remedy(
                "Leave --role out, and give the metadata of a database-tier node, whose database \
                 user may write.",
            )
            .into());
        }
        // Whoever calls this wants the bootstrap, whatever this machine is for.
        let given = Given {
            role: self.desk.role.or(Some(Role::DatabaseTier)),
            ..self.desk.given()
        };
        let mut reporter = Reporter::new(paths, Audience::Desk);
        let remote = self.desk.remote(paths, Duration::ZERO);
        let mut node = node::read(paths, &given, &self.desk.metadata, remote, &mut reporter)
            .map_err(|invalid| {
                if self.json {
                    Stop::Card(Card::new(invalid.failures))
                } else {
                    framed(invalid)
                }
            })?;
        node.bootstrap_by_hand();
        let runtime = database::runtime()?;
        let result = runtime.block_on(self.bootstrap(paths, &node));
        runtime.shutdown_background();
        let report = result.map_err(|failures| {
            let failures = failures
                .into_iter()
                .map(|failure| node.placed(node.about_dsn(failure)))
                .collect();
            Stop::Card(Card::new(failures))
        })?;
        let created = engine::log_operations(&report);
        if self.json {
            let operations: Vec<_> = report
                .operations
                .iter()
                .map(|done| serde_json::json!({"name": done.name, "outcome": engine::outcome(done.outcome), "note": done.note}))
                .collect();
            return print_json(serde_json::json!({"created": created, "operations": operations}));
        }
        for done in &report.operations {
            let remark = done
                .note
                .as_deref()
                .map(|note| format!("  ({note})"))
                .unwrap_or_default();
            print(&format!(
                "{:<10} {}{remark}\n",
                engine::outcome(done.outcome),
                done.name
            ))?;
        }
        Ok(())
    }

    async fn bootstrap(&self, paths: &Paths, node: &node::Node) -> Result<Report, Vec<Failure>> {
        let deadline = Instant::now() + node.metadata().database.wait;
        let mut tell = |text: &str| tracing::info!("{text}");
        let mut context = Context {
            on_node: self.desk.is_node(paths),
            ..Context::new(paths, node, deadline, &mut tell)
        };
        let blocking = preflight::blocking(&preflight::run(&mut context).await);
        if let Some(session) = context.session.take() {
            session.close().await;
        }
        if !blocking.is_empty() {
            return Err(blocking);
        }
        let plan = node.plan()?;
        let schema = &node.image.release.schema;
        let migration = self
            .desk
            .is_node(paths)
            .then(|| Migration::of(paths, node))
            .flatten();
        // The row of the claim tells machines apart, and not two runs on one.
        let _alone = migration
            .as_ref()
            .map(|_| lock::take(paths))
            .transpose()
            .map_err(|failure| vec![failure])?;
        bootstrap::run_on_node(
            node.connector(),
            schema,
            migration.as_ref(),
            &plan,
            &node.author(),
            deadline,
            &mut tell,
        )
        .await
    }
}
