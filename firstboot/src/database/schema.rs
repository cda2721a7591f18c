//! The tables: the agent's own five, and the six of the cluster that a
//! bootstrap touches. The agent makes its own everywhere; it makes the
//! cluster's only for releases that have no tables in MariaDB at all
//! ([`Schema::Agent`]), in the formats of later releases.
//!
//! DDL commits implicitly, so it never shares a transaction with anything: each
//! statement is idempotent and stands alone, and runs only when
//! `information_schema` says that the table is missing: on Galera even a CREATE
//! TABLE IF NOT EXISTS that does nothing stops every server for a moment. The
//! row format is stated, since in the older ones a name is too long for a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use sf_contract::release::Schema;

use super::session::{Arg, Session, Statement};
use super::trouble::SqlError;
use crate::codes;
use crate::failure::Failure;

/// One table: its name, the columns that the agent uses, how it is made.
struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    create: &'static str,
}

/// The agent's own, in the order in which foreign keys allow making them.
const OWN: [Table; 5] = [
    Table {
        name: "bootstrap_operations",
        columns: &[
            "name",
            "outcome",
            "fingerprint",
            "completed_at",
            "completed_by",
            "agent_version",
            "image_version",
        ],
        create: "CREATE TABLE IF NOT EXISTS bootstrap_operations (
            name varchar(190) NOT NULL,
            outcome varchar(16) NOT NULL,
            fingerprint varchar(128) NOT NULL,
            completed_at double NOT NULL,
            completed_by varchar(255) NOT NULL,
            agent_version varchar(64) NOT NULL,
            image_version varchar(128) NOT NULL,
            PRIMARY KEY (name),
            CONSTRAINT bootstrap_outcome CHECK (outcome IN ('created', 'adopted'))
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    },
    Table {
        name: "cluster_series",
        columns: &[
            "slot",
            "series",
            "predecessor",
            "release_version",
            "introduced_at",
            "introduced_by",
        ],
        // Two slots: the third series has no place, whatever a program thinks.
        create: "CREATE TABLE IF NOT EXISTS cluster_series (
            slot tinyint unsigned NOT NULL,
            series varchar(32) NOT NULL,
            predecessor varchar(32) NULL,
            release_version varchar(64) NOT NULL,
            introduced_at double NOT NULL,
            introduced_by varchar(255) NOT NULL,
            PRIMARY KEY (slot),
            UNIQUE KEY cluster_series_series (series),
            CONSTRAINT cluster_series_two_slots CHECK (slot IN (0, 1)),
            CONSTRAINT cluster_series_no_loop CHECK (predecessor IS NULL OR predecessor <> series)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    },
    Table {
        name: "bootstrap_nodes",
        columns: &[
            "fqdn",
            "role",
            "series",
            "release_version",
            "image_version",
            "instance_id",
            "phase",
            "outcome",
            "last_boot",
            "last_error",
        ],
        // The foreign key keeps a series with nodes from being retired, and a
        // node from joining a series that is not recorded. A node that has
        // never passed the gate has a row without a series, which holds no slot.
        create: "CREATE TABLE IF NOT EXISTS bootstrap_nodes (
            fqdn varchar(255) NOT NULL,
            role varchar(32) NOT NULL,
            series varchar(32) NULL,
            release_version varchar(64) NOT NULL,
            image_version varchar(128) NOT NULL,
            instance_id varchar(128) NOT NULL,
            phase varchar(32) NOT NULL,
            outcome varchar(32) NULL,
            last_boot double NOT NULL,
            last_error varchar(64) NULL,
            PRIMARY KEY (fqdn),
            KEY bootstrap_nodes_series (series),
            CONSTRAINT bootstrap_nodes_run_a_recorded_series FOREIGN KEY (series)
                REFERENCES cluster_series (series) ON DELETE RESTRICT ON UPDATE RESTRICT
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    },
    Table {
        name: "bootstrap_claims",
        columns: &["role", "fqdn", "instance_id", "claimed_at"],
        create: "CREATE TABLE IF NOT EXISTS bootstrap_claims (
            role varchar(64) NOT NULL,
            fqdn varchar(255) NOT NULL,
            instance_id varchar(128) NOT NULL,
            claimed_at double NOT NULL,
            PRIMARY KEY (role)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    },
    Table {
        name: EVENTS,
        columns: &[
            "id",
            "at",
            "action",
            "subject",
            "detail",
            "by_user",
            "by_host",
            "agent_version",
        ],
        // What people did to the cluster's record, appended and never pruned.
        create: "CREATE TABLE IF NOT EXISTS bootstrap_events (
            id char(32) NOT NULL,
            at double NOT NULL,
            action varchar(32) NOT NULL,
            subject varchar(255) NOT NULL,
            detail varchar(2000) NOT NULL,
            by_user varchar(255) NOT NULL,
            by_host varchar(255) NOT NULL,
            agent_version varchar(64) NOT NULL,
            PRIMARY KEY (id),
            KEY bootstrap_events_at (at)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    },
];

