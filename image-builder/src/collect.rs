//! Takes what mkosi made.
//!
//! Owns: the names that a configuration implies, moving and hashing the files,
//! and the root hash of /usr. Refuses: globbing. An artefact that is missing, or
//! one that nobody asked for, is an error.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use fs_err as fs;
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _};
use serde::Serialize;

use crate::digest;

/// What can go wrong with what mkosi made.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Something is missing, or too much.
    #[error(
        "mkosi made something else than its configuration says{}{}",
        named("missing", missing),
        named("unexpected", unexpected)
    )]
    Mismatch {
        /// Names that are missing, `*` where a UUID stands.
        missing: Vec<String>,
        /// Names that nobody asked for.
        unexpected: Vec<String>,
    },
    /// A file could not be read, hashed or moved.
    #[error("could not take over what mkosi made")]
    Take(#[source] io::Error),
    /// The UKI is no PE file, or has no command line.
    #[error("could not read the command line in {}: {why}", path.display())]
    Uki {
        /// The UKI.
        path: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// The UKI does not say which /usr is the right one.
    #[error("{} carries no usrhash=: the image would not verify /usr", path.display())]
    NoRootHash {
        /// The UKI.
        path: PathBuf,
    },
    /// The UKI names another /usr than the one beside it.
    #[error("the UKI carries usrhash={carried}, but the partitions are those of {built}")]
    RootHash {
        /// In the UKI.
        carried: String,
        /// From the partitions' UUIDs.
        built: String,
    },
}

fn named(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("; {what}: {}", names.join(", "))
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The whole disk.
    Raw,
    /// The whole disk for another hypervisor (qcow2 and others).
    Disk,
    /// The unified kernel image.
    Uki,
    /// The EFI system partition.
    Esp,
    /// The /usr partition.
    Usr,
    /// The hash tree of /usr.
    UsrVerity,
    /// The initrd by itself.
    Initrd,
    /// The kernel by itself.
    Kernel,
    /// mkosi's list of packages (JSON).
    PackageList,
    /// Made on the way and of no use afterwards: not published.
    ByProduct,
}

/// A name that mkosi gives a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// Exactly this.
    Exact(String),
    /// This, a partition's UUID as 32 hex digits, this.
    WithUuid(String, String),
}

impl Name {
    /// The UUID in `name` (empty for an exact one) when it is this name.
    fn matches<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self {
            Self::Exact(exact) => (name == exact).then_some(""),
            Self::WithUuid(before, after) => {
                let uuid = name
                    .strip_prefix(before.as_str())?
                    .strip_suffix(after.as_str())?;
                (uuid.len() == 32 && uuid.bytes().all(|b| b.is_ascii_hexdigit())).then_some(uuid)
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Exact(exact) => exact.clone(),
            Self::WithUuid(before, after) => format!("{before}*{after}"),
        }
    }
}

/// A file that the configuration implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: Name,
}

impl Expect {
    /// An expected file with a fixed name.
    pub fn exact(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: Name::Exact(name.into()),
        }
    }

    /// An expected file with a partition's UUID in its name.
    pub fn uuid(kind: Kind, before: impl Into<String>, after: impl Into<String>) -> Self {
        Self {
            kind,
            name: Name::WithUuid(before.into(), after.into()),
        }
    }

    /// What a disk image of `Output=<stem>` comes with: the disk, the UKI, split
    /// partitions (`SplitName=%t.%U`), mkosi's package list, and the initrd of
    /// the sub-image of that name.
    pub fn disk(stem: &str) -> Vec<Self> {
        vec![
            Self::exact(Kind::Raw, format!("{stem}.raw")),
            Self::exact(Kind::Uki, format!("{stem}.efi")),
            Self::uuid(Kind::Usr, format!("{stem}.usr-x86-64."), ".raw"),
            Self::uuid(
                Kind::UsrVerity,
                format!("{stem}.usr-x86-64-verity."),
                ".raw",
            ),
            Self::exact(Kind::PackageList, format!("{stem}.manifest")),
            Self::exact(Kind::Initrd, "initrd.cpio.zst"),
            // The ESP is made anew on every node that updates; nobody needs it
            // by itself.
            Self::exact(Kind::ByProduct, format!("{stem}.esp.raw")),
        ]
    }
}

