//! Which files earlier runs wrote, so that those that are no longer wanted go:
//! the certificate of a role that the node has left, a key that the metadata no
//! longer gives. What the agent has not written it never removes.

use std::collections::BTreeSet;

use crate::codes;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::read;
use crate::state::unwritable;
use crate::write::{self, Access};

/// In the state folder: a JSON list of paths.
pub const FILE: &str = "files.json";

/// The files of a run, beside those of the runs before.
#[derive(Debug)]
pub struct Ledger {
    before: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl Ledger {
    /// Notes the files that are about to be written. A run that is cut short
    /// leaves a ledger that has the old ones and the new ones.
    pub fn open(paths: &Paths, now: impl IntoIterator<Item = String>) -> Result<Self, Failure> {
        let before = read(paths).unwrap_or_else(|error| {
            tracing::warn!(
                cause = %error,
                "{} cannot be read: files of earlier runs that are no longer wanted stay",
                paths.shown(&paths.state(FILE))
            );
            BTreeSet::new()
        });
        let now: BTreeSet<String> = now.into_iter().collect();
        keep(paths, &before.union(&now).cloned().collect())?;
        Ok(Self { before, now })
    }

    /// Removes what earlier runs wrote and this one did not.
    pub fn close(self, paths: &Paths) -> Result<(), Failure> {
        for file in self.before.difference(&self.now) {
            if file.starts_with("/etc/")
                && write::remove(&paths.at(file)).map_err(|e| unwritable(&e))?
            {
                tracing::info!(file, "removed: no longer wanted");
            }
        }
        keep(paths, &self.now)
    }
}

/// One that cannot be read counts as none: nothing is removed by guess.
fn read(paths: &Paths) -> std::io::Result<BTreeSet<String>> {
    match read::text(&paths.state(FILE)) {
        Ok(text) => Ok(serde_json::from_str(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn keep(paths: &Paths, files: &BTreeSet<String>) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(files).map_err(|error| {
        Failure::new(&codes::INTERNAL, "the list of files could not be written").cause(&error)
    })?;
    write::atomically(&paths.state(FILE), &text, Access::PRIVATE)
        .map(drop)
        .map_err(|error| unwritable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_agent_wrote_and_wants_no_more_goes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        for name in ["config", "old.pem", "theirs.pem"] {
            std::fs::create_dir_all(paths.at("/etc/sf")).unwrap();
            std::fs::write(paths.at("/etc/sf").join(name), "x").unwrap();
        }
        let files = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("/etc/sf/{name}")).collect()
        };
        let there = || {
            let mut names: Vec<String> = std::fs::read_dir(paths.at("/etc/sf"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let first = Ledger::open(&paths, files(&["config", "old.pem"])).unwrap();
        first.close(&paths).unwrap();
        assert_eq!(there(), ["config", "old.pem", "theirs.pem"]);
        // Cut short: nothing has gone, and nothing is forgotten.
        drop(Ledger::open(&paths, files(&["config", "new.pem"])).unwrap());
        assert_eq!(there(), ["config", "old.pem", "theirs.pem"]);
        std::fs::write(paths.at("/etc/sf/new.pem"), "x").unwrap();
        let last = Ledger::open(&paths, files(&["config"])).unwrap();
        last.close(&paths).unwrap();
        assert_eq!(there(), ["config", "theirs.pem"]);
        // A damaged ledger removes nothing.
        std::fs::write(paths.state(FILE), "[").unwrap();
        Ledger::open(&paths, files(&[]))
            .unwrap()
            .close(&paths)
            .unwrap();
        assert_eq!(there(), ["config", "theirs.pem"]);
    }
}
