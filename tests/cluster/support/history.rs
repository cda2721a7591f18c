//! A cluster's history as a model: nodes boot, are updated, rolled back, go
//! off and are forgotten; daemons restart; the database is lost, restored, or
//! bootstrapped anew beside nodes that run.
//! Decisions are the agent's own ([`gate::decide`], [`gate::restart`]), what
//! they do to the tables is written here once more, by hand.

use std::collections::{BTreeMap, BTreeSet};

use sf_contract::role::Role;
use sf_firstboot::codes;
use sf_firstboot::failure::Failure;
use sf_firstboot::gate::{
    self, ClearanceRecord, Decision, Facts, How, Image, May, Node, NodeRow, Refusal, Slot,
};

use super::metadata::image;

/// A series, by its minor number.
pub(crate) type Minor = u64;

/// The two tables of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) slots: [Option<Minor>; 2],
    pub(crate) rows: BTreeMap<usize, Minor>,
}

impl Record {
    fn facts(&self, about: usize) -> Facts {
        let slots = self.slots.iter().zip(0..).filter_map(|(minor, slot)| {
            minor.map(|minor| Slot {
                slot,
                series: image(minor).series,
                predecessor: image(minor).predecessor,
                release: image(minor).release,
            })
        });
        Facts {
            slots: slots.collect(),
            own: self.rows.get(&about).map(|minor| NodeRow {
                series: Some(image(*minor).series),
                instance_id: format!("instance-of-{}", name(about)),
                ..NodeRow::default()
            }),
            others: self
                .others(about)
                .into_iter()
                .map(|minor| {
                    let running = self
                        .rows
                        .iter()
                        .filter(|(node, runs)| **node != about && **runs == minor);
                    let names = running.map(|(node, _)| name(*node));
                    (image(minor).series, names.collect())
                })
                .collect(),
            ..Facts::default()
        }
    }

    /// Series that other nodes than `node` hold.
    fn others(&self, node: usize) -> BTreeSet<Minor> {
        self.rows
            .iter()
            .filter(|(other, _)| **other != node)
            .map(|(_, minor)| *minor)
            .collect()
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The node comes up with an image of that series, whatever it ran before.
    Boot(usize, Minor),
    /// It goes off, for good or for a while.
    Off(usize),
    /// An operator forgets a node that is off.
    Forget(usize),
    /// A daemon of a node that was cleared in this boot restarts, or tries to
    /// where it was refused.
    Restart(usize),
    /// The same while the database cannot be asked.
    Outage(usize),
    /// The node comes up with an image of the database tier, of that series:
    /// where it finds no cluster it makes one, unless it has belonged to one.
    Bootstrap(usize, Minor),
    /// An operator makes a node that is off forget that it has belonged to a
    /// cluster (or wipes its disk).
    Reset(usize),
    /// All tables are gone.
    Lose,
    /// A backup is made.
    Backup,
    /// It is restored, and the agents of all running nodes are restarted.
    Restore,
}

/// The cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cluster {
    /// `None` when the tables are lost.
    pub(crate) record: Option<Record>,
    pub(crate) backup: Option<Record>,
    /// What each node runs that was cleared to start in its current boot.
    pub(crate) running: BTreeMap<usize, Minor>,
    /// What each node would run that was cleared in its current boot, and whose
    /// daemons were refused since.
    pub(crate) refused: BTreeMap<usize, Minor>,
    /// Nodes that have belonged to a cluster, and know it (`cluster.json`).
    pub(crate) members: BTreeSet<usize>,
    /// Running nodes that were cleared by a record that was lost since, and of
    /// which the record of today does not know.
    pub(crate) strays: BTreeSet<usize>,
}

/// How an event ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    /// Done, or allowed.
    Well,
    /// Refused or told to wait: the code.
    Stopped(&'static str),
}

pub(crate) fn name(node: usize) -> String {
    format!("n{node}")
}

impl Cluster {
    /// Bootstrapped by a node of that series, which has not joined yet.
    pub(crate) fn new(minor: Minor) -> Self {
        Self {
            record: Some(Record {
                slots: [Some(minor), None],
                rows: BTreeMap::new(),
            }),
            ..Self::default()
        }
    }

