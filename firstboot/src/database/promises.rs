//! What the agent counts on in tables that are there: that what is rolled back is
//! gone, and that their keys keep out what must not be. A dump that is restored
//! by way of another program may have lost either.

use super::schema::{self, TableState};
use super::session::Session;
use super::trouble::SqlError;
use crate::codes;
use crate::failure::Failure;

/// What keeps two nodes from doing the same, a third series out, and a series
/// with nodes in: table, constraint, and how it comes back.
const KEYS: [(&str, &str, &str); 7] = [
    ("bootstrap_operations", "PRIMARY", "PRIMARY KEY (name)"),
    ("cluster_series", "PRIMARY", "PRIMARY KEY (slot)"),
    (
        "cluster_series",
        "cluster_series_series",
        "UNIQUE KEY cluster_series_series (series)",
    ),
    (
        "cluster_series",
        "cluster_series_two_slots",
        "CONSTRAINT cluster_series_two_slots CHECK (slot IN (0, 1))",
    ),
    ("bootstrap_nodes", "PRIMARY", "PRIMARY KEY (fqdn)"),
    (
        "bootstrap_nodes",
        "bootstrap_nodes_run_a_recorded_series",
        "CONSTRAINT bootstrap_nodes_run_a_recorded_series FOREIGN KEY (series) \
         REFERENCES cluster_series (series)",
    ),
    ("bootstrap_claims", "PRIMARY", "PRIMARY KEY (role)"),
];

/// The finding for tables that the agent writes to and that another engine holds:
/// it would keep what is rolled back, a rehearsal's seed too.
pub(super) async fn without_transactions(
    session: &mut Session,
) -> Result<Option<Failure>, SqlError> {
    let rows = session
        .rows(
            "reading the tables' engines",
            "SELECT CAST(table_name AS CHAR), CAST(engine AS CHAR) \
             FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND engine <> 'InnoDB' ORDER BY table_name",
            &[],
        )
        .await?;
    let (tables, alterations): (Vec<_>, Vec<_>) = rows
        .iter()
        .map(|row| (row.string(0), row.string(1)))
        .filter(|(table, _)| schema::touches(table))
        .map(|(table, engine)| {
            (
                format!("{table} ({engine})"),
                format!("ALTER TABLE {table} ENGINE = InnoDB;"),
            )
        })
        .unzip();
    Ok((!tables.is_empty()).then(|| {
        Failure::new(
            &codes::DB_ENGINE,
            format!(
                "tables in the database at {} are of an engine without transactions: {}",
                session.at(),
                tables.join(", ")
            ),
        )
        .remedy(format!("In that database: {}", alterations.join(" ")))
    }))
}

/// The finding for keys that are lost. Only who may write to a table sees them.
pub(super) async fn without_keys(
    session: &mut Session,
    tables: &TableState,
) -> Result<Option<Failure>, SqlError> {
    let rows = session
        .rows(
            "reading the tables' keys",
            "SELECT CAST(table_name AS CHAR), CAST(constraint_name AS CHAR) \
             FROM information_schema.table_constraints WHERE table_schema = DATABASE()",
            &[],
        )
        .await?;
    let there = |table: &str, key: &str| {
        rows.iter()
            .any(|row| row.text(0) == Some(table) && row.text(1) == Some(key))
    };
    let (lost, additions): (Vec<_>, Vec<_>) = KEYS
        .into_iter()
        .filter(|(table, key, _)| tables.has(table) && !there(table, key))
        .map(|(table, key, text)| {
            (
                format!("{table} has no {key}"),
                format!("ALTER TABLE {table} ADD {text};"),
            )
        })
        .unzip();
    Ok((!lost.is_empty()).then(|| {
        Failure::new(
            &codes::DB_SCHEMA,
            format!(
                "tables in the database at {} have lost keys that keep out what must not be: {}",
                session.at(),
                lost.join(", ")
            ),
        )
        .remedy(format!(
            "In that database, with all agents stopped: {}",
            additions.join(" ")
        ))
    }))
}
