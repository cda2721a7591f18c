//! The whole fleet as the database shows it, from any desk: what every node
//! runs and how its last boot ended, who holds which role, what was
//! bootstrapped, and what people did to the record.
//!
//! Reads, but for three things: the trace that a node leaves of its own boot
//! ([`trace`]), and the two commands of an operator ([`hand`]). What the rows
//! mean for versions is [`crate::gate`]'s; nothing here clears anything.

pub mod hand;
pub mod table;
pub mod trace;

use serde::Serialize;

use crate::claim::{self, Claim};
use crate::database::{OperationRecord, Session, SqlError, operations, schema};
use crate::failure::Failure;

/// How a node's last boot went, in the order in which people want to see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Stopped; somebody must act on the node.
    Failed,
    /// Stopped by a rule of the cluster: version, claim, name.
    Refused,
    /// Stopped for now; it tries again by itself.
    Waiting,
    /// Passed the gate; not finished.
    Booting,
    /// The daemons were told to start.
    Started,
    /// The daemons answer.
    Ready,
}

impl State {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Failed,
        Self::Refused,
        Self::Waiting,
        Self::Booting,
        Self::Started,
        Self::Ready,
    ];

    fn of(outcome: Option<&str>) -> Self {
        match outcome {
            None => Self::Booting,
            Some(trace::READY) => Self::Ready,
            Some(trace::STARTED) => Self::Started,
            Some(trace::WAITING) => Self::Waiting,
            Some(trace::REFUSED) => Self::Refused,
            Some(_) => Self::Failed,
        }
    }

    /// As people see it: what needs them is in capitals.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "FAILED",
            Self::Refused => "REFUSED",
            Self::Waiting => "waiting",
            Self::Booting => "booting",
            Self::Started => "started",
            Self::Ready => "ready",
        }
    }
}

/// A row of `bootstrap_nodes`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Member {
    /// How its last boot went.
    pub state: State,
    /// Its name.
    pub fqdn: String,
    /// Its role.
    pub role: String,
    /// The series that it was last cleared for, and so holds; `None` when it
    /// has never passed the gate.
    pub series: Option<String>,
    /// Shaken Fist's version, of its last boot.
    pub release: String,
    /// Its image, of its last boot.
    pub image_version: String,
    /// How far it came.
    pub phase: String,
    /// When the agent last ran there, UNIX seconds by the server's clock: of a node
    /// that waits, its latest attempt.
    pub last_boot: f64,
    /// Code of the failure.
    pub last_error: Option<String>,
}

/// A row of `cluster_series`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesSlot {
    /// 0 or 1.
    pub slot: u8,
    /// The series.
    pub series: String,
    /// The one that may run beside it.
    pub predecessor: Option<String>,
    /// The release that introduced it.
    pub release: String,
    /// UNIX seconds.
    pub introduced_at: f64,
    /// The node that introduced it.
    pub introduced_by: String,
    /// How many nodes hold it.
    pub nodes: usize,
}

/// All that there is to show.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fleet {
    /// The server that was asked.
    pub server: String,
    /// When that was, UNIX seconds by its clock, as all times here.
    pub now: f64,
    /// Has the cluster been bootstrapped, as a whole?
    pub bootstrapped: bool,
    /// The series that may run.
    pub series: Vec<SeriesSlot>,
    /// Roles that one node has.
    pub claims: Vec<Claim>,
    /// The node that makes the release's tables just now.
    pub schema_maker: Option<Claim>,
    /// Nodes, those that need somebody first, then by name.
    pub nodes: Vec<Member>,
    /// What the bootstrap established.
    pub operations: Vec<OperationRecord>,
    /// The latest of what people did by hand, latest first.
    pub events: Vec<hand::Event>,
}

impl Fleet {
    /// How many nodes are in a state.
    pub fn count(&self, state: State) -> usize {
        self.nodes.iter().filter(|node| node.state == state).count()
    }
}

/// Reads everything. Tables that are not there read as empty.
pub async fn read(session: &mut Session) -> Result<Fleet, Failure> {
    read_all(session).await.map_err(SqlError::into_failure)
}

async fn read_all(session: &mut Session) -> Result<Fleet, SqlError> {
    let tables = schema::state(session).await?;
    let mut fleet = Fleet {
        server: session.server().to_owned(),
        now: session.now(),
        ..Fleet::default()
    };
    if tables.has("bootstrap_operations") {
        fleet.operations = operations(session).await?;
        fleet.bootstrapped = crate::bootstrap::is_whole(&fleet.operations);
    }
    if tables.has_record() {
        fleet.nodes = members(session).await?;
        fleet.series = slots(session, &fleet.nodes).await?;
        fleet.claims = claim::read(session).await?;
        fleet.schema_maker = claim::schema(session).await?;
    }
    if tables.has("bootstrap_events") {
        fleet.events = hand::latest(session).await?;
    }
    Ok(fleet)
}

async fn members(session: &mut Session) -> Result<Vec<Member>, SqlError> {
    let rows = session
        .rows(
            "reading the nodes",
            "SELECT fqdn, role, series, release_version, image_version, phase, outcome, \
             CAST(last_boot AS CHAR), last_error FROM bootstrap_nodes",
            &[],
        )
        .await?;
    let mut members: Vec<Member> = rows
        .iter()
        .map(|row| Member {
            state: State::of(row.text(6)),
            fqdn: row.string(0),
            role: row.string(1),
            series: row.text(2).map(str::to_owned),
            release: row.string(3),
            image_version: row.string(4),
            phase: row.string(5),
            last_boot: number(row.text(7)),
            last_error: row.text(8).map(str::to_owned),
        })
        .collect();
    members.sort_by(|one, other| (one.state, &one.fqdn).cmp(&(other.state, &other.fqdn)));
    Ok(members)
}

async fn slots(session: &mut Session, nodes: &[Member]) -> Result<Vec<SeriesSlot>, SqlError> {
    let rows = session
        .rows(
            "reading the cluster's series",
            "SELECT CAST(slot AS CHAR), series, predecessor, release_version, \
             CAST(introduced_at AS CHAR), introduced_by FROM cluster_series ORDER BY slot",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| SeriesSlot {
            slot: row.text(0).and_then(|text| text.parse().ok()).unwrap_or(0),
            series: row.string(1),
            predecessor: row.text(2).map(str::to_owned),
            release: row.string(3),
            introduced_at: number(row.text(4)),
            introduced_by: row.string(5),
            nodes: nodes
                .iter()
                .filter(|node| node.series.as_deref() == row.text(1))
                .count(),
        })
        .collect())
}

fn number(text: Option<&str>) -> f64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}
