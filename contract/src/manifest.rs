//! Image manifest: what an image is. The builder writes it beside the image
//! with the artefacts' digests, and into the image without them; it is what
//! the agent trusts about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::role::Role;
use crate::series::{Series, Version};

/// Where an image keeps its manifest.
pub const IN_IMAGE: &str = "/usr/lib/sf-image/manifest.json";

/// The schema that this code writes and reads.
pub const SCHEMA: u32 = 1;

/// The whole manifest. Maps are sorted and there is no clock in it, so equal
/// images have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `sf-hypervisor`.
    pub image_id: String,
    /// `0.7.2-1`, as given or derived.
    pub image_version: String,
    /// Profile's name.
    pub profile: String,
    /// SHA-256 of the resolved profile.
    pub profile_digest: String,
    /// Role of the nodes that run it.
    pub role: Role,
    /// A debug image: root can log in. Stated on the console as well.
    pub debug: bool,
    /// Release descriptor's name, `0.7`.
    pub release: String,
    /// Shaken Fist's version.
    pub shakenfist_version: Version,
    /// Its series.
    pub series: Series,
    /// The series that may run beside it.
    pub predecessor: Option<Series>,
    /// Expected `schema_versions`, where the release knows them.
    pub schema_versions: BTreeMap<String, u32>,
    /// Units that this image runs, in starting order.
    pub daemons: Vec<String>,
    /// TCP ports that they listen on.
    pub ports: Vec<u16>,
    /// Metadata fields that a node needs.
    pub required_metadata: Vec<String>,
    /// Distribution packages and their versions; only outside the image, where
    /// they are known (inside stands the package database itself).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, String>,
    /// Python packages of the release and their versions; only outside the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub python_packages: BTreeMap<String, String>,
    /// Versions of what built it: mkosi, systemd-repart, …
    pub tools: BTreeMap<String, String>,
    /// Commit of the source, with `-dirty` for uncommitted changes.
    pub source_commit: Option<String>,
    /// Root hash of `/usr`; only outside the image, since it covers the inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usr_root_hash: Option<String>,
    /// File name to digest; only outside the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artefacts: BTreeMap<String, Artefact>,
}

/// One file of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// Bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not of this shape.
    #[error("the manifest cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Made by another version of the builder.
    #[error("the manifest has schema {found}, this program reads schema {SCHEMA}")]
    OtherSchema {
        /// The schema it has.
        found: u32,
    },
}

impl Manifest {
    /// Reads canonical or other JSON.
    pub fn parse(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct SchemaOnly {
            schema: u32,
        }
        let SchemaOnly { schema } = serde_json::from_str(text)?;
        if schema != SCHEMA {
            return Err(Error::OtherSchema { found: schema });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// Canonical JSON: sorted keys, two spaces, a closing line break.
    pub fn to_canonical_json(&self) -> String {
        // serde_json's own map sorts its keys, the struct's order does not count.
        let sorted = serde_json::to_value(self).unwrap_or_default();
        let mut text = serde_json::to_string_pretty(&sorted).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The manifest as it is inside the image: what cannot be known before the
    /// image is made is left out.
    #[must_use]
    pub fn without_digests(&self) -> Self {
        Self {
            usr_root_hash: None,
            artefacts: BTreeMap::new(),
            packages: BTreeMap::new(),
            python_packages: BTreeMap::new(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"tools":{"mkosi":"25.3-7"},"schema":1,"image_id":"sf-network","image_version":"0.7.2-1",
        "profile":"network","profile_digest":"00","role":"network","debug":false,"release":"0.7",
        "shakenfist_version":"0.7.2","series":"0.7","predecessor":"0.6","schema_versions":{},
        "daemons":["sf-daemon"],"ports":[13000],"required_metadata":["node.name"],
        "source_commit":null,"usr_root_hash":"ab","packages":{"bash":"5"},"python_packages":{"six":"1"},
        "artefacts":{"x.raw":{"size":1,"sha256":"cd"}}}"#;

    #[test]
    fn canonical_json_is_the_same_however_it_was_written() {
        let manifest = Manifest::parse(TEXT).expect("parse");
        let canonical = manifest.to_canonical_json();
        let again = Manifest::parse(&canonical).expect("parse");
        assert_eq!(again, manifest);
        assert_eq!(again.to_canonical_json(), canonical);
        assert!(canonical.ends_with("}\n"));
        let keys: Vec<&str> = canonical
            .lines()
            .filter_map(|line| line.strip_prefix("  \"")?.split('"').next())
            .collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn the_image_carries_what_can_be_known_before_it_is_made() {
        let inside = Manifest::parse(TEXT)
            .expect("parse")
            .without_digests()
            .to_canonical_json();
        for key in ["usr_root_hash", "artefacts", "packages"] {
            assert!(!inside.contains(key), "{key}");
        }
        assert!(inside.contains("required_metadata") && Manifest::parse(&inside).is_ok());
    }

    #[test]
    fn another_schema_is_refused_by_its_number() {
        let error =
            Manifest::parse(&TEXT.replace("\"schema\":1", "\"schema\":2")).expect_err("other");
        assert_eq!(
            error.to_string(),
            "the manifest has schema 2, this program reads schema 1"
        );
        assert!(
            Manifest::parse("[]")
                .expect_err("malformed")
                .to_string()
                .starts_with("the manifest cannot be read")
        );
    }
}
