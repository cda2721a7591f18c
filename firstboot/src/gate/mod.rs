//! The version gate: may this image run in this cluster, now?
//!
//! Release series N and N+1 may run together, N and N+2 may not, three never.
//! The record is `cluster_series` (two slots) and the nodes that refer to it by
//! a foreign key, so the database enforces what [`decide`] decides. Only
//! [`pass`] makes a [`Clearance`], and only with one can a node's row be
//! written or a unit be started.

mod clearance;
mod decide;
mod facts;
mod pass;
mod refusal;
mod rehearse;
mod restart;

pub use clearance::{Clearance, ClearanceRecord};
pub use decide::{Decision, How, Image, decide};
pub use facts::{Facts, NodeRow, Others, Slot, facts};
pub use pass::{Node, Progress, pass, progress};
pub use refusal::Refusal;
pub use rehearse::{Candidate, Rehearsed, rehearse};
pub use restart::{May, NOT_CLEARED, restart};

pub(crate) use facts::{look, machine_of, read as read_facts, slots as read_slots};
pub(crate) use rehearse::within as rehearse_within;
