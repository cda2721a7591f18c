//! What the agent remembers: the done marker and the mark of a first boot
//! under way, in /var/lib/sf-firstboot.

use serde::{Deserialize, Serialize};

use crate::bootstrap::SERIES_OPERATION;
use crate::codes;
use crate::database::OperationRecord;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::read;
use crate::write::{self, Access};

/// What a finished run was for. A run for anything else runs in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// [`crate::identity::instance_id`].
    pub instance: String,
    /// Image id, `sf-hypervisor`.
    pub image_id: String,
    /// Image version.
    pub image_version: String,
    /// Digest of the merged metadata, secrets included.
    pub metadata: String,
}

/// A mark with the time that it was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What it is about.
    #[serde(flatten)]
    pub key: Key,
    /// When it was set, RFC 3339.
    pub at: String,
}

/// What an earlier run left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: the first run, or the first for this instance, image or metadata.
    Nothing,
    /// A run that began to write at this time, and was not finished.
    Interrupted(String),
    /// A run for the same instance, image and metadata ended well.
    Done,
}

/// The cluster that this node has joined, told from others by the record of
/// its first operation. A node that bootstraps must not make a second cluster
/// where this one is lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    /// UNIX seconds.
    pub bootstrapped_at: f64,
    /// Node that did it.
    pub bootstrapped_by: String,
    /// Names that this node has joined as, the present one last; earlier ones until
    /// nothing is on record under them.
    #[serde(default)]
    pub names: Vec<String>,
}

impl Membership {
    /// From the records of a cluster; `None` before its bootstrap.
    pub fn of(operations: &[OperationRecord]) -> Option<Self> {
        operations
            .iter()
            .find(|record| record.name == SERIES_OPERATION)
            .map(|record| Self {
                bootstrapped_at: record.completed_at,
                bootstrapped_by: record.completed_by.clone(),
                names: Vec::new(),
            })
    }

    /// Is it the same cluster, whatever this node was called in it?
    pub fn is_of_cluster(&self, other: &Self) -> bool {
        (self.bootstrapped_at, &self.bootstrapped_by)
            == (other.bootstrapped_at, &other.bootstrapped_by)
    }
}

/// File of the membership.
pub const MEMBERSHIP: &str = "cluster.json";

/// The cluster that this node has joined, if any. A file that is there and
/// cannot be read is no answer: it does not say that there was none.
pub fn membership(paths: &Paths) -> Result<Option<Membership>, Failure> {
    let path = paths.state(MEMBERSHIP);
    let text = match read::text(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    };
    text.and_then(|text| serde_json::from_str(&text).map_err(std::io::Error::from))
        .map(Some)
        .map_err(|error| {
            Failure::new(
                &codes::STATE_DAMAGED,
                "the file that says which cluster this node belongs to cannot be read",
            )
            .source(paths.shown(&path))
            .cause(&error)
        })
}

/// Keeps it.
pub fn keep_membership(paths: &Paths, membership: &Membership) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(membership).map_err(|error| {
        Failure::new(
            &codes::INTERNAL,
            "the membership could not be written as JSON",
        )
        .cause(&error)
    })?;
    write::atomically(&paths.state(MEMBERSHIP), &text, Access::PRIVATE)
        .map(drop)
        .map_err(|error| unwritable(&error))
}

const DONE: &str = "done.json";
const BEGUN: &str = "begun.json";

/// What earlier runs left for `key`. Of a mark that cannot be read the agent
/// believes what makes it run in full, which is always right, since all
/// operations are idempotent: a run was cut short, and none was finished.
pub fn before(paths: &Paths, key: &Key) -> Before {
    let damaged = |name: &str, error: std::io::Error| {
        tracing::warn!(
            cause = %error,
            "{} cannot be read, so this run does everything again and makes it anew",
            paths.shown(&paths.state(name))
        );
    };
    match mark(paths, BEGUN) {
        Ok(Some(begun)) if begun.key.instance == key.instance => {
            return Before::Interrupted(begun.at);
        }
        Ok(_) => {}
        Err(error) => {
            damaged(BEGUN, error);
            return Before::Interrupted(set_at(paths, BEGUN));
        }
    }
    match mark(paths, DONE) {
        Ok(Some(done)) if done.key == *key => Before::Done,
        Ok(_) => Before::Nothing,
        Err(error) => {
            damaged(DONE, error);
            Before::Nothing
        }
    }
}

