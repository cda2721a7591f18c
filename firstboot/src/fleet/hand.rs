//! What an operator does to the cluster's record by hand, with a record of who
//! did it: `bootstrap_events`, to which rows are only ever added.

use std::time::Instant;

use serde::Serialize;

use super::Fleet;
use crate::claim::{self, Claim};
use crate::codes;
use crate::database::{Arg, Connector, Link, Session, SqlError, Statement};
use crate::failure::Failure;

/// A row of `bootstrap_events`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// UNIX seconds, by the server's clock.
    pub at: f64,
    /// `forget`, `release-claim`.
    pub action: String,
    /// The node or the role.
    pub subject: String,
    /// What was there before.
    pub detail: String,
    /// Login name.
    pub by_user: String,
    /// Host where the command was given.
    pub by_host: String,
}

/// Who gives the command.
#[derive(Clone, Debug)]
pub struct Author {
    /// Login name; that before sudo, where there is one.
    pub user: String,
    /// This host.
    pub host: String,
}

impl Author {
    /// Whoever runs this process.
    pub fn here() -> Self {
        let user = ["SUDO_USER", "USER", "LOGNAME"]
            .iter()
            .filter_map(std::env::var_os)
            .map(|name| name.to_string_lossy().into_owned())
            .find(|name| !name.is_empty())
            .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Self { user, host }
    }
}

/// What was there of a node when somebody said that it may be forgotten.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its name.
    pub fqdn: String,
    /// When it last booted; `None` when it had no row.
    pub last_boot: Option<f64>,
    /// The roles that it held.
    pub roles: Vec<String>,
}

impl Seen {
    /// What `fleet` shows of the node.
    pub fn of(fleet: &Fleet, fqdn: &str) -> Self {
        let node = fleet.nodes.iter().find(|node| node.fqdn == fqdn);
        let claims = fleet.claims.iter().chain(&fleet.schema_maker);
        Self {
            fqdn: fqdn.to_owned(),
            last_boot: node.map(|node| node.last_boot),
            roles: claims
                .filter(|claim| claim.fqdn == fqdn)
                .map(|claim| claim.role.clone())
                .collect(),
        }
    }
}

/// Removes a node's row and what it holds. `false` when there is no such node, or
/// it is not as it was `seen`: who saw a dead node has not said that one which has
/// booted since may be forgotten, or one that makes the release's tables, which
/// comes before its row says that it has booted. The series that it held is free
/// for retirement with that.
pub async fn forget(
    connector: &Connector,
    seen: &Seen,
    author: &Author,
    deadline: Instant,
) -> Result<bool, Failure> {
    const FORGETTING: &str = "forgetting the node";
    /// Its column.
    const LAST_BOOT: usize = 5;
    let fqdn = seen.fqdn.as_str();
    once(connector, deadline, async |session, id| {
        let name = [Arg::from(fqdn)];
        let rows = session
            .rows(
                "reading the node's row",
                "SELECT role, series, image_version, phase, outcome, CAST(last_boot AS CHAR) \
                 FROM bootstrap_nodes WHERE fqdn = ?",
                &name,
            )
            .await?;
        let claims = session
            .rows(
                "reading what the node holds",
                "SELECT role FROM bootstrap_claims WHERE fqdn = ?",
                &name,
            )
            .await?;
        let booted = rows.first().map(|row| row.string(LAST_BOOT));
        let as_seen = booted.as_deref().map(|text| text.parse().ok()) == seen.last_boot.map(Some)
            && claims.iter().all(|claim| seen.roles.contains(&claim.string(0)));
        if (rows.is_empty() && claims.is_empty()) || !as_seen {
            return Ok(false);
        }
        let mut detail = rows.first().map_or_else(String::new, |row| {
            format!(
                "role {}, series {}, image {}, phase {}, outcome {}, last boot {}",
                row.string(0),
                row.text(1).unwrap_or("none"),
                row.string(2),
                row.string(3),
                row.text(4).unwrap_or("none"),
                row.string(LAST_BOOT)
            )
        });
        for claim in &claims {
            detail.push_str("; claim ");
            detail.push_str(&claim.string(0));
        }
        session.begin().await?;
        if let Some(booted) = booted {
            let matched = session
                .execute(&Statement {
                    doing: FORGETTING,
                    sql: "DELETE FROM bootstrap_nodes WHERE fqdn = ? AND CAST(last_boot AS CHAR) = ?",
                    args: vec![fqdn.into(), booted.into()],
                })
                .await?;
            if matched == 0 {
                session.roll_back().await;
                return Ok(false);
            }
        }
        for claim in claims {
            session
                .execute(&Statement {
                    doing: FORGETTING,
                    sql: "DELETE FROM bootstrap_claims WHERE fqdn = ? AND role = ?",
                    args: vec![fqdn.into(), claim.string(0).into()],
                })
                .await?;
        }
        add(session, id, ("forget", fqdn, &detail), author).await?;
        session.commit().await?;
        Ok(true)
    })
    .await
}

