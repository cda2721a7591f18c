//! What of the server may become a problem, and its Galera state.

use super::grants::Account;
use super::session::Session;
use super::trouble::{Class, SqlError};
use crate::codes;
use crate::failure::Failure;

/// Connections that must be free: the daemons of one node open about that
/// many when they start.
const SPARE: u64 = 20;

/// The server's state in its Galera cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Galera {
    ready: String,
    status: String,
    state: String,
}

/// What a server says of itself at one moment. To tell its status costs a server
/// more than any other question of a run, the more so the more connections it
/// has: who has asked keeps the answer.
#[derive(Clone, Debug)]
pub struct Standing {
    server: String,
    connections: Connections,
    /// `None` on a server that is in no Galera cluster.
    galera: Option<Galera>,
    /// Protocol and cipher of this connection; `None` when it is not encrypted.
    pub encryption: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Connections {
    used: u64,
    most: u64,
    /// How many of them this user may have; 0 is all.
    ours: u64,
    /// How many any user may have; 0 is all, and cannot be changed while the
    /// server runs. An account's own limit outranks it.
    each: u64,
    /// The account: `sf@%`.
    account: String,
}

/// Asks the server how it is.
pub async fn look(session: &mut Session) -> Result<Standing, Failure> {
    ask(session).await.map_err(SqlError::into_failure)
}

impl Standing {
    /// Warnings about the server.
    pub fn warnings(&self) -> Vec<Failure> {
        let galera = self.galera.as_ref();
        judge_connections(&self.server, &self.connections)
            .into_iter()
            .chain(galera.and_then(|galera| judge_donor(&self.server, galera)))
            .collect()
    }

