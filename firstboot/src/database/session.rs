//! One connection with known settings, a time limit on every statement, and
//! values that are always bound, never pasted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlArguments, MySqlConnection, MySqlRow};
use sqlx::{Arguments as _, Connection as _, Row as _};

use sf_contract::secret::Secret;

use super::parking::Parking;
use super::schema::TableState;
use super::trouble::SqlError;
use crate::failure::Failure;

/// How long one statement may take. Longer than any lock wait of ours, shorter
/// than an operator's patience with a server that went silent.
const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// A bound value.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    /// Text, ASCII or UTF-8.
    Text(String),
    /// Text that nothing may show.
    Secret(Secret),
    /// UNIX seconds.
    Real(f64),
    /// Whole number.
    Int(i64),
    /// Nothing.
    Null,
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<String>> for Arg {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

/// A statement as data: what it is for, its text, its values.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// What it is for, as errors say it: `recording the operation`.
    pub(crate) doing: &'static str,
    /// Text with placeholders.
    pub(crate) sql: &'static str,
    /// Values in their order.
    pub(crate) args: Vec<Arg>,
}

/// A row whose columns are read as text: statements cast what is not text, so
/// that every build of MariaDB and every column type reads alike.
pub(crate) struct Row {
    cells: Vec<Option<String>>,
}

impl Row {
    /// Column by position; `None` is NULL.
    pub(crate) fn text(&self, index: usize) -> Option<&str> {
        self.cells.get(index).and_then(Option::as_deref)
    }

    /// Column by position, NULL as the empty text.
    pub(crate) fn string(&self, index: usize) -> String {
        self.text(index).unwrap_or_default().to_owned()
    }
}

/// A connection to one server, ready for transactions.
pub struct Session {
    connection: Option<MySqlConnection>,
    server: String,
    at: String,
    database: String,
    read_only: bool,
    /// Is a transaction open?
    busy: bool,
    /// Why hosts that stand before this one in the DSN were not used.
    pub(super) passed_over: Vec<Failure>,
    /// Where the session goes when it is released.
    pub(super) home: Option<Parking>,
    /// The tables, once all of them have been seen: none of them goes away.
    pub(super) tables: Option<Arc<TableState>>,
    clock: Clock,
}

/// The server's clock, read once and carried on by this machine's monotonic one.
#[derive(Clone, Copy)]
struct Clock {
    seconds: f64,
    read: Instant,
    /// See [`Session::clock_ahead`].
    ahead: f64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Session({})", self.at)
    }
}

impl Session {
    pub(super) fn new(
        connection: MySqlConnection,
        server: String,
        user: &str,
        database: &str,
    ) -> Self {
        Self {
            at: format!("{server} as {user}"),
            connection: Some(connection),
            server,
            database: database.to_owned(),
            read_only: false,
            busy: false,
            passed_over: Vec::new(),
            home: None,
            tables: None,
            clock: Clock {
                seconds: super::unix_seconds(),
                read: Instant::now(),
                ahead: 0.0,
            },
        }
    }

    /// UNIX seconds by the server's clock, which is what rows carry. A node
    /// without a battery behind its clock boots in another decade, and its
    /// records would sort before those of everybody else.
    pub(crate) fn now(&self) -> f64 {
        self.clock.seconds + self.clock.read.elapsed().as_secs_f64()
    }

    /// The server that this session is with, `db1:3306` or a socket's path.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Server and user, for errors.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// The database's name.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Did the server say that it takes no writes?
    pub(crate) fn read_only(&self) -> bool {
        self.read_only
    }

    /// Gives the session back for the next phase, where its connector keeps
    /// one, else ends it. Ended as well: one with an open transaction, which is
    /// rolled back by that, and one of a server that takes no writes, since
    /// another server may.
    pub async fn release(mut self) {
        match self.home.take() {
            Some(home) if self.alive() && !self.busy && !self.read_only => home.keep(self),
            _ => self.close().await,
        }
    }

    /// Does the server still answer?
    pub(super) async fn answers(&mut self) -> bool {
        self.plain("asking whether the connection still works", "DO 0")
            .await
            .is_ok()
    }