    /// May it happen in this state? An operator forgets only what is off, and
    /// restores only what was backed up.
    pub(crate) fn possible(&self, event: Event) -> bool {
        match event {
            Event::Boot(..) | Event::Bootstrap(..) => true,
            Event::Reset(node) => !self.running.contains_key(&node) && self.members.contains(&node),
            Event::Off(node) | Event::Restart(node) | Event::Outage(node) => {
                self.cleared(node).is_some()
            }
            Event::Forget(node) => {
                !self.running.contains_key(&node)
                    && self
                        .record
                        .as_ref()
                        .is_some_and(|record| record.rows.contains_key(&node))
            }
            Event::Lose | Event::Backup => self.record.is_some(),
            Event::Restore => self.backup.is_some(),
        }
    }

    /// Makes it happen.
    pub(crate) fn apply(&mut self, event: Event) -> Ended {
        match event {
            Event::Boot(node, minor) => {
                self.stop(node);
                let ended = self.pass(node, minor);
                if ended == Ended::Well {
                    self.running.insert(node, minor);
                    self.members.insert(node);
                }
                ended
            }
            Event::Bootstrap(node, minor) if self.record.is_none() => {
                self.stop(node);
                if self.members.contains(&node) {
                    return Ended::Stopped("SF-CLUSTER-LOST");
                }
                self.record = Self::new(minor).record;
                // Those that run are not on it.
                self.strays = self.running.keys().copied().collect();
                self.apply(Event::Boot(node, minor))
            }
            Event::Bootstrap(node, minor) => self.apply(Event::Boot(node, minor)),
            Event::Reset(node) => {
                self.members.remove(&node);
                Ended::Well
            }
            Event::Off(node) => {
                self.stop(node);
                Ended::Well
            }
            Event::Forget(node) => {
                if let Some(record) = &mut self.record {
                    record.rows.remove(&node);
                }
                Ended::Well
            }
            Event::Restart(node) => self.restart(node, true),
            Event::Outage(node) => self.restart(node, false),
            Event::Lose => {
                self.record = None;
                Ended::Well
            }
            Event::Backup => {
                self.backup.clone_from(&self.record);
                Ended::Well
            }
            Event::Restore => {
                self.record.clone_from(&self.backup);
                Ended::Well
            }
        }
    }

    /// What a node was cleared for in its current boot.
    pub(crate) fn cleared(&self, node: usize) -> Option<Minor> {
        let all = [&self.running, &self.refused];
        all.into_iter()
            .find_map(|cleared| cleared.get(&node).copied())
    }

    fn stop(&mut self, node: usize) {
        self.running.remove(&node);
        self.refused.remove(&node);
        self.strays.remove(&node);
    }

    fn facts(&self, about: usize) -> Facts {
        self.record
            .as_ref()
            .map_or_else(Facts::default, |record| record.facts(about))
    }

    /// The answer to a boot, before it.
    pub(crate) fn answer(&self, node: usize, minor: Minor) -> Decision {
        gate::decide(&image(minor), &self.facts(node))
    }

    /// Is it a step of a rolling upgrade or of its roll-back, by the other
    /// nodes' rows alone? N and N+1, whichever of them.
    pub(crate) fn legal(&self, node: usize, minor: Minor) -> bool {
        let Some(record) = &self.record else {
            return false;
        };
        let mut all = record.others(node);
        if all.is_empty() {
            // Alone: one step from what is recorded.
            return record
                .slots
                .iter()
                .flatten()
                .any(|slot| slot.abs_diff(minor) <= 1);
        }
        all.insert(minor);
        all.last()
            .zip(all.first())
            .is_some_and(|(last, first)| last - first <= 1)
    }

    fn pass(&mut self, node: usize, minor: Minor) -> Ended {
        let how = match self.answer(node, minor) {
            Decision::Proceed(how) => how,
            Decision::Wait(failure) | Decision::Refuse(failure) => {
                return Ended::Stopped(failure.code.id);
            }
        };
        let Some(record) = &mut self.record else {
            panic!("cleared without a record")
        };
        let before = record.clone();
        if let How::Introduce { slot, retire, .. } = how {
            for held in &mut record.slots {
                if held.is_some() && held.map(|held| image(held).series) == retire {
                    *held = None;
                }
            }
            let slot = &mut record.slots[usize::from(slot)];
            assert_eq!(*slot, None, "the slot is taken");
            *slot = Some(minor);
        }
        record.rows.insert(node, minor);
        // What nobody else ran when the decision was made retires.
        let left = before.others(node);
        for (held, was) in record.slots.iter_mut().zip(before.slots) {
            if *held == was && held.is_some_and(|held| held != minor && !left.contains(&held)) {
                *held = None;
            }
        }
        Ended::Well
    }

