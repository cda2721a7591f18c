//! The answer to a build that changed nothing, without asking any tool.
//!
//! [`Answer`] knows best whether an image is what would be built, but it is
//! known only once mkosi, the tools, the Python environment and the agent have
//! been found, which takes seconds. So what a build was asked for is noted in
//! the cache beside what came of it: the same question about the same source
//! has the same answer, as long as the image that it names is there and whole.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::answer::{self, Answer};
use super::source::Commit;
use super::{Built, Options, Request};
use crate::cache::Cache;
use crate::digest::{self, Key};
use crate::publish;

/// What the agent is compiled from.
const AGENT: [&str; 6] = [
    "firstboot",
    "contract",
    "command",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
];

/// A note in the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    image_version: String,
    folder: PathBuf,
    raw: Option<PathBuf>,
    input_digest: String,
}

/// What a build is asked for, apart from the profile.
pub(super) struct Question {
    key: Key,
    notes: PathBuf,
}

impl Question {
    /// Reads the sources: no tool is run.
    pub(super) fn of(
        request: &Request<'_>,
        commit: &Commit,
        output: &Path,
        cache: &Cache,
    ) -> io::Result<Self> {
        let Options {
            release,
            wheel,
            image_version,
            debug,
            mirror,
            agent,
        } = request.options;
        let checkout = request.checkout;
        // The builder itself: how it renders is a part of the question.
        let mut key = Key::new("question 1")
            .field("builder", digest::of_file(&std::env::current_exe()?)?)
            .field("output", output.as_os_str().as_encoded_bytes())
            .field("release", release)
            .field("version", image_version.as_deref().unwrap_or_default())
            .field("debug", debug.to_string())
            .field("mirror", mirror.as_deref().unwrap_or_default())
            .field("commit", commit.id.as_deref().unwrap_or_default())
            .field("commits", commit.number.to_string())
            .field("flags", std::env::var("RUSTFLAGS").unwrap_or_default());
        if let Some(wheel) = wheel {
            key = key.field("wheel", digest::of_file(wheel)?);
        }
        key = checkout.statics.add_to(key.field("statics", ""), &[]);
        if let Some(folder) = checkout.releases.get(release) {
            key = folder.files.add_to(key.field("release files", ""), &[]);
        }
        if let Some(agent) = agent {
            key = key.field("agent", digest::of_file(agent)?);
        } else {
            for name in AGENT {
                let path = checkout.root.join(name);
                if path.exists() {
                    key = key.tree(name, &path)?;
                }
            }
        }
        Ok(Self {
            key,
            notes: cache.builds(),
        })
    }

    fn note(&self, request: &Request<'_>, profile: &str) -> PathBuf {
        let digest = request
            .checked
            .resolved
            .get(profile)
            .map(crate::profile::ResolvedProfile::digest);
        let key = self
            .key
            .clone()
            .field("profile", digest.unwrap_or_default());
        self.notes.join(format!("{}.json", key.finish()))
    }

    /// The image that answers, when there is one and it is whole.
    pub(super) fn answer(&self, request: &Request<'_>, profile: &str) -> Option<Built> {
        let note: Note =
            serde_json::from_slice(&fs::read(self.note(request, profile)).ok()?).ok()?;
        let inputs = fs::read(note.folder.join(answer::FILE)).ok()?;
        let inputs: Answer = serde_json::from_slice(&inputs).ok()?;
        let same = inputs.digest == note.input_digest && inputs.is_at(&note.folder);
        same.then(|| Built {
            profile: profile.to_owned(),
            image_version: note.image_version,
            manifest: note.folder.join(super::one::MANIFEST),
            raw: note.raw,
            folder: note.folder,
            cached: true,
            input_digest: note.input_digest,
            timings: Vec::new(),
        })
    }

    /// Notes what came of it. A note that cannot be written costs the next
    /// build some seconds and nothing else.
    pub(super) fn remember(&self, request: &Request<'_>, built: &Built) {
        let note = Note {
            image_version: built.image_version.clone(),
            folder: built.folder.clone(),
            raw: built.raw.clone(),
            input_digest: built.input_digest.clone(),
        };
        let bytes = serde_json::to_vec(&note).unwrap_or_default();
        let _ = publish::write_atomic(&self.note(request, &built.profile), &bytes);
    }
}