/// Who did what by hand.
const EVENTS: &str = "bootstrap_events";

/// What the gate reads and writes; the other tables may come later.
const RECORD: [&str; 3] = ["cluster_series", "bootstrap_nodes", "bootstrap_claims"];

/// The cluster's, as far as a bootstrap touches them, in the character set and
/// collation of the database, as upstream makes them. `schema_versions` is not
/// among them: its rows say that upstream's own tool made the tables.
const CLUSTER: [Table; 6] = [
    Table {
        name: "cluster_config",
        columns: &["key_name", "value_json", "updated_at"],
        create: "CREATE TABLE IF NOT EXISTS cluster_config (
            key_name varchar(128) NOT NULL,
            value_json longtext NOT NULL CHECK (json_valid(value_json)),
            updated_at double NOT NULL,
            PRIMARY KEY (key_name)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    },
    Table {
        name: "namespaces",
        columns: &["name", "version"],
        create: "CREATE TABLE IF NOT EXISTS namespaces (
            name varchar(255) NOT NULL,
            version int NOT NULL,
            PRIMARY KEY (name)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    },
    Table {
        name: "namespace_attributes",
        columns: &["name", "keys", "trust"],
        create: "CREATE TABLE IF NOT EXISTS namespace_attributes (
            name varchar(255) NOT NULL,
            `keys` longtext NOT NULL CHECK (json_valid(`keys`)),
            trust longtext NOT NULL CHECK (json_valid(trust)),
            PRIMARY KEY (name)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    },
    Table {
        name: "namespace_keys",
        columns: &["uuid", "namespace", "name", "version"],
        create: "CREATE TABLE IF NOT EXISTS namespace_keys (
            uuid char(32) NOT NULL,
            namespace varchar(255) NOT NULL,
            name varchar(255) NOT NULL,
            version bigint NOT NULL,
            PRIMARY KEY (uuid),
            UNIQUE KEY namespace_keys_name (namespace, name)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    },
    Table {
        name: "namespace_key_attributes",
        columns: &["uuid", "key", "nonce", "expiry", "scopes", "provenance"],
        create: "CREATE TABLE IF NOT EXISTS namespace_key_attributes (
            uuid char(32) NOT NULL,
            `key` varchar(255) NOT NULL,
            nonce varchar(16) NOT NULL,
            expiry double NULL,
            scopes longtext NULL CHECK (json_valid(scopes)),
            provenance longtext NULL CHECK (json_valid(provenance)),
            PRIMARY KEY (uuid)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    },
    Table {
        name: "object_states",
        columns: &[
            "object_type",
            "object_uuid",
            "state_value",
            "update_time",
            "message",
        ],
        // Upstream's object_type is an enum of all its kinds of object, which
        // the agent does not know; the text holds the same member names.
        create: "CREATE TABLE IF NOT EXISTS object_states (
            object_type varchar(64) NOT NULL,
            object_uuid varchar(255) NOT NULL,
            state_value varchar(64) NOT NULL,
            update_time double NOT NULL,
            message text NULL,
            PRIMARY KEY (object_type, object_uuid)
        ) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    },
];

