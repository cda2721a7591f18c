//! Writes what Shaken Fist's daemons read: `/etc/sf/config`, the hostname,
//! `/etc/hosts`. Rendered anew on every boot; what is the same is not touched,
//! what is no longer wanted is removed.

pub mod hosts;
pub mod settings;

use std::collections::BTreeMap;

use fs_err as fs;
use sf_contract::metadata::node::NodeMetadata;
use sf_contract::secret::Secret;

use crate::failure::Failure;
use crate::image::Image;
use crate::paths::Paths;
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

/// Writes everything. `settings` were rendered from the same metadata.
pub fn write_all(
    paths: &Paths,
    image: &Image,
    metadata: &NodeMetadata,
    cluster: &FromCluster,
) -> Result<(), Failure> {
    let rendered =
        settings::render(image, metadata, settings::Cluster::Known(cluster)).map_err(first)?;
    let group = group_id(
        &fs::read_to_string(paths.at("/etc/group")).unwrap_or_default(),
        "sudo",
    );
    put(
        paths,
        "/etc/sf/config",
        rendered.expose().as_bytes(),
        Access {
            mode: 0o440,
            group: group.unwrap_or(0),
        },
    )?;
    put(
        paths,
        "/etc/hostname",
        format!("{}\n", metadata.node.name).as_bytes(),
        Access::PUBLIC,
    )?;
    if paths.is_this_machine() {
        rustix::system::sethostname(metadata.node.name.as_bytes())
            .map_err(|error| unwritable(&error.into()))?;
    }
    let before = match fs::read_to_string(paths.at("/etc/hosts")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => hosts::DEFAULT.to_owned(),
        Err(error) => return Err(unwritable(&error)),
    };
    put(
        paths,
        "/etc/hosts",
        hosts::render(&before, metadata).as_bytes(),
        Access::PUBLIC,
    )
}

/// A failure for the card when several settings are wrong; all were shown by preflight.
fn first(failures: Vec<Failure>) -> Failure {
    failures.into_iter().next().unwrap_or_else(|| {
        Failure::new(&crate::codes::INTERNAL, "settings failed without a reason")
    })
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
