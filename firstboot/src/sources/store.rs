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
use super::read::{self, Bytes, Files, Text};
use crate::codes;
use crate::failure::Failure;
use crate::paths::Paths;

/// Where `ImportCredential=` looks, in its order: what systemd was given from
/// outside, then the stores of this machine.
const CLEAR: [&str; 5] = [
    "/run/credentials/@system",
    "/etc/credstore",
    "/run/credstore",
    "/usr/local/lib/credstore",
    "/usr/lib/credstore",
];
/// The same for sealed ones, which it opens. What came from outside is from the ESP.
const SEALED: [&str; 5] = [
    "/run/credentials/@encrypted",
    "/etc/credstore.encrypted",
    "/run/credstore.encrypted",
    "/usr/local/lib/credstore.encrypted",
    "/usr/lib/credstore.encrypted",
];
/// Those of the agent's unit, which are there while it runs.
const UNIT: &str = "/run/credentials/sf-firstboot.service";

/// A TPM can take seconds.
const OPENING: Duration = Duration::from_mins(1);

/// Where credentials are read.
#[derive(Clone, Debug)]
pub(super) struct Store {
    /// The one that is named to people.
    folder: PathBuf,
    /// Others in the clear, which it hides.
    further: Vec<PathBuf>,
    sealed: Option<Sealed>,
}

#[derive(Clone, Debug)]
struct Sealed {
    folders: Vec<PathBuf>,
    paths: Paths,
}

impl Store {
    /// Those in this folder.
    pub(super) fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            further: Vec::new(),
            sealed: None,
        }
    }

    /// Those that a command by hand can read, if there are any.
    pub(super) fn by_hand(paths: &Paths) -> Option<Self> {
        let unit = paths.at(UNIT);
        if unit.read_dir().is_ok() {
            return Some(Self::in_folder(unit));
        }
        // Most machines have stores, and nothing in them.
        let filled = |folders: &[&str]| -> Vec<PathBuf> {
            let folders = folders.iter().map(|folder| paths.at(folder));
            folders
                .filter(|folder| {
                    folder
                        .read_dir()
                        .is_ok_and(|mut names| names.next().is_some())
                })
                .collect()
        };
        let (clear, sealed) = (filled(&CLEAR), filled(&SEALED));
        let outside = [CLEAR[0], SEALED[0]]
            .iter()
            .any(|folder| paths.at(folder).read_dir().is_ok());
        if clear.is_empty() && sealed.is_empty() && !outside {
            return None;
        }
        let mut clear = clear.into_iter();
        Some(Self {
            folder: clear.next().unwrap_or_else(|| paths.at(CLEAR[0])),
            further: clear.collect(),
            sealed: (!sealed.is_empty()).then(|| Sealed {
                folders: sealed,
                paths: paths.clone(),
            }),
        })
    }

    /// The folder of those that are in the clear.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn clear(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.folder).chain(&self.further)
    }

    /// The file of one that is in the clear, or where it would be.
    fn file(&self, name: &str) -> PathBuf {
        let mut files = self.clear().map(|folder| folder.join(name));
        files
            .find(|file| file.exists())
            .unwrap_or_else(|| self.folder.join(name))
    }

    /// Names of all; where there is no folder there are none.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = BTreeSet::new();
        let sealed = self.sealed.iter().flat_map(|sealed| &sealed.folders);
        for folder in sealed.chain(self.clear()) {
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
        let file = self.file(name);
        let at = file.display().to_string();
        if let Some(clear) = read::named(&file, shown, &at, Files::Regular)? {
            return Ok(Some(clear));
        }
        let Some((sealed, folder)) = self.sealed(name) else {
            return Ok(None);
        };
        match sealed.open(folder, name) {
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

    /// The bytes of one that is no text.
    pub(super) fn bytes(&self, name: &str) -> Option<Bytes> {
        let clear = self.file(name);
        if clear.exists() {
            return read::bytes(&clear);
        }
        let (sealed, folder) = self.sealed(name)?;
        sealed.open(folder, name).ok().map(Bytes::new)
    }

    /// Where one is that has to be opened.
    fn sealed(&self, name: &str) -> Option<(&Sealed, &Path)> {
        let sealed = self.sealed.as_ref()?;
        let mut folders = sealed.folders.iter();
        let folder = folders.find(|folder| folder.join(name).exists())?;
        Some((sealed, folder))
    }
}

impl Sealed {
    fn open(&self, folder: &Path, name: &str) -> Result<Vec<u8>, sf_command::Failure> {
        self.paths
            .tool(Tool::SystemdCreds)
            .args(["decrypt", &format!("--name={name}")])
            .arg(folder.join(name))
            .arg("-")
            .timeout(OPENING)
            .run()
            .map(|output| output.stdout)
    }
}

/// A credential of this machine that cannot be opened.
#[derive(Debug)]
pub struct Closed {
    /// Its name.
    pub name: String,
    /// The store that it is in; `None`: it came by the ESP.
    pub store: Option<&'static str>,
    /// Why.
    pub cause: sf_command::Failure,
}

/// The credentials of this machine that cannot be opened.
pub fn closed_credentials(paths: &Paths) -> Vec<Closed> {
    let mut closed = Vec::new();
    for (index, store) in SEALED.into_iter().enumerate() {
        // A unit's commands do not see systemd's own folder, however privileged
        // they are: it is hidden by their mount namespace. PID 1 has another.
        let seen_by_pid_1 = paths.at(&format!("/proc/1/root{store}"));
        let folder = if index == 0 && seen_by_pid_1.exists() {
            seen_by_pid_1
        } else {
            paths.at(store)
        };
        let names = files::names(&folder).unwrap_or_default();
        let sealed = Sealed {
            folders: Vec::new(),
            paths: paths.clone(),
        };
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        closed.extend(names.filter_map(|name| {
            Some(Closed {
                cause: sealed.open(&folder, &name).err()?,
                name,
                store: (index > 0).then_some(store),
            })
        }));
    }
    closed
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
        put(&paths, SEALED[0], "sf.metadata", "sealed");
        put(&paths, SEALED[0], "sf.other", "sealed");
        put(&paths, SEALED[0], "sf.broken", "sealed");
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
        put(&paths, CLEAR[0], "sf.other", "clear");
        put(&paths, CLEAR[0], "key", "clear");
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

        // The stores of the machine come after what was given from outside.
        put(&paths, "/etc/credstore.encrypted", "sf.kept", "kept");
        put(&paths, "/etc/credstore", "key", "hidden");
        put(&paths, "/etc/credstore", "sf.broken", "stored");
        let store = Store::by_hand(&paths).unwrap();
        assert_eq!(
            store.names().unwrap(),
            ["key", "sf.broken", "sf.kept", "sf.metadata", "sf.other"]
        );
        assert_eq!(read(&store, "key").unwrap(), "clear");
        assert_eq!(read(&store, "sf.broken").unwrap(), "stored");
        assert_eq!(
            read(&store, "sf.kept").unwrap(),
            "decrypt --name=sf.kept kept -\n"
        );

        // While the agent runs, what it has counts.
        put(&paths, UNIT, "sf.metadata", "the unit's");
        let store = Store::by_hand(&paths).unwrap();
        assert_eq!(read(&store, "sf.metadata").unwrap(), "the unit's");
        assert_eq!(store.names().unwrap(), ["sf.metadata"]);
    }
}