/// A file that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artefact {
    /// What it is.
    pub kind: Kind,
    /// Its name in the output folder.
    pub name: String,
    /// Bytes, holes included.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// The partition's UUID in its name: 32 hex digits, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

/// Moves what is `expected` from the folder `from` into the folder `to` (on the
/// same file system) and hashes it. By-products stay. Returns the artefacts in
/// the order of `expected`.
pub fn collect(from: &Path, to: &Path, expected: &[Expect]) -> Result<Vec<Artefact>, CollectError> {
    let found = matched(&names_in(from).map_err(CollectError::Take)?, expected)?;
    // The files are gigabytes, mostly holes, and each is hashed from its first
    // byte: a thread for each of the few.
    let taken: Vec<io::Result<Artefact>> = thread::scope(|scope| {
        let threads: Vec<_> = found
            .into_iter()
            .filter(|(kind, ..)| *kind != Kind::ByProduct)
            .map(|(kind, name, uuid)| {
                scope.spawn(move || {
                    let target = to.join(&name);
                    fs::rename(from.join(&name), &target)?;
                    let size = fs::metadata(&target)?.len();
                    let sha256 = digest::of_file(&target)?;
                    let uuid = (!uuid.is_empty()).then_some(uuid);
                    Ok(Artefact {
                        kind,
                        name,
                        size,
                        sha256,
                        uuid,
                    })
                })
            })
            .collect();
        let panicked = |_| Err(io::Error::other("hashing panicked"));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    });
    taken
        .into_iter()
        .collect::<io::Result<_>>()
        .map_err(CollectError::Take)
}

/// Names of files in a folder. Links are mkosi's shorthands for files that are
/// there by their full name.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_symlink() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn matched(
    names: &[String],
    expected: &[Expect],
) -> Result<Vec<(Kind, String, String)>, CollectError> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for expect in expected {
        let hits: Vec<_> = names
            .iter()
            .filter_map(|n| Some((n, expect.name.matches(n)?)))
            .collect();
        // Two partitions with different UUIDs mean that the folder was not empty:
        // neither is known to be the right one, and both are unexpected.
        match hits.as_slice() {
            [(name, uuid)] => found.push((expect.kind, (*name).clone(), (*uuid).to_owned())),
            [] if expect.kind == Kind::ByProduct => {}
            [] => missing.push(expect.name.shown()),
            _ => {}
        }
    }
    let known = |name: &String| found.iter().any(|(_, other, _)| other == name);
    let unexpected: Vec<_> = names.iter().filter(|name| !known(name)).cloned().collect();
    if missing.is_empty() && unexpected.is_empty() {
        Ok(found)
    } else {
        Err(CollectError::Mismatch {
            missing,
            unexpected,
        })
    }
}

/// The kernel command line that a UKI carries.
pub fn uki_cmdline(path: &Path) -> Result<String, CollectError> {
    let bytes = fs::read(path).map_err(CollectError::Take)?;
    let bad = |why: String| CollectError::Uki {
        path: path.to_owned(),
        why,
    };
    let pe = PeFile64::parse(&*bytes).map_err(|error| bad(error.to_string()))?;
    let section = pe
        .section_by_name(".cmdline")
        .ok_or_else(|| bad("it has none".into()))?;
    let data = section.data().map_err(|error| bad(error.to_string()))?;
    let text = String::from_utf8_lossy(data);
    Ok(text.trim_end_matches(['\0', '\n']).trim().to_owned())
}

/// The root hash of /usr that a UKI's command line carries.
pub fn usr_hash_in(cmdline: &str) -> Option<&str> {
    cmdline
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("usrhash="))
        .next_back()
}

