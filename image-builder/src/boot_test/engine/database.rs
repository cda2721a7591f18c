//! Steps about the database's content.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Engine, Seen, chain};
use crate::boot_test::scenario::row_matches;
use crate::boot_test::sql::{self, Content, Database};
use crate::boot_test::template::Template;

/// Lines of a difference that are shown.
const DIFFERENCE: usize = 20;

impl Engine<'_> {
    /// Runs `work` with a connection of its own.
    fn database<T>(
        &self,
        work: impl AsyncFnOnce(&mut Database) -> Result<T, sql::Error>,
    ) -> Result<T, String> {
        let port = self.mariadb.as_ref().map_or(0, super::Server::port);
        let password = self.secrets.value("database_password");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let mut database = Database::connect(port, password)
                .await
                .map_err(|error| chain(&error))?;
            let result = work(&mut database).await.map_err(|error| chain(&error));
            database.close().await;
            result
        })
    }

    pub(super) fn sql(
        &mut self,
        sql: &Template,
        rows: Option<&[Template]>,
        within: Option<Duration>,
    ) -> Seen {
        let filled = self
            .fill(sql)
            .and_then(|sql| Ok((sql, rows.map(|rows| self.fill_all(rows)).transpose()?)));
        let (sql, wanted) = match filled {
            Ok(filled) => filled,
            Err(problem) => return Seen::bad(Value::Null, Value::Null, problem),
        };
        let asked = json!({ "sql": sql, "rows": wanted });
        self.until(within, |engine| {
            match engine.database(async |database| database.rows(&sql).await) {
                Err(problem) => Seen::bad(asked.clone(), Value::Null, problem),
                Ok(rows) => {
                    let problem = wanted.as_ref().and_then(|wanted| differs(wanted, &rows));
                    Seen {
                        asked: asked.clone(),
                        answered: json!(rows),
                        problem,
                    }
                }
            }
        })
    }

    pub(super) fn snapshot(&mut self, name: &str, tables: &[String]) -> Seen {
        let asked = json!({ "snapshot": name, "tables": tables });
        match self.database(async |database| database.content(tables).await) {
            Err(problem) => Seen::bad(asked, Value::Null, problem),
            Ok(content) => {
                let answered = counts(&content);
                self.snapshots
                    .insert(name.to_owned(), (tables.to_vec(), content));
                Seen::good(asked, answered)
            }
        }
    }

    pub(super) fn unchanged_since(&mut self, name: &str) -> Seen {
        let Some((tables, before)) = self.snapshots.get(name).cloned() else {
            return Seen::bad(Value::Null, Value::Null, "the snapshot was not taken");
        };
        let asked = json!({ "unchanged_since": name, "tables": tables });
        match self.database(async |database| database.content(&tables).await) {
            Err(problem) => Seen::bad(asked, Value::Null, problem),
            Ok(after) => {
                let difference = sql::difference(&before, &after, DIFFERENCE);
                let problem = (!difference.is_empty()).then(|| difference.join("\n"));
                Seen {
                    asked,
                    answered: counts(&after),
                    problem,
                }
            }
        }
    }
}

/// Rows of each table.
fn counts(content: &Content) -> Value {
    content
        .iter()
        .map(|(table, rows)| (table.clone(), json!(rows.len())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn differs(wanted: &[String], rows: &[String]) -> Option<String> {
    let fits = wanted.len() == rows.len()
        && wanted
            .iter()
            .zip(rows)
            .all(|(pattern, row)| row_matches(pattern, row));
    if fits {
        return None;
    }
    let shown = if rows.is_empty() {
        "no rows".to_owned()
    } else {
        rows.join("\n")
    };
    Some(format!(
        "the rows are:\n{shown}\ninstead of:\n{}",
        wanted.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_in_order_and_number() {
        let list =
            |rows: &[&str]| -> Vec<String> { rows.iter().map(|row| (*row).to_owned()).collect() };
        assert_eq!(
            differs(&list(&["a | *", "b"]), &list(&["a | 1", "b"])),
            None
        );
        assert!(differs(&list(&["a"]), &list(&["a", "b"])).is_some());
        assert!(differs(&list(&["b", "a"]), &list(&["a", "b"])).is_some());
        assert!(differs(&list(&["a"]), &[]).unwrap().contains("no rows"));
    }
}
