//! Whether an image is there already.
//!
//! Everything that an image depends on has one digest, which is published with
//! it. A build whose inputs have that digest is answered by the image.

use std::path::Path;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use sf_contract::manifest::Manifest;

use crate::digest::Key;
use crate::prepare::Prepared;
use crate::render::NOT_CONTENT;
use crate::tree::Tree;

/// Name of the file in a published folder.
pub(super) const FILE: &str = "inputs.json";

/// What an image was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Digest of all that follows.
    pub(super) digest: String,
    /// The rendered folder, less where things are.
    pub(super) rendered: String,
    /// The Python environment's key.
    pub(super) python: String,
    /// SHA-256 of the agent.
    pub(super) agent: String,
    /// mkosi's version.
    pub(super) mkosi: String,
    /// The tools tree's key.
    pub(super) tools: String,
}

impl Answer {
    pub(super) fn of(tree: &Tree, prepared: &Prepared) -> Self {
        let rendered = tree.add_to(Key::new("rendered 1"), &NOT_CONTENT).finish();
        let mut answer = Self {
            digest: String::new(),
            rendered,
            python: prepared.venv.key.clone(),
            agent: prepared.agent.sha256.clone(),
            mkosi: prepared.mkosi.version().to_owned(),
            tools: prepared.tools.key.clone(),
        };
        answer.digest = answer.key();
        answer
    }

    fn key(&self) -> String {
        Key::new("image 1")
            .field("rendered", &self.rendered)
            .field("python", &self.python)
            .field("agent", &self.agent)
            .field("mkosi", &self.mkosi)
            .field("tools", &self.tools)
            .finish()
    }

    /// Is the image in `folder` made of exactly this, and whole?
    pub(super) fn is_at(&self, folder: &Path) -> bool {
        let there = fs::read(folder.join(FILE))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        if there.as_ref() != Some(self) {
            return false;
        }
        let manifest = fs::read_to_string(folder.join(super::one::MANIFEST)).ok();
        let Some(manifest) = manifest.and_then(|text| Manifest::parse(&text).ok()) else {
            return false;
        };
        manifest.artefacts.iter().all(|(name, artefact)| {
            fs::metadata(folder.join(name))
                .is_ok_and(|meta| meta.is_file() && meta.len() == artefact.size)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(agent: &str) -> Answer {
        let mut answer = Answer {
            digest: String::new(),
            rendered: "r".into(),
            python: "p".into(),
            agent: agent.into(),
            mkosi: "25.3-7".into(),
            tools: "t".into(),
        };
        answer.digest = answer.key();
        answer
    }

    /// A published folder with one artefact of three bytes.
    fn published(folder: &Path, answer: &Answer) {
        let manifest = r#"{"schema":1,"image_id":"sf-x","image_version":"1","profile":"x","profile_digest":"",
            "role":"network","debug":false,"release":"0.7","shakenfist_version":"0.7.2","series":"0.7",
            "predecessor":null,"schema_versions":{},"daemons":[],"ports":[],"required_metadata":[],"tools":{},
            "source_commit":null,"artefacts":{"x.raw":{"size":3,"sha256":"00"}}}"#;
        fs::write(folder.join(super::super::one::MANIFEST), manifest).expect("write");
        fs::write(folder.join("x.raw"), "abc").expect("write");
        let json = serde_json::to_vec(answer).expect("serializes");
        fs::write(folder.join(FILE), json).expect("write");
    }

    #[test]
    fn an_image_answers_for_exactly_its_inputs_while_it_is_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = dir.path();
        assert!(!answer("a").is_at(folder));
        published(folder, &answer("a"));
        assert!(answer("a").is_at(folder));
        assert!(!answer("b").is_at(folder));
        fs::write(folder.join("x.raw"), "abcd").expect("write");
        assert!(!answer("a").is_at(folder), "an artefact of another size");
        published(folder, &answer("a"));
        fs::remove_file(folder.join("x.raw")).expect("remove");
        assert!(!answer("a").is_at(folder), "an artefact that is gone");
        published(folder, &answer("a"));
        fs::write(folder.join(FILE), "{").expect("write");
        assert!(!answer("a").is_at(folder), "inputs that cannot be read");
    }

    #[test]
    fn every_input_counts() {
        let base = answer("a").digest;
        for change in [
            |answer: &mut Answer| answer.rendered = "x".into(),
            |answer: &mut Answer| answer.python = "x".into(),
            |answer: &mut Answer| answer.agent = "x".into(),
            |answer: &mut Answer| answer.mkosi = "x".into(),
            |answer: &mut Answer| answer.tools = "x".into(),
        ] {
            let mut changed = answer("a");
            change(&mut changed);
            assert_ne!(changed.key(), base);
        }
    }
}