    /// The finding for a Galera node that takes no writes, or none that last.
    pub(super) fn not_synced(&self) -> Option<Failure> {
        judge_member(&self.server, self.galera.as_ref()?)
    }
}

/// Are more than half of the connections in use that the server has, or has for
/// this user, which may be that of the whole fleet? Who only waits then has none.
pub(crate) async fn crowded(session: &mut Session) -> Result<bool, SqlError> {
    let Connections {
        used, most, ours, ..
    } = ask(session).await?.connections;
    let most = if ours > 0 { most.min(ours) } else { most };
    Ok(most > 0 && used > most / 2)
}

async fn ask(session: &mut Session) -> Result<Standing, SqlError> {
    let rows = session
        .rows(
            "asking how the server is",
            // What is encrypted is this connection, in the server's status too.
            "SELECT CAST(variable_name AS CHAR), CAST(variable_value AS CHAR), \
             CAST(@@max_connections AS CHAR), CAST(@@max_user_connections AS CHAR), \
             CAST(@@global.max_user_connections AS CHAR), CURRENT_USER() FROM information_schema.global_status \
             WHERE variable_name IN ('THREADS_CONNECTED', 'SSL_VERSION', 'SSL_CIPHER', \
             'WSREP_READY', 'WSREP_CLUSTER_STATUS', 'WSREP_LOCAL_STATE_COMMENT')",
            &[],
        )
        .await?;
    let value = |name: &str| {
        rows.iter()
            .find(|row| {
                row.text(0)
                    .is_some_and(|known| known.eq_ignore_ascii_case(name))
            })
            .map(|row| row.string(1))
            .unwrap_or_default()
    };
    let setting = |index| {
        rows.first()
            .and_then(|row| row.text(index)?.parse().ok())
            .unwrap_or(0)
    };
    let encryption = [value("ssl_version"), value("ssl_cipher")];
    Ok(Standing {
        server: session.server().to_owned(),
        connections: Connections {
            used: value("threads_connected").parse().unwrap_or(0),
            most: setting(2),
            ours: setting(3),
            each: setting(4),
            account: rows.first().map(|row| row.string(5)).unwrap_or_default(),
        },
        galera: in_galera(session).await?.then(|| Galera {
            ready: value("wsrep_ready"),
            status: value("wsrep_cluster_status"),
            state: value("wsrep_local_state_comment"),
        }),
        encryption: encryption
            .iter()
            .all(|text| !text.is_empty())
            .then(|| encryption.join(" ")),
    })
}

/// Is the server in a Galera cluster, or meant to be? One that was built without
/// it does not know the variables.
async fn in_galera(session: &mut Session) -> Result<bool, SqlError> {
    let rows = session
        .rows(
            "asking whether the server is in a Galera cluster",
            "SELECT CAST(@@global.wsrep_on AS CHAR), CAST(@@global.wsrep_provider AS CHAR)",
            &[],
        )
        .await;
    match rows {
        Ok(rows) => Ok(rows.first().is_some_and(|row| {
            let provider = row.string(1);
            let on = !matches!(row.text(0), None | Some("0" | "OFF"));
            on && !provider.is_empty() && provider != "none"
        })),
        Err(error) if error.class == Class::Other => Ok(false),
        Err(error) => Err(error),
    }
}

/// `ours` is what the server lets this user have of them, which may be the user of
/// the whole fleet, as [`crowded`] takes it; 0 is all.
fn judge_connections(server: &str, connections: &Connections) -> Option<Failure> {
    let Connections {
        used, most, ours, ..
    } = *connections;
    let (most, limit) = if ours > 0 && (most == 0 || ours < most) {
        (ours, "max_user_connections")
    } else {
        (most, "max_connections")
    };
    let enough = most.max(SPARE) * 2;
    let raise = if limit == "max_user_connections" && ours != connections.each {
        let account = Account::parse(&connections.account);
        format!("ALTER USER {account} WITH MAX_USER_CONNECTIONS {enough};")
    } else {
        format!("SET GLOBAL {limit} = {enough}; and the same in its configuration.")
    };
    let free = most.saturating_sub(used);
    (most > 0 && free < SPARE).then(|| {
        Failure::new(
            &codes::DB_CONNECTIONS,
            format!(
                "the database server {server} has {free} of {most} connections left{}",
                if limit == "max_connections" {
                    ""
                } else {
                    " that one user may have, if all are this one's"
                }
            ),
        )
        .value(format!("{used} of {most}"))
        .source(format!("Threads_connected and {limit}"))
        .remedy(format!(
            "Find who holds them (SHOW PROCESSLIST), or on the server: {raise}"
        ))
    })
}

/// A donor takes statements, so it is no reason to stop: a nightly backup
/// would keep every node from starting.
fn judge_donor(server: &str, galera: &Galera) -> Option<Failure> {
    is_donor(&galera.state).then(|| {
        Failure::new(
            &codes::DB_DONOR,
            format!(
                "the Galera node {server} is {}: it gives its data to another node or to a backup",
                galera.state
            ),
        )
        .value(&galera.state)
        .source("wsrep_local_state_comment")
    })
}

fn judge_member(server: &str, galera: &Galera) -> Option<Failure> {
    let fits = galera.ready == "ON"
        && galera.status == "Primary"
        && (galera.state == "Synced" || is_donor(&galera.state));
    (!fits).then(|| {
        Failure::new(
            &codes::DB_NOT_READY,
            format!(
                "the Galera node {server} is not in step with its cluster: it is {}, its component \
                 is {}, and it is {}ready",
                or_unknown(&galera.state),
                or_unknown(&galera.status),
                if galera.ready == "ON" { "" } else { "not " }
            ),
        )
        .value(&galera.state)
        .source("wsrep_local_state_comment, wsrep_cluster_status, wsrep_ready")
    })
}

fn is_donor(state: &str) -> bool {
    state.starts_with("Donor")
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_run_out_before_they_have() {
        let judged = |used, most, ours, each| {
            let connections = Connections {
                used,
                most,
                ours,
                each,
                account: "sf@10.%".into(),
            };
            judge_connections("db:1", &connections)
        };
        assert!(judged(10, 151, 0, 0).is_none());
        let failure = judged(140, 151, 0, 0).unwrap();
        assert_eq!(
            failure.what,
            "the database server db:1 has 11 of 151 connections left"
        );
        assert!(
            failure
                .remedy_text()
                .contains("SET GLOBAL max_connections = 302;")
        );
        assert!(judged(200, 151, 0, 0).is_some());
        assert!(judged(5, 0, 0, 0).is_none(), "not told");
        // The users' limit, or this user's own, where that is the lower one.
        for (each, remedy) in [
            (25, "SET GLOBAL max_user_connections = 50;"),
            (0, "ALTER USER 'sf'@'10.%' WITH MAX_USER_CONNECTIONS 50;"),
            (90, "ALTER USER 'sf'@'10.%' WITH MAX_USER_CONNECTIONS 50;"),
        ] {
            let failure = judged(10, 151, 25, each).unwrap();
            assert!(failure.remedy_text().contains(remedy), "{failure:?}");
        }
        assert!(judged(10, 151, 500, 500).is_none());
    }

    #[test]
    fn members_out_of_step_are_transient_and_donors_only_warned_about() {
        for (ready, status, state, member, donor) in [
            ("ON", "Primary", "Synced", false, false),
            ("ON", "Primary", "Donor/Desynced", false, true),
            ("ON", "Primary", "Joined", true, false),
            (
                "OFF",
                "Primary",
                "Joining: receiving State Transfer",
                true,
                false,
            ),
            ("OFF", "non-Primary", "Initialized", true, false),
            ("OFF", "Disconnected", "", true, false),
        ] {
            let galera = Galera {
                ready: ready.into(),
                status: status.into(),
                state: state.into(),
            };
            let found = judge_member("db:1", &galera);
            assert_eq!(found.is_some(), member, "{galera:?}");
            assert_eq!(judge_donor("db:1", &galera).is_some(), donor, "{galera:?}");
            if let Some(failure) = found {
                assert_eq!(failure.code.id, "SF-DB-NOT-READY");
                assert!(failure.kind().retried());
            }
        }
    }
}
