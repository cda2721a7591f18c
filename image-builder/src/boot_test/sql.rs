//! SQL against the run's database, with every value as text.

use std::collections::BTreeMap;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::infra::{DATABASE, DATABASE_USER};

/// What joins the columns of a row.
pub const COLUMN: &str = " | ";

/// Why a statement has no rows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("cannot log in to MariaDB on 127.0.0.1:{port}: {source}")]
    Connect {
        /// Its port.
        port: u16,
        /// The reason.
        source: sqlx::Error,
    },
    /// The server refused a statement.
    #[error("MariaDB refuses the SQL: {0}")]
    Statement(#[source] sqlx::Error),
}

/// Table name to its rows, sorted.
pub type Content = BTreeMap<String, Vec<String>>;

/// A connection as the database's own user.
#[derive(Debug)]
pub struct Database {
    connection: MySqlConnection,
}

impl Database {
    /// Logs in.
    pub async fn connect(port: u16, password: &str) -> Result<Self, Error> {
        let connection = MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(port)
            .username(DATABASE_USER)
            .password(password)
            .database(DATABASE)
            .ssl_mode(MySqlSslMode::Disabled)
            .connect()
            .await
            .map_err(|source| Error::Connect { port, source })?;
        Ok(Self { connection })
    }

    /// Runs statements and gives the rows of all of them, columns joined by
    /// [`COLUMN`].
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<String>, Error> {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let rows = self
            .connection
            .fetch_all(statements)
            .await
            .map_err(Error::Statement)?;
        Ok(rows.iter().map(text).collect())
    }

    /// All rows of the given tables, or of every table.
    pub async fn content(&mut self, tables: &[String]) -> Result<Content, Error> {
        let known = self
            .rows(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
            )
            .await?;
        let mut content = Content::new();
        for table in known {
            if tables.is_empty() || tables.contains(&table) {
                let quoted = table.replace('`', "``");
                let mut rows = self.rows(&format!("SELECT * FROM `{quoted}`")).await?;
                rows.sort();
                content.insert(table, rows);
            }
        }
        Ok(content)
    }

    /// Logs out.
    pub async fn close(self) {
        // The statements are done; how the goodbye went does not matter.
        let _ = self.connection.close().await;
    }
}

fn text(row: &MySqlRow) -> String {
    let columns: Vec<String> = (0..row.len())
        .map(|column| {
            // The text protocol gives every type as text.
            match row.try_get_unchecked::<Option<String>, _>(column) {
                Ok(Some(text)) => text,
                Ok(None) => "NULL".to_owned(),
                Err(_) => row.try_get_unchecked::<Vec<u8>, _>(column).map_or_else(
                    |_| "?".to_owned(),
                    |bytes| format!("0x{}", hex::encode(bytes)),
                ),
            }
        })
        .collect();
    columns.join(COLUMN)
}

/// What differs between two contents, one line each; at most `limit` lines.
pub fn difference(before: &Content, after: &Content, limit: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let empty = Vec::new();
    for table in before
        .keys()
        .chain(after.keys().filter(|table| !before.contains_key(*table)))
    {
        match (before.contains_key(table), after.contains_key(table)) {
            (true, false) => lines.push(format!("table {table} is gone")),
            (false, true) => lines.push(format!("table {table} is new")),
            _ => {}
        }
        let (old, new) = (
            before.get(table).unwrap_or(&empty),
            after.get(table).unwrap_or(&empty),
        );
        lines.extend(missing(old, new).map(|row| format!("{table}: - {row}")));
        lines.extend(missing(new, old).map(|row| format!("{table}: + {row}")));
    }
    lines.truncate(limit);
    lines
}

/// Those of `rows` that are not `among` the others.
fn missing<'r>(rows: &'r [String], among: &'r [String]) -> impl Iterator<Item = &'r String> {
    rows.iter().filter(|row| !among.contains(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_table_and_row() {
        let content = |tables: &[(&str, &[&str])]| -> Content {
            tables
                .iter()
                .map(|(name, rows)| {
                    (
                        (*name).to_owned(),
                        rows.iter().map(|row| (*row).to_owned()).collect(),
                    )
                })
                .collect()
        };
        let before = content(&[("a", &["1 | x", "2 | y"]), ("gone", &[])]);
        let after = content(&[("a", &["1 | x", "2 | z"]), ("new", &["9"])]);
        assert_eq!(
            difference(&before, &after, 10),
            [
                "a: - 2 | y",
                "a: + 2 | z",
                "table gone is gone",
                "table new is new",
                "new: + 9"
            ]
        );
        assert!(difference(&before, &before, 10).is_empty());
    }
}
