//! What the database says about versions.

use sf_contract::series::Series;

use crate::claim::{self, Claim};
use crate::database::{Session, SqlError, schema};
use crate::failure::Failure;

/// A slot of `cluster_series`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// 0 or 1.
    pub slot: u8,
    /// The series that holds it.
    pub series: Series,
    /// The series that may run beside it, by the image that introduced it.
    pub predecessor: Option<Series>,
    /// The release that introduced it.
    pub release: String,
}

/// A row of `bootstrap_nodes`, as far as versions go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// The node.
    pub fqdn: String,
    /// The series it was last cleared for; `None` for a node that has never
    /// passed the gate.
    pub series: Option<Series>,
    /// [`crate::identity::machine_id`], to notice another machine of that name.
    pub instance_id: String,
}

/// Everything that a decision is made from, besides the image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Slots, lowest first; empty before the bootstrap.
    pub slots: Vec<Slot>,
    /// Nodes by name.
    pub nodes: Vec<NodeRow>,
    /// Roles that only one node has, and which one that is.
    pub claims: Vec<Claim>,
    /// What could not be understood, a phrase each.
    pub unreadable: Vec<String>,
}

impl Facts {
    /// The nodes other than `fqdn` that run `series`.
    pub fn others_on<'f>(&'f self, series: Series, fqdn: &str) -> Vec<&'f str> {
        self.nodes
            .iter()
            .filter(|node| node.series == Some(series) && node.fqdn != fqdn)
            .map(|node| node.fqdn.as_str())
            .collect()
    }

    /// The row of `fqdn`.
    pub fn node(&self, fqdn: &str) -> Option<&NodeRow> {
        self.nodes.iter().find(|node| node.fqdn == fqdn)
    }
}

/// Reads the facts; tables that are missing read as empty. Writes nothing.
pub async fn facts(session: &mut Session) -> Result<Facts, Failure> {
    let tables = schema::state(session)
        .await
        .map_err(SqlError::into_failure)?;
    if !tables.has_record() {
        return Ok(Facts::default());
    }
    read(session).await.map_err(SqlError::into_failure)
}

/// Reads the facts from tables that are there.
pub(crate) async fn read(session: &mut Session) -> Result<Facts, SqlError> {
    let mut facts = Facts::default();
    let slots = session
        .rows(
            "reading the cluster's series",
            "SELECT CAST(slot AS CHAR), series, predecessor, release_version \
             FROM cluster_series ORDER BY slot",
            &[],
        )
        .await?;
    for row in slots {
        let predecessor = row.text(2).map(str::parse).transpose();
        let number = row.text(0).and_then(|text| text.parse().ok());
        match (number, row.string(1).parse(), predecessor) {
            (Some(slot), Ok(series), Ok(predecessor)) => facts.slots.push(Slot {
                slot,
                series,
                predecessor,
                release: row.string(3),
            }),
            _ => facts.unreadable.push(format!(
                "slot {} of cluster_series holds series \"{}\" with predecessor \"{}\"",
                row.string(0),
                row.string(1),
                row.string(2)
            )),
        }
    }
    let nodes = session
        .rows(
            "reading which nodes run which series",
            "SELECT fqdn, series, instance_id FROM bootstrap_nodes ORDER BY fqdn",
            &[],
        )
        .await?;
    facts.claims = claim::read(session).await?;
    for row in nodes {
        match row.text(1).map(str::parse).transpose() {
            Ok(series) => facts.nodes.push(NodeRow {
                fqdn: row.string(0),
                series,
                instance_id: row.string(2),
            }),
            Err(_) => facts.unreadable.push(format!(
                "node {} has series \"{}\"",
                row.string(0),
                row.string(1)
            )),
        }
    }
    Ok(facts)
}
