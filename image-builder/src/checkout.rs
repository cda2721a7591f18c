//! The folder that profiles, releases and mkosi's static files stand in.
//!
//! Owns: finding it, and reading all of it into memory once, so that everything
//! after that is a pure function. Refuses: a folder that is not one.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use sf_contract::document::did_you_mean;

use crate::tree::Tree;

/// Where an installed builder has its data.
const INSTALLED: &str = "/usr/share/sf-image";

/// What mkosi reads and every image shares; copied into each rendered folder.
const STATIC: [&str; 5] = [
    "mkosi.conf.d",
    "mkosi.extra",
    "mkosi.repart",
    "mkosi.images",
    "mkosi.finalize",
];

/// Why there is no checkout to work with.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// No folder upward has what a checkout has.
    #[error("{} is not in a checkout of sf-image: neither it nor a folder above has profiles/ and mkosi.conf.d/", start.display())]
    NotFound {
        /// Where the search began.
        start: PathBuf,
    },
    /// The folder of `--root` is none.
    #[error("{} is no checkout of sf-image: it has no {missing}/", root.display())]
    NotOne {
        /// The folder.
        root: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// Something in it could not be read.
    #[error("could not read the checkout")]
    Read(#[from] io::Error),
    /// There is no such profile.
    #[error("there is no profile \"{name}\"")]
    NoProfile {
        /// The name asked for.
        name: String,
        /// What there is.
        hint: String,
    },
    /// There is no such release.
    #[error("there is no release \"{name}\"")]
    NoRelease {
        /// The name asked for.
        name: String,
        /// What there is.
        hint: String,
    },
}

impl CheckoutError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } | Self::NotOne { .. } => {
                Some("go there, or name the folder with --root DIR".into())
            }
            Self::NoProfile { hint, .. } | Self::NoRelease { hint, .. } => Some(hint.clone()),
            Self::Read(_) => None,
        }
    }
}

/// A text and how problems name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Path below the checkout.
    pub source: String,
    /// Content.
    pub text: String,
}

/// One folder under `releases/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseFolder {
    /// `release.toml`.
    pub descriptor: Text,
    /// Everything below the folder, the descriptor included.
    pub files: Tree,
}

/// A checkout in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// Where it stands.
    pub root: PathBuf,
    /// `profiles/*.toml` by name.
    pub profiles: BTreeMap<String, Text>,
    /// Other files below `profiles/`, by their path there.
    pub profile_files: BTreeMap<String, Vec<u8>>,
    /// `releases/*` by name.
    pub releases: BTreeMap<String, ReleaseFolder>,
    /// mkosi's static files, by their path below the checkout.
    pub statics: Tree,
}

/// The root: `given`, or the nearest folder upward from `start` that looks like
/// one, or the installed data.
pub fn find(given: Option<&Path>, start: &Path) -> Result<PathBuf, CheckoutError> {
    let looks = |folder: &Path| {
        ["profiles", "mkosi.conf.d"]
            .into_iter()
            .find(|name| !folder.join(name).is_dir())
    };
    if let Some(root) = given {
        return match looks(root) {
            None => Ok(root.to_owned()),
            Some(missing) => Err(CheckoutError::NotOne {
                root: root.to_owned(),
                missing,
            }),
        };
    }
    start
        .ancestors()
        .chain([Path::new(INSTALLED)])
        .find(|folder| looks(folder).is_none())
        .map(Path::to_owned)
        .ok_or_else(|| CheckoutError::NotFound {
            start: start.to_owned(),
        })
}

impl Checkout {
    /// Finds and reads one: that of `--root`, or the one around the current
    /// folder.
    pub fn open(given: Option<&Path>) -> Result<Self, CheckoutError> {
        let start = env::current_dir()?;
        let root = find(given, &start)?;
        Self::load(&start.join(root))
    }

    /// Reads the one at `root`.
    pub fn load(root: &Path) -> Result<Self, CheckoutError> {
        let mut profiles = BTreeMap::new();
        let mut profile_files = BTreeMap::new();
        for (path, node) in Tree::read(&root.join("profiles"), "")?.iter() {
            let crate::tree::Node::File { content, .. } = node else {
                continue;
            };
            match path
                .strip_suffix(".toml")
                .filter(|name| !name.contains('/'))
            {
                Some(name) => {
                    let text = utf8(&root.join("profiles").join(path), content)?;
                    let source = format!("profiles/{path}");
                    profiles.insert(name.to_owned(), Text { source, text });
                }
                None => drop(profile_files.insert(path.to_owned(), content.clone())),
            }
        }
        let mut statics = Tree::default();
        for name in STATIC {
            for (path, node) in Tree::read(&root.join(name), name)?.iter() {
                statics.insert(path, node.clone());
            }
        }
        let root = root.to_owned();
        let releases = releases(&root.join("releases"))?;
        Ok(Self {
            root,
            profiles,
            profile_files,
            releases,
            statics,
        })
    }

