//! The credentials that this process can read. systemd gives each service a
//! folder of them, all in the clear. A command by hand has none: it reads those
//! that systemd keeps for its services, of which the ones that came by the ESP
//! are still sealed, and has systemd-creds open them, in memory alone.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sf_command::Tool;

use super::files;
use super::read::{self, Files, Text};
use crate::codes;
use crate::failure::Failure;
use crate::paths::Paths;

/// Of systemd, for all services: in the clear, and as they were in the ESP.
const SYSTEM: &str = "/run/credentials/@system";
const SEALED: &str = "/run/credentials/@encrypted";
/// Those of the agent's unit, which are there while it runs.
const UNIT: &str = "/run/credentials/sf-firstboot.service";

/// A TPM can take seconds.
const OPENING: Duration = Duration::from_mins(1);

/// Where credentials are read.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
    sealed: Option<Sealed>,
}

#[derive(Clone, Debug)]
struct Sealed {
    folder: PathBuf,
    paths: Paths,
}

impl Store {
    /// Those in this folder.
    pub(super) fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            sealed: None,
        }
    }

    /// Those that a command by hand can read, if there are any.
    pub(super) fn by_hand(paths: &Paths) -> Option<Self> {
        let there = |folder: &str| {
            let folder = paths.at(folder);
            folder.read_dir().is_ok().then_some(folder)
        };
        if let Some(folder) = there(UNIT) {
            return Some(Self::in_folder(folder));
        }
        let sealed = there(SEALED).map(|folder| Sealed {
            folder,
            paths: paths.clone(),
        });
        match (there(SYSTEM), sealed) {
            (None, None) => None,
            (system, sealed) => Some(Self {
                folder: system.unwrap_or_else(|| paths.at(SYSTEM)),
                sealed,
            }),
        }
    }

    /// The folder of those that are in the clear.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all; where there is no folder there are none.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = BTreeSet::new();
        let sealed = self.sealed.iter().map(|sealed| &sealed.folder);
        for folder in sealed.chain([&self.folder]) {
            match files::names(folder) {
                Ok(found) => {
                    names.extend(found.into_iter().filter_map(|name| name.into_string().ok()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names.into_iter().collect())
    }

    /// The text of one; `Ok(None)` when there is no such credential. `shown` is
    /// its name for people. Where it came by several ways, the one in the clear
    /// counts, as for systemd itself.
    pub(super) fn text(&self, name: &str, shown: &str) -> Result<Option<Text>, Box<Failure>> {
        let clear = read::text(&self.folder.join(name), shown, Files::Regular)?;
        let Some(sealed) = &self.sealed else {
            return Ok(clear);
        };
        let path = sealed.folder.join(name);
        if clear.is_some() || !path.exists() {
            return Ok(clear);
        }
        match sealed.open(name) {
            Ok(bytes) => read::as_text(bytes, shown).map(Some),
            Err(failure) => Err(Box::new(
                Failure::new(
                    &codes::CREDENTIAL_CLOSED,
                    format!("{shown} cannot be opened"),
                )
                .source(shown)
                .cause(&failure),
            )),
        }
    }
}

impl Sealed {
    fn open(&self, name: &str) -> Result<Vec<u8>, sf_command::Failure> {
        self.paths
            .tool(Tool::SystemdCreds)
            .args(["decrypt", &format!("--name={name}")])
            .arg(self.folder.join(name))
            .arg("-")
            .timeout(OPENING)
            .run()
            .map(|output| output.stdout)
    }
}

/// The credentials of this machine that cannot be opened, with the reasons.
pub fn closed_credentials(paths: &Paths) -> Vec<(String, sf_command::Failure)> {
    // A unit's commands do not see the folder, however privileged they are:
    // systemd hides it by their mount namespace. PID 1 has another.
    let seen_by_pid_1 = paths.at(&format!("/proc/1/root{SEALED}"));
    let sealed = Sealed {
        folder: if seen_by_pid_1.exists() {
            seen_by_pid_1
        } else {
            paths.at(SEALED)
        },
        paths: paths.clone(),
    };
    let names = files::names(&sealed.folder).unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter_map(|name| sealed.open(&name).err().map(|failure| (name, failure)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn node() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        (dir, paths)
    }

    fn put(paths: &Paths, folder: &str, name: &str, text: &str) {
        let folder = paths.at(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    fn read(store: &Store, name: &str) -> Option<String> {
        let text = store.text(name, "credential x").unwrap();
        text.map(|text| text.text.expose().to_owned())
    }

    #[test]
    fn by_hand_those_of_the_esp_are_opened_and_those_in_the_clear_win() {
        let (_dir, paths) = node();
        assert!(Store::by_hand(&paths).is_none());
        put(&paths, SEALED, "sf.metadata", "sealed");
        put(&paths, SEALED, "sf.other", "sealed");
        put(&paths, SEALED, "sf.broken", "sealed");
        testing::executable(
            &paths.at("/usr/bin/systemd-creds"),
            "#!/bin/sh\n[ \"$2\" = --name=sf.broken ] && { echo wrong key >&2; exit 1; }\n\
             echo \"$1 $2 $(/bin/cat \"$3\") $4\"\n",
        );
        // The ESP alone.
        let store = Store::by_hand(&paths).unwrap();
        assert_eq!(
            read(&store, "sf.metadata").unwrap(),
            "decrypt --name=sf.metadata sealed -\n"
        );
        put(&paths, SYSTEM, "sf.other", "clear");
        put(&paths, SYSTEM, "key", "clear");
        let store = Store::by_hand(&paths).unwrap();
        assert_eq!(
            store.names().unwrap(),
            ["key", "sf.broken", "sf.metadata", "sf.other"]
        );
        assert_eq!(read(&store, "sf.other").unwrap(), "clear");
        assert_eq!(read(&store, "absent"), None);
        let Err(failure) = store.text("sf.broken", "credential sf.broken") else {
            panic!("opened")
        };
        assert_eq!(failure.what, "credential sf.broken cannot be opened");
        assert!(failure.causes[0].contains("wrong key"), "{failure:?}");

        // While the agent runs, what it has counts.
        put(&paths, UNIT, "sf.metadata", "the unit's");
        let store = Store::by_hand(&paths).unwrap();
        assert_eq!(read(&store, "sf.metadata").unwrap(), "the unit's");
        assert_eq!(store.names().unwrap(), ["sf.metadata"]);
    }
}
