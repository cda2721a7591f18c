//! How roles that do not bootstrap wait for those that do. They read, and make
//! no tables.

use std::time::{Duration, Instant};

use super::operation::SEED_OPERATION;
use crate::codes;
use crate::database::{Backoff, Class, Connector, Session, SqlError, operations, schema};
use crate::failure::Failure;

/// Between two looks: half a second at first, 5 s at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// Waits until the record of the last operation is there, and returns the
/// session that saw it. `tell` hears about each new reason to wait.
///
/// Fails with a configuration failure at once (waiting does not mend a wrong
/// password), else at `deadline` with `SF-BOOTSTRAP-WAITING`, or with why the
/// database could not be asked.
pub async fn wait_for_bootstrap(
    connector: &Connector,
    deadline: Instant,
    tell: &mut dyn FnMut(&str),
) -> Result<Session, Failure> {
    let started = Instant::now();
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1, deadline);
    let mut told = String::new();
    loop {
        let mut session = connector.connect_until(deadline, tell).await?;
        let missing = loop {
            let missing = match look(&mut session).await {
                Ok(None) => return Ok(session),
                Ok(Some(missing)) => missing,
                Err(error) if !error.class.retried() && error.class != Class::Duplicate => {
                    return Err(error.into_failure());
                }
                Err(error) => {
                    tracing::debug!(class = ?error.class, "looking again");
                    break None;
                }
            };
            if told != missing {
                told.clone_from(&missing);
                tell(&format!(
                    "waiting for a database-tier node to bootstrap the cluster: {missing}"
                ));
            }
            if !backoff.pause().await {
                break Some(missing);
            }
        };
        if let Some(missing) = missing {
            let server = session.server().to_owned();
            session.close().await;
            return Err(Failure::new(
                &codes::BOOTSTRAP_WAITING,
                format!(
                    "the cluster in the database at {server} has not been bootstrapped after \
                     {} s: {missing}",
                    started.elapsed().as_secs()
                ),
            ));
        }
        if !backoff.pause().await {
            return Err(Failure::new(
                &codes::BOOTSTRAP_WAITING,
                format!(
                    "the cluster has not been bootstrapped after {} s; the database was lost \
                     while looking",
                    started.elapsed().as_secs()
                ),
            ));
        }
    }
}

/// What a complete bootstrap still lacks, in words; `None` when it is complete.
pub async fn lacks(session: &mut Session) -> Result<Option<String>, Failure> {
    look(session).await.map_err(SqlError::into_failure)
}

/// What is still missing, in words; `None` when nothing is.
async fn look(session: &mut Session) -> Result<Option<String>, SqlError> {
    let tables = schema::state(session).await?;
    if !tables.has_record() || !tables.has("bootstrap_operations") {
        return Ok(Some("its tables are not there yet".to_owned()));
    }
    let done: Vec<String> = operations(session)
        .await?
        .into_iter()
        .map(|record| record.name)
        .collect();
    if done.iter().any(|name| name == SEED_OPERATION) {
        return Ok(None);
    }
    Ok(Some(if done.is_empty() {
        "no operation is complete yet".to_owned()
    } else {
        format!("complete so far: {}", done.join(", "))
    }))
}