/// The verity root hash of /usr, as the UKI in `folder` carries it. The UUIDs of
/// the two partitions are its halves (the discoverable partitions
/// specification), so a UKI that belongs to another /usr is noticed.
pub fn usr_root_hash(folder: &Path, artefacts: &[Artefact]) -> Result<String, CollectError> {
    let of = |kind| artefacts.iter().find(|artefact| artefact.kind == kind);
    let uki = of(Kind::Uki).map_or_else(PathBuf::new, |uki| folder.join(&uki.name));
    let cmdline = uki_cmdline(&uki)?;
    let carried = usr_hash_in(&cmdline)
        .ok_or(CollectError::NoRootHash { path: uki })?
        .to_owned();
    let uuid = |kind| of(kind).and_then(|artefact| artefact.uuid.as_deref());
    if let (Some(usr), Some(verity)) = (uuid(Kind::Usr), uuid(Kind::UsrVerity)) {
        let built = format!("{usr}{verity}");
        if carried != built {
            return Err(CollectError::RootHash { carried, built });
        }
    }
    Ok(carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USR: &str = "d913c12902088e079c8998c9dccf598c";
    const VERITY: &str = "e028afec0a41c1fd02ed300793c0d11d";

    fn names() -> Vec<String> {
        let mut names = vec![
            "sf-x_1.raw".to_owned(),
            "sf-x_1.efi".to_owned(),
            format!("sf-x_1.usr-x86-64.{USR}.raw"),
            format!("sf-x_1.usr-x86-64-verity.{VERITY}.raw"),
            "sf-x_1.manifest".to_owned(),
            "initrd.cpio.zst".to_owned(),
        ];
        names.sort();
        names
    }

    #[test]
    fn takes_exactly_what_the_configuration_implies() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).expect("mkdir");
        fs::create_dir(&to).expect("mkdir");
        for name in names() {
            fs::write(from.join(&name), &name).expect("write");
        }
        fs::write(from.join("sf-x_1.esp.raw"), "").expect("write");
        fs_err::os::unix::fs::symlink("initrd.cpio.zst", from.join("initrd")).expect("link");
        let mut expected = Expect::disk("sf-x_1");
        expected.push(Expect::exact(Kind::ByProduct, "not made this time"));
        let artefacts = collect(&from, &to, &expected).expect("collect");
        let kinds: Vec<_> = artefacts.iter().map(|a| a.kind).collect();
        let all = [
            Kind::Raw,
            Kind::Uki,
            Kind::Usr,
            Kind::UsrVerity,
            Kind::PackageList,
            Kind::Initrd,
        ];
        assert_eq!(kinds, all);
        assert_eq!(artefacts[2].uuid.as_deref(), Some(USR));
        assert_eq!(artefacts[0].sha256, digest::of_bytes(b"sf-x_1.raw"));
        assert!(to.join("sf-x_1.raw").exists() && !to.join("sf-x_1.esp.raw").exists());
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let mut names = names();
        names.retain(|name| name != "sf-x_1.efi");
        names.push("sf-x_1.vmlinuz".to_owned());
        names.push(format!("sf-x_1.usr-x86-64.{VERITY}.raw"));
        let error = matched(&names, &Expect::disk("sf-x_1"))
            .expect_err("mismatch")
            .to_string();
        assert!(
            error.contains("missing: sf-x_1.efi; unexpected: "),
            "{error}"
        );
        for name in ["sf-x_1.vmlinuz", USR, VERITY] {
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn finds_the_root_hash_on_the_command_line() {
        assert_eq!(usr_hash_in("console=ttyS0 usrhash=ab rw"), Some("ab"));
        assert_eq!(usr_hash_in("usrhash=ab usrhash=cd"), Some("cd"));
        assert_eq!(usr_hash_in("roothash=ab"), None);
    }

    #[test]
    fn a_uki_that_is_none_says_so() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.efi");
        fs::write(&path, "no PE file").expect("write");
        let error = uki_cmdline(&path).expect_err("no PE").to_string();
        assert!(error.contains("x.efi"), "{error}");
    }
}
