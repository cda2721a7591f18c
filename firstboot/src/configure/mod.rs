//! Writes what Shaken Fist's daemons read: `/etc/sf/config`, the hostname,
//! `/etc/hosts`, certificates and keys. Rendered anew on every boot; what is the same is not touched,
//! what is no longer wanted is removed.

pub mod hosts;
pub mod ledger;
pub mod pki;
pub mod settings;

use std::collections::BTreeMap;

use sf_contract::metadata::node::NodeMetadata;
use sf_contract::role::Role;
use sf_contract::secret::Secret;
use zeroize::Zeroizing;

use self::ledger::Ledger;
use crate::codes;
use crate::failure::Failure;
use crate::image::Image;
use crate::paths::Paths;
use crate::read;
use crate::state::unwritable;
use crate::write::{self, Access, Change};

/// What the database contributes.
#[derive(Clone, Debug, Default)]
pub struct FromCluster {
    /// What tokens are signed with.
    pub auth_secret_seed: Option<Secret>,
    /// Cluster-wide keys.
    pub config: BTreeMap<String, serde_json::Value>,
}

/// A file that [`write_all`] keeps, for those who only want to know.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Planned {
    /// Where.
    pub path: String,
    /// For whom: `0440 root:sudo`.
    pub access: String,
}

/// The files that [`write_all`] keeps, in its order.
pub fn planned(role: Role, metadata: &NodeMetadata) -> Vec<Planned> {
    let planned = |path: &str, access: &str| Planned {
        path: path.to_owned(),
        access: access.to_owned(),
    };
    let mut files = vec![planned("/etc/sf/config", "0440 root:sudo")];
    // Which number the group has does not matter here, only that it is not root's.
    let qemu = u32::MAX;
    let pki = pki::files(&metadata.pki, role, Some(qemu));
    files.extend(pki.iter().map(|file| {
        let group = if file.access.group == qemu {
            "libvirt-qemu"
        } else {
            "root"
        };
        planned(
            &file.path,
            &format!("{:04o} root:{group}", file.access.mode),
        )
    }));
    files.extend([
        planned("/etc/hostname", "0644 root:root"),
        planned("/etc/hosts", "0644 root:root"),
    ]);
    files
}

/// Writes everything. `settings` were rendered from the same metadata.
pub fn write_all(
    paths: &Paths,
    image: &Image,
    metadata: &NodeMetadata,
    cluster: &FromCluster,
) -> Result<(), Failure> {
    let rendered =
        settings::render(image, metadata, settings::Cluster::Known(cluster)).map_err(first)?;
    let files = ["/etc/sf/config", "/etc/hostname", "/etc/hosts"].map(str::to_owned);
    let pki = pki::files(&metadata.pki, image.role(), None);
    let ledger = Ledger::open(
        paths,
        files
            .into_iter()
            .chain(pki.into_iter().map(|file| file.path)),
    )?;
    let groups = read::text(&paths.at("/etc/group")).unwrap_or_default();
    put(
        paths,
        "/etc/sf/config",
        rendered.expose().as_bytes(),
        Access {
            mode: 0o440,
            group: group_id(&groups, "sudo").unwrap_or(0),
        },
    )?;
    // First what is referred to, then what refers to it.
    let qemu = group_id(&groups, "libvirt-qemu");
    for file in pki::files(&metadata.pki, image.role(), qemu) {
        // The line break at the end of a file is no part of a value.
        let content = Zeroizing::new(format!("{}\n", file.content.expose().trim_end()));
        put(paths, &file.path, content.as_bytes(), file.access)?;
    }
    put(
        paths,
        "/etc/hostname",
        format!("{}\n", metadata.node.name).as_bytes(),
        Access::PUBLIC,
    )?;
    let before = match read::bytes(&paths.at("/etc/hosts"), read::LIMIT) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => hosts::DEFAULT.into(),
        Err(error) => return Err(unwritable(&error)),
    };
    put(
        paths,
        "/etc/hosts",
        &hosts::render(&before, metadata),
        Access::PUBLIC,
    )?;
    ledger.close(paths)
}

/// A failure for the card when several settings are wrong; all were shown by preflight.
fn first(failures: Vec<Failure>) -> Failure {
    failures
        .into_iter()
        .next()
        .unwrap_or_else(|| Failure::new(&codes::INTERNAL, "settings failed without a reason"))
}

fn put(paths: &Paths, file: &str, content: &[u8], access: Access) -> Result<(), Failure> {
    match write::atomically(&paths.at(file), content, access).map_err(|error| unwritable(&error))? {
        Change::Unchanged => tracing::debug!(file, "unchanged"),
        Change::Created => tracing::info!(file, "written"),
        Change::Updated => tracing::info!(file, "changed"),
    }
    Ok(())
}

/// Number of a group in the text of /etc/group.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(name))
            .then(|| parts.nth(1)?.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_looked_up() {
        let groups = "root:x:0:\nsudoers:x:5:\nsudo:x:27:a,b\n";
        assert_eq!(group_id(groups, "sudo"), Some(27));
        assert_eq!(group_id(groups, "wheel"), None);
    }
}