    /// The text behind a problem's source.
    pub fn text(&self, source: &str) -> Option<&str> {
        self.profiles
            .values()
            .chain(self.releases.values().map(|release| &release.descriptor))
            .find(|text| text.source == source)
            .map(|text| text.text.as_str())
    }

    /// The error that there is no profile of that name, when there is none.
    pub fn require_profile(&self, name: &str) -> Result<(), CheckoutError> {
        if self.profiles.contains_key(name) {
            return Ok(());
        }
        let hint = hint(name, "profiles", self.profiles.keys());
        Err(CheckoutError::NoProfile {
            name: name.to_owned(),
            hint,
        })
    }

    /// The folder of a release.
    pub fn require_release(&self, name: &str) -> Result<&ReleaseFolder, CheckoutError> {
        self.releases
            .get(name)
            .ok_or_else(|| CheckoutError::NoRelease {
                name: name.to_owned(),
                hint: hint(name, "releases", self.releases.keys()),
            })
    }
}

fn hint<'n>(name: &str, what: &str, all: impl Iterator<Item = &'n String>) -> String {
    let all: Vec<&str> = all.map(String::as_str).collect();
    let list = format!("{what} here: {}", all.join(", "));
    match did_you_mean(name, all.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"? ({list})"),
        None => list,
    }
}

fn releases(folder: &Path) -> io::Result<BTreeMap<String, ReleaseFolder>> {
    let mut releases = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(releases);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.join("release.toml");
        if !file.is_file() {
            continue;
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = utf8(&file, &fs::read(&file)?)?;
        let descriptor = Text {
            source: format!("releases/{name}/release.toml"),
            text,
        };
        releases.insert(
            name,
            ReleaseFolder {
                descriptor,
                files: Tree::read(&path, "")?,
            },
        );
    }
    Ok(releases)
}

fn utf8(path: &Path, content: &[u8]) -> io::Result<String> {
    String::from_utf8(content.to_owned())
        .map_err(|_| io::Error::other(format!("{}: not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(dir: &Path) {
        for (path, text) in [
            ("profiles/base.toml", "schema = 1\n"),
            ("profiles/files/x.conf", "x\n"),
            ("releases/0.7/release.toml", "schema = 1\n"),
            ("releases/0.7/extra/usr/lib/y", "y\n"),
            ("releases/notes.md", "no folder\n"),
            ("mkosi.conf.d/10.conf", "[Content]\n"),
            ("mkosi.finalize", "#!/bin/sh\n"),
            ("unrelated", ""),
        ] {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        }
    }

    #[test]
    fn reads_everything_that_counts() {
        let dir = tempfile::tempdir().expect("tempdir");
        sample(dir.path());
        let checkout = Checkout::load(dir.path()).expect("load");
        assert_eq!(checkout.profiles["base"].source, "profiles/base.toml");
        assert_eq!(checkout.profile_files["files/x.conf"], b"x\n");
        let paths: Vec<_> = checkout.releases["0.7"].files.paths().collect();
        assert_eq!(paths, ["extra/usr/lib/y", "release.toml"]);
        let statics: Vec<_> = checkout.statics.paths().collect();
        assert_eq!(statics, ["mkosi.conf.d/10.conf", "mkosi.finalize"]);
        assert_eq!(checkout.text("profiles/base.toml"), Some("schema = 1\n"));
        assert_eq!(checkout.text("profiles/other.toml"), None);
    }

    #[test]
    fn is_found_from_below_and_refused_elsewhere() {
        let dir = tempfile::tempdir().expect("tempdir");
        sample(dir.path());
        let below = dir.path().join("releases/0.7/extra");
        assert_eq!(find(None, &below).expect("found"), dir.path());
        let error = find(None, Path::new("/proc")).expect_err("none");
        assert!(
            error.to_string().starts_with("/proc is not in a checkout"),
            "{error}"
        );
        let error = find(Some(&below), Path::new("/")).expect_err("none");
        assert!(
            error.to_string().ends_with("it has no profiles/"),
            "{error}"
        );
        assert!(error.hint().expect("hint").contains("--root"));
    }

    #[test]
    fn an_unknown_name_says_what_there_is() {
        let dir = tempfile::tempdir().expect("tempdir");
        sample(dir.path());
        let checkout = Checkout::load(dir.path()).expect("load");
        let error = checkout.require_profile("bsae").expect_err("unknown");
        assert_eq!(error.to_string(), "there is no profile \"bsae\"");
        assert_eq!(
            error.hint().expect("hint"),
            "did you mean \"base\"? (profiles here: base)"
        );
        let error = checkout.require_release("1.0").expect_err("unknown");
        assert_eq!(error.hint().expect("hint"), "releases here: 0.7");
    }
}
