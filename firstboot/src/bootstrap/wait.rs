//! How roles that do not bootstrap wait for those that do. They read, and make
//! no tables.

use std::time::{Duration, Instant};

use super::operation::SEED_OPERATION;
use crate::codes;
use crate::database::{self, Backoff, Class, Connector, Session, SqlError, operations, schema};
use crate::failure::Failure;

/// Between two looks: half a second at first, 5 s at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// Waits until the record of the last operation is there, and returns the
/// session that saw it. `tell` hears about each new reason to wait.
///
/// It keeps its connection between two looks only while the server has plenty:
/// a fleet that waits would hold all of them, and keep out the very node that
/// it waits for.
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
    let mut held: Option<Session> = None;
    loop {
        let mut session = match held.take() {
            Some(session) => session,
            None => connector.connect_until(deadline, tell).await?,
        };
        let found = match look(&mut session).await {
            Ok(None) => return Ok(session),
            Ok(Some(missing)) => {
                if told != missing {
                    told.clone_from(&missing);
                    tell(&format!(
                        "waiting for a database-tier node to bootstrap the cluster: {missing}"
                    ));
                }
                let server = session.server().to_owned();
                if database::crowded(&mut session)
                    .await
                    .is_ok_and(|crowded| !crowded)
                {
                    held = Some(session);
                } else {
                    session.close().await;
                }
                Some((server, missing))
            }
            Err(error) if !error.class.retried() && error.class != Class::Duplicate => {
                return Err(error.into_failure());
            }
            Err(error) => {
                tracing::debug!(class = ?error.class, "looking again");
                None
            }
        };
        if !backoff.pause().await {
            if let Some(session) = held {
                session.close().await;
            }
            return Err(in_vain(started.elapsed(), found));
        }
    }
}

/// `found` is the server and what it lacked at the last look.
fn in_vain(waited: Duration, found: Option<(String, String)>) -> Failure {
    let seconds = waited.as_secs();
    let what = match found {
        Some((server, missing)) => format!(
            "the cluster in the database at {server} has not been bootstrapped after \
             {seconds} s: {missing}"
        ),
        None => format!(
            "the cluster has not been bootstrapped after {seconds} s; the database was lost \
             while looking"
        ),
    };
    Failure::new(&codes::BOOTSTRAP_WAITING, what)
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
