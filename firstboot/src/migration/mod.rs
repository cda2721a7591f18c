//! The tables that the release makes: running its own command
//! (`sf-ctl ensure-mariadb-schema`), on one node at a time.
//!
//! The command does not lock itself, so the row `schema` of `bootstrap_claims`
//! does: inserting it is what excludes others, on one server and on Galera. A
//! holder that dies leaves the row; the same machine goes on with it, and no
//! other takes it by itself, since nothing tells a dead holder from a slow one:
//! `cluster release-claim schema` is the way out.
//!
//! The command's exit code proves nothing: what counts is what stands in
//! `schema_versions` afterwards. Daemons start on exactly the versions that they
//! were built for, so nothing is migrated while the database tier runs another
//! release ([`others`]).

mod command;
mod hold;
pub(crate) mod others;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sf_contract::release::Schema;

use crate::codes;
use crate::database::preflight::{judge_schema, schema_versions};
use crate::database::schema::{self, TableState};
use crate::database::{Backoff, Link, Session, SqlError};
use crate::engine::node::Node;
use crate::failure::Failure;
use crate::gate;
use crate::paths::Paths;
use command::SchemaCommand;
use hold::Hold;

/// Between two looks at another node's work.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// For reading back and letting go, however long the command took.
const AFTERWARDS: Duration = Duration::from_mins(1);

/// How a node makes the tables of its release.
#[derive(Debug)]
pub struct Migration<'n> {
    schema: &'n Schema,
    expected: &'n BTreeMap<String, u32>,
    release: String,
    node: gate::Node,
    command: SchemaCommand,
}

/// What a look at the database says.
enum Look {
    /// The tables are as the release needs them.
    Fit(Arc<TableState>),
    /// This node makes them now.
    Ours { resumed: bool },
    /// Another node makes them.
    Theirs(Box<Failure>),
    /// They must not be made now.
    Stop(Box<Failure>),
}

impl<'n> Migration<'n> {
    /// `None` for releases without a command of their own.
    pub fn of(paths: &Paths, node: &'n Node) -> Option<Self> {
        let schema = &node.image.release.schema;
        let Schema::Command { command, .. } = schema else {
            return None;
        };
        Some(Self {
            schema,
            expected: node.image.expected_schema(),
            release: node.image.manifest.shakenfist_version.to_string(),
            node: node.gate_node(paths),
            command: SchemaCommand::new(paths, &node.image, node.metadata(), command),
        })
    }

