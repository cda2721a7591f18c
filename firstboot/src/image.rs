//! What this node's image is: its manifest and its release descriptor.

use std::collections::BTreeMap;
use std::path::Path;

use sf_contract::manifest::Manifest;
use sf_contract::problem::Disclosure;
use sf_contract::release::{self, Daemon, Release, Schema};
use sf_contract::role::Role;

use crate::codes;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::read;

/// The facts that the image brings.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest; on an operator's desk, one made up from what was given.
    pub manifest: Manifest,
    /// The release descriptor.
    pub release: Release,
}

/// What an operator may give at the desk instead of being on a node.
#[derive(Clone, Debug, Default)]
pub struct Given<'a> {
    /// A manifest: the one published beside an image will do.
    pub manifest: Option<&'a Path>,
    /// A release descriptor.
    pub release: Option<&'a Path>,
    /// A role, in place of the manifest's.
    pub role: Option<Role>,
    /// Only to look: what the metadata refers to need not be here.
    pub desk_check: bool,
}

impl Image {
    /// Reads what is in the image, or what was given instead.
    pub fn read(paths: &Paths, given: &Given<'_>) -> Result<Self, Failure> {
        let release_file = given
            .release
            .map_or_else(|| paths.release(), Path::to_owned);
        let mut release = read_release(paths, &release_file)?;
        let manifest_file = given
            .manifest
            .map_or_else(|| paths.manifest(), Path::to_owned);
        let mut manifest = match read::text(&manifest_file) {
            Ok(text) => Manifest::parse(&text).map_err(|error| {
                Failure::new(
                    &codes::IMAGE_MANIFEST,
                    format!("{} cannot be used", paths.shown(&manifest_file)),
                )
                .source(paths.shown(&manifest_file))
                .cause(&error)
            })?,
            Err(error) => match given.role {
                Some(role) if given.manifest.is_none() => desk_manifest(&release, role)?,
                _ => {
                    return Err(Failure::new(
                        &codes::IMAGE_MANIFEST,
                        format!(
                            "there is no image manifest at {}",
                            paths.shown(&manifest_file)
                        ),
                    )
                    .source(paths.shown(&manifest_file))
                    .cause(&error));
                }
            },
        };
        if let Some(role) = given.role {
            manifest.role = role;
        }
        if folders_name(&release_file).is_none() {
            release.name.clone_from(&manifest.release);
        }
        Ok(Self { manifest, release })
    }

    /// The versions of the tables that the release expects, where it knows them.
    pub fn expected_schema(&self) -> &BTreeMap<String, u32> {
        match &self.release.schema {
            // A desk without a manifest has the descriptor's.
            Schema::Command { expected, .. } if self.manifest.schema_versions.is_empty() => {
                expected
            }
            _ => &self.manifest.schema_versions,
        }
    }

    /// Role of this node.
    pub fn role(&self) -> Role {
        self.manifest.role
    }

    /// The daemons that this image runs, in starting order.
    pub fn daemons(&self) -> Vec<&Daemon> {
        let named = |unit: &String| {
            self.release
                .daemons
                .iter()
                .find(|daemon| daemon.unit == *unit)
        };
        self.manifest.daemons.iter().filter_map(named).collect()
    }
}

/// What a release is called that neither its folder nor a manifest names.
const UNNAMED: &str = "release";

/// The release's name, where its folder has it, as in a checkout; in an image
/// the text stands alone, and the manifest names it.
fn folders_name(file: &Path) -> Option<&str> {
    file.parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()) || *name == "develop")
}

fn read_release(paths: &Paths, file: &Path) -> Result<Release, Failure> {
    let shown = paths.shown(file).into_owned();
    let broken = |what: String| Failure::new(&codes::IMAGE_RELEASE, what).source(&shown);
    let text = read::text(file).map_err(|error| {
        broken(format!("there is no release descriptor at {shown}")).cause(&error)
    })?;
    let name = folders_name(file).unwrap_or(UNNAMED);
    release::read(name, &shown, &text).map_err(|problems| {
        let mut failure = broken(format!(
            "{shown} is not a release descriptor that can be used: mistakes found: {}",
            problems.len()
        ));
        failure.causes = problems
            .iter()
            .map(|problem| problem.frame(&text, Disclosure::Full))
            .collect();
        failure
    })
}

/// A manifest for a desk without an image: enough for the checks.
fn desk_manifest(release: &Release, role: Role) -> Result<Manifest, Failure> {
    // A release that takes its version from the operator's wheel: the series' first.
    let version = release
        .version
        .as_ref()
        .map_or_else(|| format!("{}.0.dev0", release.series), ToString::to_string);
    let daemons: Vec<&str> = release
        .daemons
        .iter()
        .map(|daemon| daemon.unit.as_str())
        .collect();
    let manifest = serde_json::json!({
        "schema": sf_contract::manifest::SCHEMA,
        "image_id": "desk",
        "image_version": "0",
        "profile": "desk",
        "profile_digest": "",
        "role": role,
        "debug": false,
        "release": release.name,
        "shakenfist_version": version,
        "series": release.series,
        "predecessor": release.predecessor,
        "schema_versions": {},
        "daemons": daemons,
        "ports": [],
        "required_metadata": [],
        "tools": {},
        "source_commit": null,
    });
    Manifest::parse(&manifest.to_string()).map_err(|error| {
        Failure::new(&codes::INTERNAL, "a manifest could not be made up").cause(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_release_is_called_what_its_manifest_says() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let image = crate::testing::image(Role::Hypervisor);
        std::fs::create_dir_all(paths.manifest().parent().unwrap()).unwrap();
        std::fs::write(paths.release(), crate::testing::RELEASE).unwrap();
        let read = |given: &Given<'_>| Image::read(&paths, given).unwrap().release.name;
        let desk = Given {
            role: Some(Role::Hypervisor),
            ..Given::default()
        };
        assert_eq!(read(&desk), UNNAMED);
        std::fs::write(
            paths.manifest(),
            serde_json::json!(image.manifest).to_string(),
        )
        .unwrap();
        assert_eq!(read(&Given::default()), "test");
        // A checkout's descriptor has a name of its own.
        let folder = root.path().join("0.9");
        std::fs::create_dir(&folder).unwrap();
        let other = folder.join("release.toml");
        std::fs::write(&other, crate::testing::RELEASE).unwrap();
        let given = Given {
            release: Some(&other),
            ..Given::default()
        };
        assert_eq!(read(&given), "0.9");
    }
}
