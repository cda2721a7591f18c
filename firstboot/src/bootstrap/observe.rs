//! What is there of an operation: its record and its artefact. Reads only.

use serde_json::Value;
use sf_contract::secret::Secret;

use super::operation::Operation;
use crate::database::schema::TableState;
use crate::database::{Arg, OperationRecord, SEED_KEY, Session, SqlError, seed_text};
use crate::gate::{self, Slot};

/// An artefact as found. No `Debug`: it may hold the seed.
pub(super) enum Observed {
    Series(Vec<Slot>),
    Namespace {
        row: bool,
        attributes: bool,
        state: Option<String>,
    },
    Key(Option<StoredKey>),
    Config(Option<Value>),
    Seed(Option<Secret>),
    /// A row for the seed, and none in it.
    UnusableSeed,
}

/// A key as found.
pub(super) struct StoredKey {
    /// base64 of its bcrypt hash; `None` when only its name is there.
    pub(super) stored: Option<String>,
    pub(super) state: Option<String>,
    /// Its identity with dashes, as `object_states` has it.
    pub(super) dashed: String,
    /// When it expired, by the server's clock; `None` for one that has not.
    pub(super) expired: Option<f64>,
}

/// Reads the record of one operation.
pub(super) async fn record(
    session: &mut Session,
    tables: &TableState,
    name: &str,
) -> Result<Option<OperationRecord>, SqlError> {
    if !tables.has("bootstrap_operations") {
        return Ok(None);
    }
    let all = crate::database::operations(session).await?;
    Ok(all.into_iter().find(|record| record.name == name))
}

/// Reads one artefact; tables that are missing read as empty.
pub(super) async fn observe(
    session: &mut Session,
    tables: &TableState,
    operation: &Operation,
) -> Result<Observed, SqlError> {
    Ok(match operation {
        Operation::ClusterSeries { .. } => Observed::Series(if tables.has_record() {
            gate::read_slots(session).await?
        } else {
            Vec::new()
        }),
        Operation::Namespace => namespace(session, tables).await?,
        Operation::Key(key) => Observed::Key(stored_key(session, tables, &key.name).await?),
        Operation::Config { key, .. } => Observed::Config(config(session, tables, key).await?),
        Operation::AuthSecretSeed { .. } => match config(session, tables, SEED_KEY).await? {
            None => Observed::Seed(None),
            Some(value) => seed_text(&value).map_or(Observed::UnusableSeed, |seed| {
                Observed::Seed(Some(Secret::new(seed)))
            }),
        },
    })
}

async fn namespace(session: &mut Session, tables: &TableState) -> Result<Observed, SqlError> {
    const DOING: &str = "reading the namespace system";
    let row = tables.has("namespaces")
        && !session
            .rows(
                DOING,
                "SELECT name FROM namespaces WHERE name = 'system'",
                &[],
            )
            .await?
            .is_empty();
    let attributes = tables.has("namespace_attributes")
        && !session
            .rows(
                DOING,
                "SELECT name FROM namespace_attributes WHERE name = 'system'",
                &[],
            )
            .await?
            .is_empty();
    let state = state(session, tables, "NAMESPACE", "system").await?;
    Ok(Observed::Namespace {
        row,
        attributes,
        state,
    })
}

async fn state(
    session: &mut Session,
    tables: &TableState,
    kind: &str,
    uuid: &str,
) -> Result<Option<String>, SqlError> {
    if !tables.has("object_states") {
        return Ok(None);
    }
    let rows = session
        .rows(
            "reading an object's state",
            "SELECT CAST(state_value AS CHAR) FROM object_states \
             WHERE object_type = ? AND object_uuid = ?",
            &[kind.into(), uuid.into()],
        )
        .await?;
    Ok(rows.first().and_then(|row| row.text(0)).map(str::to_owned))
}

async fn stored_key(
    session: &mut Session,
    tables: &TableState,
    name: &str,
) -> Result<Option<StoredKey>, SqlError> {
    if !tables.has("namespace_keys") || !tables.has("namespace_key_attributes") {
        return Ok(None);
    }
    let rows = session
        .rows(
            "reading the system key",
            "SELECT k.uuid, a.`key`, CAST(a.expiry AS CHAR) FROM namespace_keys k \
             LEFT JOIN namespace_key_attributes a ON a.uuid = k.uuid \
             WHERE k.namespace = 'system' AND k.name = ?",
            &[Arg::from(name)],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let uuid = row.string(0);
    let dashed = uuid::Uuid::parse_str(&uuid)
        .map_or_else(|_| uuid.clone(), |uuid| uuid.hyphenated().to_string());
    let now = session.now();
    let expiry = row.text(2).and_then(|text| text.parse::<f64>().ok());
    Ok(Some(StoredKey {
        stored: row.text(1).map(str::to_owned),
        state: state(session, tables, "NAMESPACE_KEY", &dashed).await?,
        expired: expiry.filter(|expiry| *expiry <= now),
        dashed,
    }))
}

async fn config(
    session: &mut Session,
    tables: &TableState,
    key: &str,
) -> Result<Option<Value>, SqlError> {
    const DOING: &str = "reading the cluster's configuration";
    if !tables.has("cluster_config") {
        return Ok(None);
    }
    let rows = session
        .rows(
            DOING,
            "SELECT value_json FROM cluster_config WHERE key_name = ?",
            &[Arg::from(key)],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    serde_json::from_str(row.text(0).unwrap_or_default())
        .map(Some)
        .map_err(|_| {
            SqlError::odd_value(
                DOING,
                session.at(),
                format!("cluster_config.{key} is not JSON"),
            )
        })
}