    fn restart(&mut self, node: usize, live: bool) -> Ended {
        let Some(minor) = self.cleared(node) else {
            return Ended::Well;
        };
        let refused = self.refused.contains_key(&node).then(refusal);
        let answer = gate::restart(
            &image(minor),
            &asking(node),
            (Some(&clearance(node, minor)), refused.as_ref()),
            "boot-1",
            live.then(|| self.facts(node)).as_ref(),
        );
        let ended = match answer {
            Ok(May::Unrecorded) => {
                let ended = self.pass(node, minor);
                if ended == Ended::Well {
                    self.strays.remove(&node);
                }
                ended
            }
            Ok(_) => Ended::Well,
            Err(failure) => Ended::Stopped(failure.code.id),
        };
        if ended == Ended::Well {
            self.refused.remove(&node);
            self.running.insert(node, minor);
        } else {
            self.stop(node);
            self.refused.insert(node, minor);
        }
        ended
    }

    /// May these series run together?
    fn together(mut series: impl Iterator<Item = Minor>) -> bool {
        let Some(first) = series.next() else {
            return true;
        };
        let (low, high) = series.fold((first, first), |(low, high), minor| {
            (low.min(minor), high.max(minor))
        });
        high - low <= 1
    }

    /// Do series run together that must not, strays among them?
    pub(crate) fn torn(&self) -> bool {
        !Self::together(self.running.values().copied())
    }

    /// What must hold whatever has happened. Of strays no record knows.
    pub(crate) fn check(&self) {
        let known = self.running.iter();
        let known = known.filter(|(node, _)| !self.strays.contains(node));
        assert!(
            Self::together(known.map(|(_, minor)| *minor)),
            "series run together that must not: {self:?}"
        );
        let Some(record) = &self.record else { return };
        let slots: Vec<Minor> = record.slots.iter().flatten().copied().collect();
        assert!(
            slots.iter().all(|slot| slot.abs_diff(slots[0]) <= 1),
            "{self:?}"
        );
        for minor in record.rows.values() {
            assert!(slots.contains(minor), "a row without its series: {self:?}");
        }
    }

    /// The same cluster with its nodes in another order counts as the same.
    pub(crate) fn canonical(&self, nodes: usize) -> Self {
        let of = |record: &Option<Record>, node| {
            record
                .as_ref()
                .and_then(|record| record.rows.get(&node).copied())
        };
        let mut all: Vec<_> = (0..nodes)
            .map(|node| {
                (
                    of(&self.record, node),
                    of(&self.backup, node),
                    self.running.get(&node).copied(),
                    self.refused.get(&node).copied(),
                    self.members.contains(&node),
                    self.strays.contains(&node),
                )
            })
            .collect();
        all.sort_unstable();
        let mut same = self.clone();
        same.running.clear();
        same.refused.clear();
        same.members.clear();
        same.strays.clear();
        for record in [&mut same.record, &mut same.backup].into_iter().flatten() {
            record.rows.clear();
            record.slots.sort_unstable();
        }
        for (node, (row, saved, running, refused, member, stray)) in all.into_iter().enumerate() {
            same.members.extend(member.then_some(node));
            same.strays.extend(stray.then_some(node));
            if let (Some(record), Some(row)) = (&mut same.record, row) {
                record.rows.insert(node, row);
            }
            if let (Some(record), Some(saved)) = (&mut same.backup, saved) {
                record.rows.insert(node, saved);
            }
            if let Some(running) = running {
                same.running.insert(node, running);
            }
            if let Some(refused) = refused {
                same.refused.insert(node, refused);
            }
        }
        same
    }
}

/// The node as its agent asks.
pub(crate) fn asking(node: usize) -> Node {
    Node {
        fqdn: name(node),
        role: Role::Hypervisor,
        instance_id: format!("instance-of-{}", name(node)),
    }
}

/// What a node that was refused keeps of that.
pub(crate) fn refusal() -> Refusal {
    let failure = Failure::new(&codes::GATE_VERSION, "the cluster runs another");
    Refusal::of(&failure, "boot-1").expect("a refusal of the gate's")
}

/// What a node that runs that series keeps of its clearance.
pub(crate) fn clearance(node: usize, minor: Minor) -> ClearanceRecord {
    let Image {
        series,
        release,
        image_version,
        ..
    } = image(minor);
    ClearanceRecord {
        fqdn: name(node),
        instance_id: asking(node).instance_id,
        series,
        release,
        image_version,
        boot_id: "boot-1".into(),
        passed_at: 0.0,
    }
}
