//! The manifest of an image, as far as it is known before the image is built.

use std::collections::{BTreeMap, BTreeSet};

use sf_contract::manifest::{Manifest, SCHEMA};
use sf_contract::metadata::fields::COMPUTED;
use sf_contract::release::{Schema, SettingValue};

use super::Image;

/// The manifest without packages, artefacts and root hash.
pub fn describe(image: &Image<'_>) -> Manifest {
    let Image {
        profile, release, ..
    } = image;
    let units = image.units();
    let ports: BTreeSet<u16> = units
        .iter()
        .flat_map(|daemon| daemon.ports.iter().copied())
        .collect();
    Manifest {
        schema: SCHEMA,
        image_id: image.id(),
        image_version: image.version.to_string(),
        profile: profile.name.clone(),
        profile_digest: profile.digest(),
        role: profile.role,
        debug: image.debug,
        release: release.name.clone(),
        shakenfist_version: image.shakenfist.clone(),
        series: release.series,
        predecessor: release.predecessor,
        schema_versions: match &release.schema {
            Schema::Agent => BTreeMap::new(),
            Schema::Command { expected, .. } => expected.clone(),
        },
        daemons: units.iter().map(|daemon| daemon.unit.clone()).collect(),
        ports: ports.into_iter().collect(),
        required_metadata: required_metadata(image),
        packages: BTreeMap::new(),
        python_packages: BTreeMap::new(),
        tools: image.tools.clone(),
        source_commit: image.commit.map(str::to_owned),
        usr_root_hash: None,
        artefacts: BTreeMap::new(),
    }
}

/// Metadata fields that a node of this image cannot do without: its name, the
/// database, what the release requires on its role, and the system key where
/// the role establishes it.
fn required_metadata(image: &Image<'_>) -> Vec<String> {
    let role = image.profile.role;
    let mut fields = BTreeSet::from(["node.name".to_owned(), "database.dsn".to_owned()]);
    for setting in &image.release.settings {
        let here = setting.roles.is_empty() || setting.roles.contains(&role);
        if let (true, true, SettingValue::Metadata(path)) = (setting.required, here, &setting.value)
            && !COMPUTED.contains(&path.as_str())
        {
            fields.insert(path.clone());
        }
    }
    if role.bootstraps() {
        fields.insert("secrets.system_key".into());
    }
    fields.into_iter().collect()
}
