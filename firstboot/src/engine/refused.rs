//! The mark of a refusal, in the runtime folder. Without it a daemon that was
//! refused would start at the next outage of the database, by this boot's
//! clearance.

use fs_err as fs;

use crate::failure::Failure;
use crate::gate::Refusal;
use crate::identity;
use crate::paths::Paths;
use crate::read;
use crate::write::{self, Access};

const REFUSED: &str = "refused.json";

/// Leaves the mark, if the gate was among those that refused. Where it cannot be
/// left the clearance goes, which takes no space.
pub fn leave(paths: &Paths, failures: &[Failure]) {
    let boot = identity::boot_id(paths);
    let mut refusals = failures.iter().filter_map(|one| Refusal::of(one, &boot));
    let Some(refusal) = refusals.next() else {
        return;
    };
    // Several daemons may be refused at once, each by a program of its own.
    let own = paths.runtime(&format!("refused.{}.new", std::process::id()));
    let left = serde_json::to_vec_pretty(&refusal)
        .map_err(std::io::Error::from)
        .and_then(|text| write::atomically(&own, &text, Access::PRIVATE))
        .and_then(|_| fs::rename(&own, paths.runtime(REFUSED)));
    if let Err(error) = left {
        tracing::warn!(cause = %error, "the refusal could not be kept: this boot's clearance is withdrawn");
        if let Err(error) = write::remove(&paths.runtime(super::CLEARANCE)) {
            tracing::error!(cause = %error, "this boot's clearance could not be withdrawn");
        }
    }
}

/// The refusal that stands, if there is one of this boot.
pub fn kept(paths: &Paths) -> Option<Refusal> {
    let text = read::text(&paths.runtime(REFUSED)).ok()?;
    let refusal: Refusal = serde_json::from_str(&text).ok()?;
    (refusal.boot_id == identity::boot_id(paths)).then_some(refusal)
}

/// The record says otherwise by now.
pub fn lift(paths: &Paths) {
    if let Err(error) = write::remove(&paths.runtime(REFUSED)) {
        tracing::warn!(cause = %error, "the mark of an earlier refusal could not be removed");
    }
}
