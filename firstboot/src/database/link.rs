//! A session that comes back: runs a piece of work until it succeeds, is
//! refused for good, or the deadline has come.

use std::time::Instant;

use super::backoff::Backoff;
use super::connector::Connector;
use super::session::Session;
use super::trouble::{Class, SqlError};
use crate::codes::Code;
use crate::failure::Failure;

/// Connection, deadline and the code for work that never got its turn.
pub(crate) struct Link<'a> {
    connector: &'a Connector,
    deadline: Instant,
    contended: &'static Code,
    session: Option<Session>,
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
        loop {
            let mut session = match self.session.take().filter(Session::alive) {
                Some(session) => session,
                None => {
                    self.connector
                        .connect_until(self.deadline, self.tell)
                        .await?
                }
            };
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
            if error.class.reconnects() {
                session.close().await;
            } else {
                self.session = Some(session);
            }
            if !backoff.pause().await {
                return Err(self.exhausted(error));
            }
        }
    }

    fn exhausted(&self, error: SqlError) -> Failure {
        let contended = matches!(
            error.class,
            Class::Conflict | Class::Duplicate | Class::ForeignKey
        );
        let mut failure = error.into_failure();
        if contended {
            failure.code = self.contended;
            failure.remedy = None;
        }
        failure
    }
}