/// Is it one of the tables that the agent knows?
pub(super) fn touches(table: &str) -> bool {
    OWN.iter().chain(&CLUSTER).any(|known| known.name == table)
}

/// Which tables are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    columns: BTreeMap<String, Vec<Column>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    /// NOT NULL, without a default, not counted up by the server.
    must_be_given: bool,
}

impl TableState {
    /// Is the table there?
    pub fn has(&self, table: &str) -> bool {
        self.columns.contains_key(table)
    }

    /// Are the tables there that the gate goes by?
    pub fn has_record(&self) -> bool {
        RECORD.iter().all(|table| self.has(table))
    }

    /// The agent's own tables that are not there.
    pub fn missing_own(&self) -> Vec<&'static str> {
        self.missing(&OWN)
    }

    /// The cluster's tables that a bootstrap touches and that are not there.
    pub fn missing_cluster(&self) -> Vec<&'static str> {
        self.missing(&CLUSTER)
    }

    fn missing(&self, tables: &[Table]) -> Vec<&'static str> {
        tables
            .iter()
            .map(|table| table.name)
            .filter(|name| !self.has(name))
            .collect()
    }

    /// What is wrong with the tables that are there, a phrase each.
    pub fn misshapen(&self) -> Vec<String> {
        OWN.iter()
            .chain(&CLUSTER)
            .filter_map(|table| Some((table, self.columns.get(table.name)?)))
            .flat_map(|(table, columns)| misfits(table, columns))
            .collect()
    }

    /// The failure for tables of another shape.
    pub(crate) fn misfit(&self, at: &str) -> Option<Failure> {
        let wrong = self.misshapen();
        (!wrong.is_empty()).then(|| {
            Failure::new(
                &codes::DB_SCHEMA,
                format!(
                    "tables in the database at {at} are not of the expected shape: {}",
                    wrong.join("; ")
                ),
            )
        })
    }

    /// The failure for tables that the release's own command has to make.
    pub(crate) fn waits_for_release(&self, schema: &Schema, at: &str) -> Option<Failure> {
        let Schema::Command { command, .. } = schema else {
            return None;
        };
        let missing = self.missing_cluster();
        (!missing.is_empty()).then(|| {
            Failure::new(
                &codes::DB_SCHEMA_MISSING,
                format!(
                    "the database at {at} lacks tables that the release makes: {}",
                    missing.join(", ")
                ),
            )
            .remedy(format!(
                "A database-tier node of this release makes them when it boots; the agent keeps \
                 looking. By hand, on one such node: {}",
                command.join(" ")
            ))
        })
    }
}

fn misfits(table: &Table, columns: &[Column]) -> Vec<String> {
    let there = |name: &str| columns.iter().any(|column| column.name == name);
    let absent = table
        .columns
        .iter()
        .filter(|name| !there(name))
        .map(|name| format!("{}.{name} is missing", table.name));
    let surplus = columns
        .iter()
        .filter(|column| column.must_be_given && !table.columns.contains(&column.name.as_str()))
        .map(|column| {
            format!(
                "{}.{} demands a value that this agent does not know",
                table.name, column.name
            )
        });
    absent.chain(surplus).collect()
}

/// Reads which tables and columns are there: once for each session that has
/// seen them all, since the server opens every table for it.
pub(crate) async fn state(session: &mut Session) -> Result<Arc<TableState>, SqlError> {
    if let Some(known) = &session.tables {
        return Ok(Arc::clone(known));
    }
    let state = Arc::new(read(session).await?);
    if state.missing_own().is_empty() && state.missing_cluster().is_empty() {
        session.tables = Some(Arc::clone(&state));
    }
    Ok(state)
}

/// The same, read anew: for tables that somebody else has made or changed.
pub(crate) async fn state_anew(session: &mut Session) -> Result<Arc<TableState>, SqlError> {
    session.tables = None;
    state(session).await
}