    /// Ends the session in good order; errors do not matter any more.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
        }
    }

    /// Makes explicit what else would depend on the server's configuration.
    /// Not READ COMMITTED: the server refuses to write under it where its binary
    /// log is statement-based. The limits of `max_statement_time` and the like are
    /// meant for other programs: this one has its own for every statement. And
    /// messages are English: what a full disk is called is read from them. Names in
    /// SHOW GRANTS are in quotes, by which they are known. An `init_connect` may
    /// have begun a transaction, and what would be written in it would be gone with
    /// the session. Who waits for a backup to give a table back hears of it while it
    /// still listens.
    pub(super) async fn set_up(&mut self) -> Result<(), SqlError> {
        const DOING: &str = "setting the session up";
        self.plain(
            DOING,
            "SET autocommit = 1, completion_type = 0, \
             sql_safe_updates = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1, \
             sql_quote_show_create = 1, max_statement_time = 0, lc_messages = 'en_US', \
             sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,\
             NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION', \
             time_zone = '+00:00', innodb_lock_wait_timeout = 5, lock_wait_timeout = 20, \
             foreign_key_checks = 1, unique_checks = 1, check_constraint_checks = 1, \
             NAMES utf8mb4; \
             COMMIT; \
             SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE",
        )
        .await?;
        let asked = super::unix_seconds();
        let row = self
            .rows(
                DOING,
                // Numbers up to MariaDB 11, words (ON, NO_LOCK, …) later.
                "SELECT CAST(@@global.read_only AS CHAR), CAST(@@global.innodb_read_only AS CHAR), \
                 CAST(UNIX_TIMESTAMP(SYSDATE(6)) AS CHAR)",
                &[],
            )
            .await?;
        let seconds = row.first().and_then(|row| row.text(2)?.parse().ok());
        if let Some(seconds) = seconds {
            self.clock = Clock {
                seconds,
                read: Instant::now(),
                ahead: beyond(seconds, asked, super::unix_seconds()),
            };
        }
        self.read_only = row.first().is_some_and(|row| {
            (0..2).any(|index| !matches!(row.text(index), None | Some("0" | "OFF")))
        });
        Ok(())
    }

    /// On Galera, makes reads wait until this server has applied what others
    /// committed before; elsewhere the variables have no effect or are not there.
    /// A server that allows dirty reads would not wait. And makes tables on all
    /// servers: one whose schema is being changed by itself (RSU) would keep them,
    /// and the first row to reach the others would break the cluster. And sends
    /// nothing to them before COMMIT: a rehearsal would hold up nodes everywhere.
    pub(super) async fn read_causally(&mut self) -> Result<(), SqlError> {
        match self
            .plain(
                "asking for causal reads",
                "SET SESSION wsrep_dirty_reads = 0, wsrep_sync_wait = 7; \
                 SET SESSION wsrep_OSU_method = 'TOI', wsrep_trx_fragment_size = 0",
            )
            .await
        {
            Err(error) if error.class == super::Class::Lost => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs a text without values.
    pub(crate) async fn plain(
        &mut self,
        doing: &'static str,
        sql: &'static str,
    ) -> Result<(), SqlError> {
        let at = self.at.clone();
        let connection = self.live(doing)?;
        let run = sqlx::raw_sql(sql).execute(connection);
        match tokio::time::timeout(STATEMENT_LIMIT, run).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.failed(&error, doing)),
            Err(_) => Err(self.silent(doing, &at)),
        }
    }

    /// Reads rows. Every column must be text or cast to it.
    pub(crate) async fn rows(
        &mut self,
        doing: &'static str,
        sql: &'static str,
        args: &[Arg],
    ) -> Result<Vec<Row>, SqlError> {
        let at = self.at.clone();
        let arguments = bind(doing, &at, args)?;
        let connection = self.live(doing)?;
        let run = async {
            // Without values there is nothing to prepare: one question, one answer.
            if args.is_empty() {
                sqlx::raw_sql(sql).fetch_all(connection).await
            } else {
                sqlx::query_with(sql, arguments).fetch_all(connection).await
            }
        };
        match tokio::time::timeout(STATEMENT_LIMIT, run).await {
            Ok(Ok(rows)) => rows.iter().map(|row| read(row, doing, &at)).collect(),
            Ok(Err(error)) => Err(self.failed(&error, doing)),
            Err(_) => Err(self.silent(doing, &at)),
        }
    }

    /// Writes; returns how many rows the statement matched. Not on a server that
    /// takes no writes: it takes those of a user with `READ_ONLY ADMIN`.
    pub(crate) async fn execute(&mut self, statement: &Statement) -> Result<u64, SqlError> {
        let doing = statement.doing;
        let at = self.at.clone();
        if self.read_only {
            return Err(SqlError::read_only(doing, &at));
        }
        let arguments = bind(doing, &at, &statement.args)?;
        let connection = self.live(doing)?;
        let run = sqlx::query_with(statement.sql, arguments).execute(connection);
        match tokio::time::timeout(STATEMENT_LIMIT, run).await {
            Ok(Ok(done)) => Ok(done.rows_affected()),
            Ok(Err(error)) => Err(self.failed(&error, doing).hiding(&statement.args)),
            Err(_) => Err(self.silent(doing, &at)),
        }
    }

    pub(crate) async fn begin(&mut self) -> Result<(), SqlError> {
        self.busy = true;
        self.plain("beginning a transaction", "START TRANSACTION")
            .await
    }

    pub(crate) async fn commit(&mut self) -> Result<(), SqlError> {
        self.plain("committing", "COMMIT").await?;
        self.busy = false;
        Ok(())
    }

    /// Rolls back; where that fails the connection is dropped, which has the
    /// same effect on the server. Where another server's transaction has ended
    /// this one meanwhile, Galera says so (1213) in answer to whatever comes
    /// next, and takes the next one.
    pub(crate) async fn roll_back(&mut self) {
        const DOING: &str = "rolling back";
        let rolled_back = match self.plain(DOING, "ROLLBACK").await {
            Err(error) if error.class == super::Class::Conflict => {
                self.plain(DOING, "ROLLBACK").await
            }
            first => first,
        };
        match rolled_back {
            Ok(()) => self.busy = false,
            Err(_) => self.connection = None,
        }
    }

    /// By how many seconds the server's clock was ahead of this machine's when the
    /// session began, as far as the time that the question took allows to say.
    pub fn clock_ahead(&self) -> f64 {
        self.clock.ahead
    }

    /// Is the connection still usable?
    pub(crate) fn alive(&self) -> bool {
        self.connection.is_some()
    }

    fn live(&mut self, doing: &'static str) -> Result<&mut MySqlConnection, SqlError> {
        match self.connection.as_mut() {
            Some(connection) => Ok(connection),
            None => Err(SqlError::gone(doing, &self.at)),
        }
    }

    fn failed(&mut self, error: &sqlx::Error, doing: &'static str) -> SqlError {
        let error = SqlError::new(error, doing, &self.at);
        if error.class == super::Class::Lost {
            self.connection = None;
        }
        error
    }

    fn silent(&mut self, doing: &'static str, at: &str) -> SqlError {
        // The cancelled statement's answer may still come; nobody must read it
        // as the answer to the next one.
        self.connection = None;
        SqlError::silent(doing, at, STATEMENT_LIMIT.as_secs())
    }
}

