//! What was fetched is kept once a whole run has found it good, so that a dead
//! metadata server never breaks a reboot. A copy belongs to one source and one
//! instance: a clone of the disk never uses it.

use std::io;
use std::path::PathBuf;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use sf_contract::secret::Secret;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Places;
use crate::failure::Failure;
use crate::identity;
use crate::paths::Paths;
use crate::read;
use crate::state::unwritable;
use crate::write::{self, Access};

/// Folder of the copies, under the agent's state folder.
const FOLDER: &str = "metadata";

/// What one source said.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// Source and URL, hashed, since a URL can hold a token.
    key: String,
    /// The document as it came; `None` when the source said that it has none,
    /// which a dead server must not turn into a doubt either.
    pub(super) text: Option<Secret>,
    /// The cloud's name for the instance, where it gives one.
    pub(super) instance: Option<String>,
    /// When the source last said so, RFC 3339.
    pub(super) fetched_at: String,
}

/// A copy on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    schema: u32,
    key: String,
    /// [`identity::instance_id`] of the machine that fetched it.
    machine: String,
    instance: Option<String>,
    fetched_at: String,
    text: Option<Zeroizing<String>>,
}

impl Copy {
    pub(super) fn new(source: &str, text: Option<Secret>, instance: Option<String>) -> Self {
        Self {
            key: key(source),
            text,
            instance,
            fetched_at: crate::clock::now(),
        }
    }

    fn file(&self) -> String {
        file(&self.key)
    }
}

fn key(source: &str) -> String {
    hex::encode(Sha256::digest(source))
}

fn file(key: &str) -> String {
    format!("{}.json", &key[..16.min(key.len())])
}

fn folder(paths: &Paths) -> PathBuf {
    paths.state(FOLDER)
}

/// The copy of what this machine fetched from `source`, if there is one.
/// One that cannot be read counts as none: it is fetched again.
pub(super) fn load(places: &Places, source: &str) -> Option<Copy> {
    let paths = Paths::under(&places.root);
    let key = key(source);
    let path = folder(&paths).join(file(&key));
    let bytes = match read::bytes(&path, read::LIMIT) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(cause = %error, "a kept copy of metadata cannot be read");
            return None;
        }
    };
    // The error's text could quote a secret.
    let Ok(stored) = serde_json::from_slice::<Stored>(&bytes) else {
        tracing::warn!(path = %path.display(), "a kept copy of metadata is damaged, and is not used");
        return None;
    };
    if stored.machine != identity::instance_id(&paths) {
        tracing::warn!(
            path = %path.display(),
            "a kept copy of metadata is another machine's (this disk is a clone), and is not used"
        );
        return None;
    }
    (stored.schema == 1 && stored.key == key).then(|| Copy {
        key,
        text: stored.text.map(|text| Secret::new(text.as_str())),
        instance: stored.instance,
        fetched_at: stored.fetched_at,
    })
}

/// Makes the kept copies be exactly these.
pub(super) fn keep(paths: &Paths, copies: &[Copy]) -> Result<(), Failure> {
    let machine = identity::instance_id(paths);
    for copy in copies {
        let stored = Stored {
            schema: 1,
            key: copy.key.clone(),
            machine: machine.clone(),
            instance: copy.instance.clone(),
            fetched_at: copy.fetched_at.clone(),
            text: copy
                .text
                .as_ref()
                .map(|text| Zeroizing::new(text.expose().to_owned())),
        };
        let path = folder(paths).join(copy.file());
        let json = serde_json::to_vec(&stored).map_err(|error| {
            Failure::new(
                &crate::codes::INTERNAL,
                "a copy of metadata could not be written as JSON",
            )
            .cause(&error)
        })?;
        write::atomically(&path, &Zeroizing::new(json), Access::PRIVATE)
            .map_err(|error| unwritable(&error))?;
    }
    // What is kept is there. A copy that stays is told of, and is used by nobody
    // who does not ask its source.
    if let Err(error) = forget(paths, copies) {
        tracing::warn!(
            cause = %error,
            "what is no longer wanted of the kept copies of metadata could not be removed; \
             look at it: ls -la {}",
            paths.shown(&folder(paths))
        );
    }
    Ok(())
}

/// Removes all but these. A folder among them is none of ours.
fn forget(paths: &Paths, copies: &[Copy]) -> io::Result<()> {
    let entries = match fs::read_dir(folder(paths)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut first = Ok(());
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if !copies.iter().any(|copy| name == copy.file().as_str()) {
            let removed = write::remove(&entry.path()).map(drop);
            first = first.and(removed);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_is_in_the_way_of_copies_is_told_and_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let at = |name: &str| folder(&paths).join(name);
        std::fs::create_dir_all(at("stray/x")).unwrap();
        std::fs::write(at("old.json"), "{}").unwrap();
        std::fs::write(at("zz.json"), "{}").unwrap();
        let said = testing::logged(|| keep(&paths, &[]).unwrap());
        assert!(
            said.contains("look at it: ls -la /var/lib/sf-firstboot/metadata"),
            "{said}"
        );
        // What can go is gone all the same.
        assert!(at("stray/x").exists() && !at("old.json").exists() && !at("zz.json").exists());
        std::fs::remove_dir_all(folder(&paths)).unwrap();
        std::fs::write(folder(&paths), "").unwrap();
        let said = testing::logged(|| keep(&paths, &[]).unwrap());
        assert!(said.contains("WARN"), "{said}");
        std::fs::remove_file(folder(&paths)).unwrap();
        assert_eq!(testing::logged(|| keep(&paths, &[]).unwrap()), "");
    }
}
