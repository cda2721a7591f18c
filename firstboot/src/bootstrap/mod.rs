//! Bootstrapping the cluster, exactly once, in the operator's database.
//!
//! A [`Plan`] is five kinds of operation as data: the cluster's series, the
//! namespace `system`, the system key, cluster-wide configuration, and the seed
//! that signs API tokens. Each operation commits together with its record in
//! `bootstrap_operations`, and the record is inserted **first**: its primary
//! key is what keeps two nodes from doing the same work, on one server and on
//! Galera. Whatever goes wrong, the next attempt starts from what it reads, so
//! a lost answer to a COMMIT is resolved by finding the record or not.
//!
//! The seed comes last: a node that finds its record knows that everything
//! else of that plan is there, which is what [`wait_for_bootstrap`] looks for.
//!
//! What is there already is never changed. Without a record it is *adopted*
//! when it agrees with the metadata and a refusal when it does not; with a
//! record it may have been changed by people since, which is their business,
//! unless it is the metadata that changed: then the node's operator expects
//! something that will not happen, and is told.
//!
//! # Fingerprints
//! A record says what was written in a form that cannot be turned back by
//! guessing:
//! - plain values: `sha256:` of the value;
//! - the seed, when the agent generated it (256 random bits):
//!   `hmac-sha256:` under the seed itself;
//! - a seed that came from people, and values whose key or form says that they
//!   hold a password: `withheld`, since any fast digest of a guessable text is
//!   the text itself to whoever has a dictionary;
//! - the system key: `bcrypt-sha256:`, the SHA-256 of the stored bcrypt hash,
//!   whose salt is in another table. A digest of the key under the seed would
//!   be fast to try out for whoever reads the database, which has the seed.

mod execute;
mod judge;
mod observe;
mod operation;
mod plan;
mod prepare;
mod rehearse;
mod secrets;
mod wait;

pub use execute::{Done, Outcome, Report, run, run_on_node};
pub use plan::{Author, Inputs, Plan, SystemKey};
pub use rehearse::{Rehearsal, Tried, rehearse};
pub use wait::{lacks, wait_for_bootstrap};

pub(crate) use operation::{SEED_OPERATION, SERIES_OPERATION};

/// Do these records say that the bootstrap is done, to its last operation?
pub fn is_whole(operations: &[crate::database::OperationRecord]) -> bool {
    operations
        .iter()
        .any(|record| record.name == SEED_OPERATION)
}