async fn read(session: &mut Session) -> Result<TableState, SqlError> {
    let rows = session
        .rows(
            "reading which tables there are",
            "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR), \
             CAST(is_nullable = 'NO' AND column_default IS NULL \
                  AND extra NOT LIKE '%auto_increment%' AND extra NOT LIKE '%GENERATED%' AS CHAR) \
             FROM information_schema.columns WHERE table_schema = DATABASE() \
             ORDER BY table_name, ordinal_position",
            &[],
        )
        .await?;
    let mut columns: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for row in rows {
        columns.entry(row.string(0)).or_default().push(Column {
            name: row.string(1),
            must_be_given: row.text(2) == Some("1"),
        });
    }
    Ok(TableState { columns })
}

/// Makes the tables that are missing and that the agent has to make. Writes
/// nothing when all are there. Returns the names of those made.
pub(crate) async fn ensure(
    session: &mut Session,
    schema: &Schema,
    state: &TableState,
) -> Result<Vec<&'static str>, SqlError> {
    let cluster: &[Table] = match schema {
        Schema::Agent => &CLUSTER,
        Schema::Command { .. } => &[],
    };
    let mut made = Vec::new();
    for table in OWN.iter().chain(cluster) {
        if !state.has(table.name) {
            session
                .execute(&Statement {
                    doing: "making the tables",
                    sql: table.create,
                    args: Vec::<Arg>::new(),
                })
                .await?;
            made.push(table.name);
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, must_be_given: bool) -> Column {
        Column {
            name: name.to_owned(),
            must_be_given,
        }
    }

    fn complete(tables: &[Table]) -> TableState {
        TableState {
            columns: tables
                .iter()
                .map(|table| {
                    let columns = table.columns.iter().map(|name| column(name, true));
                    (table.name.to_owned(), columns.collect())
                })
                .collect(),
        }
    }

    #[test]
    fn every_used_column_is_in_the_statement_that_makes_it() {
        for table in OWN.iter().chain(&CLUSTER) {
            for name in table.columns {
                let plain = format!(" {name} ");
                let quoted = format!(" `{name}` ");
                assert!(
                    table.create.contains(&plain) || table.create.contains(&quoted),
                    "{}.{name}",
                    table.name
                );
            }
            assert!(
                table
                    .create
                    .starts_with(&format!("CREATE TABLE IF NOT EXISTS {} (", table.name))
            );
        }
    }

    #[test]
    fn missing_and_misshapen_tables_are_named() {
        assert_eq!(TableState::default().missing_own().len(), 5);
        assert_eq!(TableState::default().missing_cluster().len(), 6);
        let mut state = complete(&OWN);
        assert!(state.missing_own().is_empty() && state.misshapen().is_empty());
        let nodes = state.columns.get_mut("bootstrap_nodes").unwrap();
        nodes.retain(|column| column.name != "phase");
        nodes.push(column("optional", false));
        nodes.push(column("rack", true));
        assert_eq!(
            state.misshapen(),
            [
                "bootstrap_nodes.phase is missing",
                "bootstrap_nodes.rack demands a value that this agent does not know"
            ]
        );
        assert_eq!(state.misfit("db:1").unwrap().code.id, "SF-DB-SCHEMA");
    }

    #[test]
    fn only_releases_with_a_command_are_waited_for() {
        let command = Schema::Command {
            command: vec!["sf-ctl".into(), "ensure-mariadb-schema".into()],
            expected: BTreeMap::new(),
        };
        let own = complete(&OWN);
        assert!(own.waits_for_release(&Schema::Agent, "db:1").is_none());
        let failure = own.waits_for_release(&command, "db:1").unwrap();
        assert_eq!(failure.code.id, "SF-DB-SCHEMA-MISSING");
        assert!(
            failure
                .remedy_text()
                .contains("sf-ctl ensure-mariadb-schema")
        );
        assert!(
            complete(&CLUSTER)
                .waits_for_release(&command, "db:1")
                .is_none()
        );
    }
}