/// How far a moment is after the later, or before the earlier, of two others;
/// 0 between them.
fn beyond(moment: f64, earlier: f64, later: f64) -> f64 {
    if moment > later {
        moment - later
    } else {
        (moment - earlier).min(0.0)
    }
}

fn bind(doing: &'static str, at: &str, args: &[Arg]) -> Result<MySqlArguments, SqlError> {
    let mut arguments = MySqlArguments::default();
    for arg in args {
        match arg {
            Arg::Text(text) => arguments.add(text.as_str()),
            Arg::Secret(secret) => arguments.add(secret.expose()),
            Arg::Real(number) => arguments.add(number),
            Arg::Int(number) => arguments.add(number),
            Arg::Null => arguments.add(None::<&str>),
        }
        .map_err(|error| SqlError::odd_value(doing, at, error.to_string()))?;
    }
    Ok(arguments)
}

fn read(row: &MySqlRow, doing: &'static str, at: &str) -> Result<Row, SqlError> {
    let cells = (0..row.len())
        .map(|index| {
            let bytes: Option<Vec<u8>> = row
                .try_get_unchecked(index)
                .map_err(|error| SqlError::new(&error, doing, at))?;
            bytes
                .map(|bytes| {
                    String::from_utf8(bytes).map_err(|_| {
                        SqlError::odd_value(doing, at, format!("column {index} is not UTF-8"))
                    })
                })
                .transpose()
        })
        .collect::<Result<_, _>>()?;
    Ok(Row { cells })
}
