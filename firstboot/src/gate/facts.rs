//! What the database says about versions.

use std::collections::BTreeMap;

use sf_contract::series::Series;

use crate::bootstrap::{SEED_OPERATION, SERIES_OPERATION};
use crate::claim::{self, Claim};
use crate::database::{self, Session, SqlError, schema};
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

/// The node's own row of `bootstrap_nodes`, as far as versions go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeRow {
    /// The series it was last cleared for; `None` for a node that has never
    /// passed the gate.
    pub series: Option<Series>,
    /// [`crate::identity::machine_id`], to notice another machine of that name.
    pub instance_id: String,
    /// What that machine is for, to tell people.
    pub role: String,
    /// When it last ran the agent, UNIX seconds; to tell people.
    pub last_boot: Option<f64>,
}

/// The other nodes of one series: enough to decide, and to tell people. A whole
/// fleet boots at once, and each node that read all rows would make that the
/// square of its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Others {
    /// The first names, at most [`Others::NAMED`]; none when nobody runs it.
    pub named: Vec<String>,
    /// How many there are besides; `None` when there are some that nobody has
    /// counted, since no refusal can be about them.
    pub more: Option<u64>,
}

impl Others {
    /// How many are named, so that a card stays readable on a large cluster.
    pub const NAMED: usize = 5;

    /// Does no other node run the series?
    pub fn none(&self) -> bool {
        self.named.is_empty()
    }
}

/// All names, of which the first are kept.
impl FromIterator<String> for Others {
    fn from_iter<I: IntoIterator<Item = String>>(all: I) -> Self {
        let mut named: Vec<String> = all.into_iter().collect();
        let more = named.len().saturating_sub(Self::NAMED);
        named.truncate(Self::NAMED);
        Self {
            named,
            more: u64::try_from(more).ok(),
        }
    }
}

/// `n1, n2, n3, n4, n5 and 2 more`.
impl std::fmt::Display for Others {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.none() {
            return formatter.write_str("no other node");
        }
        formatter.write_str(&self.named.join(", "))?;
        match self.more {
            Some(0) => Ok(()),
            Some(more) => write!(formatter, " and {more} more"),
            None => formatter.write_str(" and more"),
        }
    }
}

/// Everything that a decision about one node is made from, besides its image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Slots, lowest first; empty before the bootstrap.
    pub slots: Vec<Slot>,
    /// The node's own row.
    pub own: Option<NodeRow>,
    /// The other nodes, by the series that they run.
    pub others: BTreeMap<Series, Others>,
    /// Roles that only one node has, and which one that is.
    pub claims: Vec<Claim>,
    /// What could not be understood, a phrase each.
    pub unreadable: Vec<String>,
    /// No slot is held although the bootstrap gave one away: what is gone. To
    /// wait for it would be in vain.
    pub lost: Option<String>,
}

impl Facts {
    /// The nodes that run `series`, besides the one that the facts are about.
    pub fn others_on(&self, series: Series) -> Others {
        self.others
            .get(&series)
            .cloned()
            .unwrap_or_else(|| std::iter::empty().collect())
    }

    /// Does only this node, or nobody, run `series`?
    pub fn no_other_on(&self, series: Series) -> bool {
        self.others.get(&series).is_none_or(Others::none)
    }

    fn is_recorded(&self, series: Series) -> bool {
        self.slots.iter().any(|slot| slot.series == series)
    }
}

/// Reads the facts about node `fqdn` and an image of `series`; tables that are
/// missing read as empty. Writes nothing.
pub async fn facts(session: &mut Session, fqdn: &str, series: Series) -> Result<Facts, Failure> {
    look(session, fqdn, series)
        .await
        .map_err(SqlError::into_failure)
}

/// The same, for work that is tried again.
pub(crate) async fn look(
    session: &mut Session,
    fqdn: &str,
    series: Series,
) -> Result<Facts, SqlError> {
    if schema::state(session).await?.has_record() {
        read(session, fqdn, series).await
    } else {
        Ok(Facts::default())
    }
}

/// Reads the facts from tables that are there. What it reads does not grow with
/// the fleet.
pub(crate) async fn read(
    session: &mut Session,
    fqdn: &str,
    series: Series,
) -> Result<Facts, SqlError> {
    let mut facts = Facts::default();
    read_slots(session, &mut facts).await?;
    if facts.slots.is_empty() && facts.unreadable.is_empty() {
        facts.lost = lost(session, &mut facts).await?;
    }
    read_nodes(session, fqdn, &mut facts).await?;
    facts.claims = claim::read(session).await?;
    if !facts.is_recorded(series) {
        count_others(session, fqdn, &mut facts).await?;
    }
    Ok(facts)
}

