//! What the cluster has, for rendering the daemons' configuration.

use std::collections::BTreeMap;

use sf_contract::secret::Secret;

use super::schema;
use super::session::Session;
use super::trouble::SqlError;
use crate::failure::Failure;

/// The key of `cluster_config` that signs every API token.
pub(crate) const SEED_KEY: &str = "AUTH_SECRET_SEED";

/// A row of `bootstrap_operations`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct OperationRecord {
    /// `cluster-series`, `key/system/admin`, …
    pub name: String,
    /// `created` or `adopted`.
    pub outcome: String,
    /// What was written or found, as far as it may be told; see [`crate::bootstrap`].
    pub fingerprint: String,
    /// UNIX seconds.
    pub completed_at: f64,
    /// FQDN of the node that did it.
    pub completed_by: String,
    /// Version of the agent that did it.
    pub agent_version: String,
    /// Version of that node's image.
    pub image_version: String,
}

impl OperationRecord {
    /// Who established it, and when.
    pub(crate) fn by(&self) -> String {
        // Times beyond the range of the calendar do not occur; 1970 stands for them.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole seconds are enough to name a time"
        )]
        let seconds = self.completed_at as i64;
        let when = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        format!("{} by {} at {when}", self.outcome, self.completed_by)
    }

    /// That its artefact, `what`, is not there any more.
    pub(crate) fn says_gone(&self, what: &str, server: &str) -> String {
        format!(
            "{what} is gone from the database at {server}; it was {}",
            self.by()
        )
    }
}

/// What the cluster has. The seed is a [`Secret`] and is not in `config`.
#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    /// What signs API tokens; `None` before the bootstrap.
    pub auth_secret_seed: Option<Secret>,
    /// Cluster-wide keys, without the `SHAKENFIST_` prefix and without the seed.
    pub config: BTreeMap<String, serde_json::Value>,
    /// Completed operations.
    pub operations: Vec<OperationRecord>,
}

/// Reads it. Tables that are missing read as empty.
pub async fn read_cluster(session: &mut Session) -> Result<ClusterState, Failure> {
    read(session).await.map_err(SqlError::into_failure)
}

/// The same for a session that comes back.
pub(crate) async fn read(session: &mut Session) -> Result<ClusterState, SqlError> {
    const DOING: &str = "reading the cluster's configuration";
    let tables = schema::state(session).await?;
    let mut state = ClusterState::default();
    if tables.has("bootstrap_operations") {
        state.operations = operations(session).await?;
    }
    if !tables.has("cluster_config") {
        return Ok(state);
    }
    let rows = session
        .rows(
            DOING,
            "SELECT key_name, value_json FROM cluster_config ORDER BY key_name",
            &[],
        )
        .await?;
    for row in rows {
        let name = row.string(0);
        if !is_name(&name) {
            // Whoever wrote it: it can be no setting, and as a line of a file it
            // could be anything.
            tracing::warn!(
                "cluster_config has a row that is no setting, and is left out: {name:?}"
            );
            continue;
        }
        let value: serde_json::Value = row
            .text(1)
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| {
                SqlError::odd_value(
                    DOING,
                    session.at(),
                    format!("cluster_config.{name} is not JSON"),
                )
            })?;
        if name == SEED_KEY {
            state.auth_secret_seed = seed_text(&value).map(Secret::new);
        } else {
            state.config.insert(name, value);
        }
    }
    Ok(state)
}

/// Can it be the name of a setting, `SHAKENFIST_…` less its prefix?
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

/// The seed as text. Upstream's `set-config` stores what looks like a number as
/// a number, and reads it back as its digits.
pub(crate) fn seed_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) if !text.is_empty() => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// All records, in the order of their names. The table must be there.
pub(crate) async fn operations(session: &mut Session) -> Result<Vec<OperationRecord>, SqlError> {
    let rows = session
        .rows(
            "reading which operations are complete",
            "SELECT name, outcome, fingerprint, CAST(completed_at AS CHAR), completed_by, \
             agent_version, image_version FROM bootstrap_operations ORDER BY name",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| OperationRecord {
            name: row.string(0),
            outcome: row.string(1),
            fingerprint: row.string(2),
            completed_at: row
                .text(3)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0),
            completed_by: row.string(4),
            agent_version: row.string(5),
            image_version: row.string(6),
        })
        .collect())
}