    /// Makes or migrates the tables where they are not as the release needs
    /// them; waits for another node that does until `deadline`. The agent's own
    /// tables have to be there. Returns the tables as they are then.
    pub(crate) async fn ensure(
        &self,
        link: &mut Link<'_>,
        deadline: Instant,
    ) -> Result<Arc<TableState>, Failure> {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1, deadline);
        let mut told = String::new();
        let resumed = loop {
            match link.retry(async |session| self.look(session).await).await? {
                Look::Fit(tables) => return Ok(tables),
                Look::Stop(failure) => return Err(*failure),
                Look::Ours { resumed } => break resumed,
                Look::Theirs(failure) => {
                    if told != failure.what {
                        told.clone_from(&failure.what);
                        link.tell(&format!("waiting: {told}"));
                    }
                    if !backoff.pause().await {
                        return Err(*failure);
                    }
                }
            }
        };
        let again = if resumed {
            ", again after an interruption"
        } else {
            ""
        };
        link.tell(&format!(
            "making the release's tables{again}: {}",
            self.command.shown()
        ));
        let ran = self.command.run();
        link.extend(Instant::now() + AFTERWARDS);
        // Where the database is gone the row stays: this machine goes on with it.
        let result = link
            .retry(async |session| {
                let (tables, gap) = self.survey(session).await?;
                Ok((tables, gap.map(|failure| failure.what)))
            })
            .await
            .map_err(|mut failure| {
                failure.causes.extend(ran.as_ref().err().cloned());
                failure
            })?;
        self.let_go(link).await;
        match (ran, result) {
            (Ok(()), (tables, None)) => {
                tracing::info!("the release's tables are made, and read back as expected");
                Ok(tables)
            }
            (Ok(()), (_, Some(gap))) => Err(self
                .command
                .failure("ended without an error and did not do its work")
                .because(gap)),
            (Err(how), _) => Err(self.command.failure("failed").because(how)),
        }
    }

    /// What is there, and what keeps the release's daemons from starting on it.
    async fn survey(
        &self,
        session: &mut Session,
    ) -> Result<(Arc<TableState>, Option<Failure>), SqlError> {
        let tables = schema::state_anew(session).await?;
        let found = if tables.has("schema_versions") {
            schema_versions(session).await?
        } else {
            BTreeMap::new()
        };
        let versions = judge_schema(session.at(), self.schema, self.expected, &found);
        // Of the two, newer tables are what no command mends.
        let newer = |failure: &Failure| failure.code.id == codes::DB_SCHEMA_NEW.id;
        let worst = versions.iter().find(|failure| newer(failure)).cloned();
        let gap = worst
            .or_else(|| tables.waits_for_release(self.schema, session.at()))
            .or_else(|| versions.into_iter().next())
            .or_else(|| {
                (!tables.has("schema_versions")).then(|| {
                    Failure::new(
                        &codes::DB_SCHEMA_MISSING,
                        format!(
                            "the database at {} has no table schema_versions, which the release's \
                             own command makes",
                            session.at()
                        ),
                    )
                })
            });
        Ok((tables, gap))
    }

    async fn look(&self, session: &mut Session) -> Result<Look, SqlError> {
        let (tables, gap) = self.survey(session).await?;
        let holder = hold::read(session).await?;
        let mine = holder.as_ref().is_some_and(|hold| hold.is_of(&self.node));
        let Some(gap) = gap else {
            if mine {
                // Interrupted between its end and the release of the row.
                hold::release(session, &self.node).await?;
            }
            return Ok(Look::Fit(tables));
        };
        if gap.code.id == codes::DB_SCHEMA_NEW.id {
            return Ok(Look::Stop(Box::new(gap)));
        }
        let others = others::running(session, &self.node.fqdn, &self.release).await?;
        if let Some(failure) = others::failure(&others, &self.release, &gap) {
            return Ok(Look::Stop(Box::new(failure)));
        }
        match holder {
            Some(holder) if !mine => {
                return Ok(Look::Theirs(Box::new(held(&holder, session))));
            }
            Some(_) => hold::renew(session, &self.node).await?,
            None => hold::take(session, &self.node).await?,
        }
        // Between the look and the row another node may have finished.
        let (tables, gap) = self.survey(session).await?;
        if gap.is_none() {
            hold::release(session, &self.node).await?;
            return Ok(Look::Fit(tables));
        }
        Ok(Look::Ours { resumed: mine })
    }

    /// The row stays where that fails; this machine finds and removes it.
    async fn let_go(&self, link: &mut Link<'_>) {
        let released = link
            .retry(async |session| hold::release(session, &self.node).await)
            .await;
        match released {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "the row \"schema\" of bootstrap_claims was taken from this node while its command ran"
            ),
            Err(failure) => tracing::warn!(
                code = failure.code.id,
                "the row \"schema\" of bootstrap_claims stays for now: {failure}"
            ),
        }
    }
}

fn held(holder: &Hold, session: &Session) -> Failure {
    Failure::new(
        &codes::SCHEMA_HELD,
        format!(
            "{} makes the release's tables in the database {} since {}",
            holder.fqdn,
            session.database(),
            crate::clock::at(holder.claimed_at)
        ),
    )
    .value(&holder.fqdn)
    .source("table bootstrap_claims")
    .remedy(format!(
        "Wait for {}, or look at its console. If it is off for good, or has been installed \
         anew or for another role: run `sf-firstboot cluster release-claim schema`; the agent here keeps looking.",
        holder.fqdn
    ))
    .next_command("sf-firstboot cluster status")
}
