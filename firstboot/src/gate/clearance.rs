//! The token that starting daemons demands, and what is kept of it on disk.

use serde::{Deserialize, Serialize};
use sf_contract::series::Series;

/// Proof that the gate let this node pass during this boot. There is no way to
/// make one but [`super::pass`].
#[derive(Debug, PartialEq)]
pub struct Clearance {
    record: ClearanceRecord,
}

impl Clearance {
    pub(super) fn new(record: ClearanceRecord) -> Self {
        Self { record }
    }

    /// What to keep for the daemons' restarts during this boot.
    pub fn record(&self) -> &ClearanceRecord {
        &self.record
    }
}

/// What is kept of a clearance. It belongs under /run: it counts for one boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClearanceRecord {
    /// The node.
    pub fqdn: String,
    /// Its [`crate::identity::machine_id`], as the agent saw it: a daemon's
    /// sandbox may hide what it is made from. Empty in records of older agents.
    #[serde(default)]
    pub instance_id: String,
    /// The series that was cleared.
    pub series: Series,
    /// Shaken Fist's version.
    pub release: String,
    /// The image's version.
    pub image_version: String,
    /// `/proc/sys/kernel/random/boot_id` of the boot that it counts for.
    pub boot_id: String,
    /// UNIX seconds.
    pub passed_at: f64,
}