/// Frees a role if all is as it was `seen`; `false` when it has another holder, or
/// the holder has booted or taken it again since.
pub async fn release(
    connector: &Connector,
    seen: &Claim,
    author: &Author,
    deadline: Instant,
) -> Result<bool, Failure> {
    let (role, holder) = (seen.role.as_str(), seen.fqdn.as_str());
    once(connector, deadline, async |session, id| {
        let rows = session
            .rows(
                "reading when the holder booted",
                "SELECT CAST(last_boot AS CHAR) FROM bootstrap_nodes WHERE fqdn = ?",
                &[holder.into()],
            )
            .await?;
        let booted = rows.first().and_then(|row| row.text(0)).map(str::to_owned);
        if !claim::read_all(session).await?.contains(seen) {
            return Ok(false);
        }
        session.begin().await?;
        let matched = session
            .execute(&Statement {
                doing: "releasing the claim",
                // A holder that boots takes its claim anew with nothing changed in
                // it; that it has booted is in its row.
                sql: "DELETE FROM bootstrap_claims WHERE role = ? AND fqdn = ? \
                      AND instance_id = ? AND (SELECT CAST(last_boot AS CHAR) \
                      FROM bootstrap_nodes WHERE fqdn = ?) <=> ?",
                args: vec![
                    role.into(),
                    holder.into(),
                    seen.instance_id.as_str().into(),
                    holder.into(),
                    Arg::from(booted),
                ],
            })
            .await?;
        if matched == 0 {
            session.roll_back().await;
            return Ok(false);
        }
        let detail = format!("held by {holder}");
        add(session, id, ("release-claim", role, &detail), author).await?;
        session.commit().await?;
        Ok(true)
    })
    .await
}

/// Does one command, which records itself under the id that it is given. All
/// attempts have the same id: one after a lost answer to COMMIT finds out by it
/// that the work is done.
async fn once(
    connector: &Connector,
    deadline: Instant,
    mut work: impl AsyncFnMut(&mut Session, &str) -> Result<bool, SqlError>,
) -> Result<bool, Failure> {
    let quiet = &mut |_: &str| {};
    let mut link = Link::new(connector, deadline, &codes::GATE_CONTENDED, quiet);
    let id = uuid::Uuid::new_v4().simple().to_string();
    let result = link
        .retry(async |session| {
            if recorded(session, &id).await? {
                return Ok(true);
            }
            // Nothing to do may be this command's own doing: the COMMIT that it has
            // lost went on until now.
            Ok(work(session, &id).await? || recorded(session, &id).await?)
        })
        .await;
    if let Some(session) = link.into_session() {
        session.close().await;
    }
    result
}

async fn recorded(session: &mut Session, id: &str) -> Result<bool, SqlError> {
    let rows = session
        .rows(
            "looking for the command's record",
            "SELECT id FROM bootstrap_events WHERE id = ?",
            &[id.into()],
        )
        .await?;
    Ok(!rows.is_empty())
}

async fn add(
    session: &mut Session,
    id: &str,
    (action, subject, detail): (&str, &str, &str),
    author: &Author,
) -> Result<(), SqlError> {
    let cut = |text: &str, limit: usize| text.chars().take(limit).collect::<String>();
    let now = session.now();
    session
        .execute(&Statement {
            doing: "recording who did it",
            sql: "INSERT INTO bootstrap_events (id, at, action, subject, detail, by_user, \
                  by_host, agent_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            args: vec![
                id.into(),
                Arg::Real(now),
                action.into(),
                cut(subject, 255).into(),
                cut(detail, 2000).into(),
                cut(&author.user, 255).into(),
                cut(&author.host, 255).into(),
                env!("CARGO_PKG_VERSION").into(),
            ],
        })
        .await
        .map(drop)
}

/// The latest twenty, latest first.
pub(super) async fn latest(session: &mut Session) -> Result<Vec<Event>, SqlError> {
    let rows = session
        .rows(
            "reading what was done by hand",
            "SELECT CAST(at AS CHAR), action, subject, detail, by_user, by_host \
             FROM bootstrap_events ORDER BY at DESC LIMIT 20",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Event {
            at: super::number(row.text(0)),
            action: row.string(1),
            subject: row.string(2),
            detail: row.string(3),
            by_user: row.string(4),
            by_host: row.string(5),
        })
        .collect())
}
