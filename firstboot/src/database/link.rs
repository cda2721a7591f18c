//! A session that comes back: runs a piece of work until it succeeds, is
//! refused for good, or the deadline has come.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::connector::Connector;
use super::session::Session;
use super::trouble::{Class, SqlError};
use crate::codes::Code;
use crate::failure::Failure;

/// For how long one server may keep the agent waiting where the DSN names others:
/// it lets the agent in and answers its questions, and a backup has its tables
/// locked, its disk is full, or it lags behind its cluster.
const KEPT_WAITING: Duration = Duration::from_secs(10);

/// Connection, deadline and the code for work that never got its turn.
pub(crate) struct Link<'a> {
    connector: &'a Connector,
    deadline: Instant,
    contended: &'static Code,
    session: Option<Session>,
    /// The server that was left for another one last.
    behind: Option<String>,
    /// Servers that were left, and why.
    left: Vec<SqlError>,
    tell: &'a mut dyn FnMut(&str),
}

impl<'a> Link<'a> {
    pub(crate) fn new(
        connector: &'a Connector,
        deadline: Instant,
        contended: &'static Code,
        tell: &'a mut dyn FnMut(&str),
    ) -> Self {
        Self {
            connector,
            deadline,
            contended,
            session: None,
            behind: None,
            left: Vec::new(),
            tell,
        }
    }

    /// Gives the work more time.
    pub(crate) fn extend(&mut self, deadline: Instant) {
        self.deadline = self.deadline.max(deadline);
    }

    /// Passes a text on to whoever watches.
    pub(crate) fn tell(&mut self, text: &str) {
        (self.tell)(text);
    }

    /// The session, for the caller to go on with.
    pub(crate) fn into_session(self) -> Option<Session> {
        self.session.filter(Session::alive)
    }

    /// Runs `work`, which must start from what it reads and leave nothing half
    /// done in a transaction it committed. Conflicts, lost races and broken
    /// connections start it again; the open transaction is rolled back before.
    pub(crate) async fn retry<T>(
        &mut self,
        mut work: impl AsyncFnMut(&mut Session) -> Result<T, SqlError>,
    ) -> Result<T, Failure> {
        let mut backoff = Backoff::for_statements(self.deadline);
        // Which server keeps us waiting, and since when.
        let mut waiting: Option<(String, Instant)> = None;
        loop {
            let mut session = match self.session.take().filter(Session::alive) {
                Some(session) => session,
                None => {
                    self.connector
                        .connect_behind(self.behind.as_deref(), self.deadline, self.tell)
                        .await?
                }
            };
            let began = Instant::now();
            let error = match work(&mut session).await {
                Ok(value) => {
                    self.session = Some(session);
                    return Ok(value);
                }
                Err(error) => error,
            };
            if session.alive() {
                session.roll_back().await;
            }
            let race = matches!(error.class, Class::Duplicate | Class::ForeignKey);
            if !error.class.retried() && !race {
                return Err(error.into_failure());
            }
            tracing::debug!(class = ?error.class, doing = error.doing, "trying again");
            let server = session.server();
            waiting = waiting.filter(|(of, _)| of == server && error.kept_waiting());
            if waiting.is_none() && error.kept_waiting() {
                waiting = Some((server.to_owned(), began));
            }
            let leave = self.connector.has_others()
                && waiting
                    .as_ref()
                    .is_some_and(|(_, since)| since.elapsed() >= KEPT_WAITING);
            if leave {
                self.behind = waiting.take().map(|(server, _)| server);
            }
            if leave || error.class.reconnects() {
                session.close().await;
            } else {
                self.session = Some(session);
            }
            if !backoff.pause().await {
                return Err(self.exhausted(error));
            }
            if leave {
                self.left.retain(|other| other.at != error.at);
                self.left.push(error);
            }
        }
    }

    fn exhausted(&self, error: SqlError) -> Failure {
        let contended = matches!(
            error.class,
            Class::Conflict | Class::Duplicate | Class::ForeignKey
        );
        let at = error.at.clone();
        let mut failure = error.into_failure();
        let others = self.left.iter().filter(|other| other.at != at);
        failure
            .causes
            .extend(others.map(|other| format!("also tried: {}", other.brief())));
        if contended {
            failure.code = self.contended;
            failure.remedy = None;
        }
        failure
    }
}
