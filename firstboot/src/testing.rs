//! What the unit tests of several modules need.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sf_contract::manifest::Manifest;
use sf_contract::metadata::{self, Fragment, Layer, NodeMetadata, Origin, Target};
use sf_contract::release::{self, Release};
use sf_contract::role::Role;

/// A small release with everything that a real one has.
pub(crate) const RELEASE: &str = include_str!("../tests/fixtures/release.toml");

/// The shortest metadata that the release takes.
pub(crate) const METADATA: &str = include_str!("../tests/fixtures/metadata.toml");

pub(crate) fn release() -> Release {
    match release::read("test", "release.toml", RELEASE) {
        Ok(release) => release,
        Err(problems) => panic!("{problems:?}"),
    }
}

pub(crate) fn image(role: Role) -> crate::image::Image {
    let release = release();
    let asked = ["database".to_owned(), "api".to_owned()];
    let daemons: Vec<&str> = release
        .units_for(role, &asked)
        .iter()
        .map(|daemon| daemon.unit.as_str())
        .collect();
    let manifest = serde_json::json!({
        "schema": 1,
        "image_id": format!("sf-{role}"),
        "image_version": "1.2-3",
        "profile": role.name(),
        "profile_digest": "",
        "role": role,
        "debug": false,
        "release": "test",
        "shakenfist_version": "0.8.0",
        "series": release.series,
        "predecessor": release.predecessor,
        "schema_versions": {},
        "daemons": daemons,
        "ports": [],
        "required_metadata": [],
        "tools": {},
        "source_commit": null,
    });
    let manifest = Manifest::parse(&manifest.to_string()).unwrap();
    crate::image::Image { manifest, release }
}

/// [`METADATA`] with more TOML from a stronger source.
pub(crate) fn metadata(extra: &str) -> NodeMetadata {
    let release = release();
    let merged = metadata::merge([
        Fragment::read(Origin::new(Layer::File, 0, "metadata.toml"), METADATA),
        Fragment::read(
            Origin::new(Layer::DropIn, 0, "extra.toml"),
            &format!("schema = 1\n{extra}"),
        ),
    ]);
    let resolved = merged.resolve(|_, _| unreachable!("no references in the fixtures"));
    let checked = metadata::check(
        &merged,
        &resolved,
        Target {
            role: Role::Hypervisor,
            release: &release,
        },
    );
    match checked.metadata {
        Some(metadata) => metadata,
        None => panic!("{checked:?}"),
    }
}

/// Writes a script that can be run.
pub(crate) fn executable(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The file of that name somewhere under a folder.
pub(crate) fn find(folder: &Path, name: &str) -> PathBuf {
    fn search(folder: &Path, name: &str) -> Option<PathBuf> {
        std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                search(&path, name)
            } else {
                (entry.file_name() == name).then_some(path)
            }
        })
    }
    search(folder, name).unwrap_or_else(|| panic!("no {name} under {}", folder.display()))
}
