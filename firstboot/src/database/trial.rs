//! A transaction that is only tried: whatever it does is rolled back.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::session::Session;
use super::trouble::{Class, SqlError};

/// For how long others may be in the way.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs `work` in a transaction and rolls it back. `None` where others were at
/// the same rows all the time. What follows on the session waits as little for
/// locks as a trial does.
///
/// Who tries holds nobody up: it waits a second for a lock of others, and where
/// this machine falls silent the server ends the session and frees its locks.
pub(crate) async fn trial<T>(
    session: &mut Session,
    mut work: impl AsyncFnMut(&mut Session) -> Result<T, SqlError>,
) -> Result<Option<T>, SqlError> {
    session
        .plain(
            "preparing a rehearsal",
            "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1, \
             idle_transaction_timeout = 5",
        )
        .await?;
    let mut backoff = Backoff::for_statements(Instant::now() + PATIENCE);
    loop {
        session.begin().await?;
        let result = work(session).await;
        session.roll_back().await;
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let race = matches!(
            error.class,
            Class::Conflict | Class::Duplicate | Class::ForeignKey
        );
        if !race || !session.alive() {
            return Err(error);
        }
        tracing::debug!(class = ?error.class, doing = error.doing, "rehearsing again");
        if !backoff.pause().await {
            return Ok(None);
        }
    }
}
