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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::checkout::Checkout;
    use crate::tree::Node;

    fn checkout() -> Checkout {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("root");
        Checkout::load(root).expect("load")
    }

    /// An image that was published, as far as answers look at it.
    fn published(folder: &Path) -> Built {
        fs::create_dir_all(folder).expect("mkdir");
        let inputs =
            r#"{"digest":"d","rendered":"r","python":"p","agent":"a","mkosi":"m","tools":"t"}"#;
        fs::write(folder.join(answer::FILE), inputs).expect("write");
        let manifest = r#"{"schema":1,"image_id":"sf-network","image_version":"1","profile":"network",
            "profile_digest":"","role":"network","debug":false,"release":"0.7","shakenfist_version":"0.7.2",
            "series":"0.7","predecessor":null,"schema_versions":{},"daemons":[],"ports":[],
            "required_metadata":[],"tools":{},"source_commit":null}"#;
        fs::write(folder.join(super::super::one::MANIFEST), manifest).expect("write");
        Built {
            profile: "network".into(),
            image_version: "1".into(),
            folder: folder.to_owned(),
            manifest: folder.join("manifest.json"),
            raw: None,
            cached: false,
            input_digest: "d".into(),
            timings: Vec::new(),
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer_and_no_other_has() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = Cache::at(dir.path().join("cache"));
        fs::create_dir_all(cache.builds()).expect("mkdir");
        let agent = dir.path().join("agent");
        fs::write(&agent, "one").expect("write");
        let built = published(&dir.path().join("out/network/1"));
        let ask = |checkout: &Checkout, options: &Options, commit: &Commit, profile: &str| {
            let checked = check(checkout);
            let request = Request {
                checkout,
                checked: &checked,
                options,
            };
            let question = Question::of(&request, commit, dir.path(), &cache).expect("question");
            question.answer(&request, profile).map(|built| built.folder)
        };
        let options = Options {
            release: "0.7".into(),
            agent: Some(agent.clone()),
            ..Options::default()
        };
        let (same, commit) = (checkout(), Commit::default());
        assert_eq!(ask(&same, &options, &commit, "network"), None);
        let checked = check(&same);
        let request = Request {
            checkout: &same,
            checked: &checked,
            options: &options,
        };
        let question = Question::of(&request, &commit, dir.path(), &cache).expect("question");
        question.remember(&request, &built);
        assert_eq!(
            ask(&same, &options, &commit, "network"),
            Some(built.folder.clone())
        );

        assert_eq!(ask(&same, &options, &commit, "hypervisor"), None);
        let debug = Options {
            debug: true,
            ..options.clone()
        };
        assert_eq!(ask(&same, &debug, &commit, "network"), None);
        let later = Commit {
            id: Some("x".into()),
            number: 2,
        };
        assert_eq!(ask(&same, &options, &later, "network"), None);
        let mut changed = checkout();
        changed
            .statics
            .insert("mkosi.extra/usr/lib/new", Node::text("x"));
        assert_eq!(ask(&changed, &options, &commit, "network"), None);
        fs::write(&agent, "two").expect("write");
        assert_eq!(ask(&same, &options, &commit, "network"), None);
        fs::write(&agent, "one").expect("write");
        assert!(ask(&same, &options, &commit, "network").is_some());
        fs::remove_file(built.folder.join(answer::FILE)).expect("remove");
        assert_eq!(
            ask(&same, &options, &commit, "network"),
            None,
            "the image is not whole"
        );
    }
}