/// Reads the series that hold a slot, from a table that is there.
pub(crate) async fn slots(session: &mut Session) -> Result<Vec<Slot>, SqlError> {
    let mut facts = Facts::default();
    read_slots(session, &mut facts).await?;
    Ok(facts.slots)
}

async fn read_slots(session: &mut Session, facts: &mut Facts) -> Result<(), SqlError> {
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
    Ok(())
}

/// Who gave a slot away that nobody holds any more. The operation and its record
/// come with one commit, and it may have been just now: so the slots are read
/// once more behind the record.
async fn lost(session: &mut Session, facts: &mut Facts) -> Result<Option<String>, SqlError> {
    if !schema::state(session).await?.has("bootstrap_operations") {
        return Ok(None);
    }
    let done = database::operations(session).await?;
    let Some(record) = [SERIES_OPERATION, SEED_OPERATION]
        .iter()
        .find_map(|name| done.iter().find(|record| record.name == *name))
    else {
        return Ok(None);
    };
    read_slots(session, facts).await?;
    Ok((facts.slots.is_empty() && facts.unreadable.is_empty())
        .then(|| record.says_gone("the cluster's series", session.server())))
}

/// The node's own row, and of each slot's series the first other nodes: a limit
/// for each, since one for all would let a large series hide a small one. One
/// more than are named, to know whether that is all. The tables allow no slots
/// but these two, and no node a series without a slot.
async fn read_nodes(session: &mut Session, fqdn: &str, facts: &mut Facts) -> Result<(), SqlError> {
    let rows = session
        .rows(
            "reading which nodes run which series",
            "SELECT 'own', fqdn, series, instance_id, role, CAST(last_boot AS CHAR) \
              FROM bootstrap_nodes WHERE fqdn = ? \
             UNION ALL \
             (SELECT 'other', n.fqdn, n.series, NULL, NULL, NULL FROM cluster_series c \
              JOIN bootstrap_nodes n ON n.series = c.series \
              WHERE c.slot = 0 AND n.fqdn <> ? ORDER BY n.fqdn LIMIT 6) \
             UNION ALL \
             (SELECT 'other', n.fqdn, n.series, NULL, NULL, NULL FROM cluster_series c \
              JOIN bootstrap_nodes n ON n.series = c.series \
              WHERE c.slot = 1 AND n.fqdn <> ? ORDER BY n.fqdn LIMIT 6)",
            &[fqdn.into(), fqdn.into(), fqdn.into()],
        )
        .await?;
    for row in rows {
        let own = row.text(0) == Some("own");
        match row.text(2).map(str::parse).transpose() {
            Ok(series) if own => {
                facts.own = Some(NodeRow {
                    series,
                    instance_id: row.string(3),
                    role: row.string(4),
                    last_boot: row.text(5).and_then(|text| text.parse().ok()),
                });
            }
            Ok(Some(series)) => {
                let others = facts.others.entry(series).or_insert_with(|| Others {
                    named: Vec::new(),
                    more: Some(0),
                });
                if others.named.len() < Others::NAMED {
                    others.named.push(row.string(1));
                } else {
                    others.more = None;
                }
            }
            // The join leaves out who has none.
            Ok(None) => {}
            Err(_) => facts.unreadable.push(format!(
                "node {} has series \"{}\"",
                row.string(1),
                row.string(2)
            )),
        }
    }
    Ok(())
}

/// The [`crate::identity::machine_id`] on record under a name.
pub(crate) async fn machine_of(
    session: &mut Session,
    fqdn: &str,
) -> Result<Option<String>, SqlError> {
    let rows = session
        .rows(
            "looking for this machine's earlier name",
            "SELECT instance_id FROM bootstrap_nodes WHERE fqdn = ?",
            &[fqdn.into()],
        )
        .await?;
    Ok(rows.first().map(|row| row.string(0)))
}

/// Counts those that are not named. Only a refusal tells the number, and the
/// server looks at every row of the series for it.
async fn count_others(
    session: &mut Session,
    fqdn: &str,
    facts: &mut Facts,
) -> Result<(), SqlError> {
    for (series, others) in &mut facts.others {
        if others.more.is_some() {
            continue;
        }
        let rows = session
            .rows(
                "counting the nodes of a series",
                "SELECT CAST(COUNT(*) AS CHAR) FROM bootstrap_nodes \
                 WHERE series = ? AND fqdn <> ?",
                &[series.to_string().into(), fqdn.into()],
            )
            .await?;
        let count: Option<usize> = rows.first().and_then(|row| row.text(0)?.parse().ok());
        others.more = count
            .map(|count| count.saturating_sub(Others::NAMED))
            .and_then(|more| u64::try_from(more).ok());
    }
    Ok(())
}