fn mark(paths: &Paths, name: &str) -> std::io::Result<Option<Mark>> {
    match read::text(&paths.state(name)) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// When a mark was set that does not tell any more.
fn set_at(paths: &Paths, name: &str) -> String {
    std::fs::symlink_metadata(paths.state(name))
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(crate::clock::of_file)
        .unwrap_or_else(crate::clock::now)
}

/// Records that writing begins. A run that takes up an earlier one began when
/// that one did.
pub fn begin(paths: &Paths, key: &Key) -> Result<(), Failure> {
    let at = match mark(paths, BEGUN) {
        Ok(begun) => begun
            .filter(|begun| begun.key.instance == key.instance)
            .map_or_else(crate::clock::now, |begun| begun.at),
        Err(_) => set_at(paths, BEGUN),
    };
    // A folder of this name is nobody's. One that holds something stays, and the
    // write says so.
    for name in [BEGUN, DONE] {
        let _not_one = std::fs::remove_dir(paths.state(name));
    }
    set(paths, BEGUN, key, at)
}

/// Takes that back: the run ended by itself, with a card, before it changed
/// anything of this node, so there is nothing to resume. Where `before` it a
/// run was cut short, there still is. Where one was done, and this one had to
/// begin anew, that does not count any more.
pub fn withdraw(paths: &Paths, before: &Before) {
    if matches!(before, Before::Interrupted(_)) || !paths.state(BEGUN).exists() {
        return;
    }
    // The mark last, so that a cut in between is one.
    let done = if *before == Before::Done {
        write::remove(&paths.state(DONE))
    } else {
        Ok(false)
    };
    let removed = done.and_then(|_| write::remove(&paths.state(BEGUN)));
    if let Err(error) = removed {
        tracing::warn!(cause = %error, "the mark of a run under way could not be removed");
    }
}

/// Records that all is done: the last write of a run.
pub fn finish(paths: &Paths, key: &Key) -> Result<(), Failure> {
    set(paths, DONE, key, crate::clock::now())?;
    write::remove(&paths.state(BEGUN))
        .map(drop)
        .map_err(|error| unwritable(&error))
}

fn set(paths: &Paths, name: &str, key: &Key, at: String) -> Result<(), Failure> {
    let mark = Mark {
        key: key.clone(),
        at,
    };
    let text = serde_json::to_vec_pretty(&mark).map_err(|error| {
        Failure::new(&codes::INTERNAL, "a mark could not be written as JSON").cause(&error)
    })?;
    write::atomically(&paths.state(name), &text, Access::PRIVATE)
        .map(drop)
        .map_err(|error| unwritable(&error))
}

/// A write to the node's own disk that failed.
pub fn unwritable(error: &std::io::Error) -> Failure {
    let full = matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    );
    let code = if full {
        &codes::DISK_FULL
    } else {
        &codes::STATE_WRITE
    };
    Failure::new(code, "a file of this node could not be written").cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn key(instance: &str, image: &str, metadata: &str) -> Key {
        Key {
            instance: instance.into(),
            image_id: "sf-x".into(),
            image_version: image.into(),
            metadata: metadata.into(),
        }
    }

    #[test]
    fn the_marker_holds_for_one_instance_image_and_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let ours = key("i", "1", "m");
        assert_eq!(before(&paths, &ours), Before::Nothing);
        begin(&paths, &ours).unwrap();
        assert!(matches!(before(&paths, &ours), Before::Interrupted(_)));
        assert_eq!(before(&paths, &key("clone", "1", "m")), Before::Nothing);
        // By a run of its own that ends by itself; the cut of another stays.
        let cut = before(&paths, &ours);
        begin(&paths, &ours).unwrap();
        withdraw(&paths, &cut);
        assert_eq!(before(&paths, &ours), cut, "with its time");
        withdraw(&paths, &Before::Nothing);
        assert_eq!(before(&paths, &ours), Before::Nothing);
        finish(&paths, &ours).unwrap();
        assert_eq!(before(&paths, &ours), Before::Done);
        // One that began nothing leaves it, one that had to begin anew does not.
        withdraw(&paths, &Before::Done);
        assert_eq!(before(&paths, &ours), Before::Done);
        begin(&paths, &ours).unwrap();
        withdraw(&paths, &Before::Done);
        assert_eq!(before(&paths, &ours), Before::Nothing);
        finish(&paths, &ours).unwrap();
        for other in [key("j", "1", "m"), key("i", "2", "m"), key("i", "1", "n")] {
            assert_eq!(before(&paths, &other), Before::Nothing, "{other:?}");
        }
        std::fs::write(paths.state(DONE), "{").unwrap();
        assert_eq!(before(&paths, &ours), Before::Nothing);
    }

    #[test]
    fn a_damaged_mark_makes_a_run_that_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let ours = key("i", "1", "m");
        assert_eq!(
            testing::logged(|| assert_eq!(before(&paths, &ours), Before::Nothing)),
            ""
        );
        finish(&paths, &ours).unwrap();
        std::fs::write(paths.state(DONE), "{").unwrap();
        let said = testing::logged(|| assert_eq!(before(&paths, &ours), Before::Nothing));
        assert!(
            said.contains("/var/lib/sf-firstboot/done.json cannot be read, so"),
            "{said}"
        );
        // Beside a done mark, a begun one of any kind was cut short.
        for folder in [false, true] {
            finish(&paths, &ours).unwrap();
            let begun = paths.state(BEGUN);
            if folder {
                std::fs::create_dir(&begun).unwrap();
            } else {
                std::fs::write(&begun, [0; 40]).unwrap();
            }
            let mut found = Before::Nothing;
            let said = testing::logged(|| found = before(&paths, &ours));
            let Before::Interrupted(at) = &found else {
                panic!("{found:?}");
            };
            assert!(said.contains("begun.json cannot be read, so"), "{said}");
            assert!(at.ends_with('Z'), "{at}");
            begin(&paths, &ours).unwrap();
            assert_eq!(before(&paths, &ours), found, "made anew, with its time");
            finish(&paths, &ours).unwrap();
            assert_eq!(before(&paths, &ours), Before::Done);
        }
    }
}
