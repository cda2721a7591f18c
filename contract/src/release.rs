//! Release descriptor: how one Shaken Fist release is installed, which daemons
//! it has, what each needs, and which metadata becomes which setting. Nothing
//! about a release is known to the Rust code but through this.
//!
//! The builder reads `releases/<name>/release.toml`; the same text is in every
//! image at [`IN_IMAGE`], where the agent reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::role::Role;
use crate::series::{Series, Version};

mod read;
pub use read::read;

/// Where an image keeps its release descriptor.
pub const IN_IMAGE: &str = "/usr/lib/sf-image/release.toml";

/// A whole descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Name of the folder under `releases/`.
    pub name: String,
    /// One line for `sf-image list`.
    pub summary: String,
    /// Version that is installed; `None` when the operator's wheel says it.
    pub version: Option<Version>,
    /// Series that the version belongs to.
    pub series: Series,
    /// The series that may run beside this one during a rolling upgrade.
    pub predecessor: Option<Series>,
    /// Distribution that the image is made of.
    pub base: Base,
    /// Debian packages that the release needs on every role, beside those of
    /// the profiles.
    pub packages: Vec<String>,
    /// How Python code gets in.
    pub python: Python,
    /// Units, in the order of the file.
    pub daemons: Vec<Daemon>,
    /// Daemon names that profiles may ask for but this release does not have, with the reason.
    pub absent_daemons: BTreeMap<String, String>,
    /// What becomes a `SHAKENFIST_*` key.
    pub settings: Vec<Setting>,
    /// Keys that may be written to the cluster-wide table.
    pub cluster_config: Vec<String>,
    /// Characters that the release's own reader of `/etc/sf/config` trips over,
    /// besides those that no release can have there (quotes, backslashes, line breaks).
    pub forbidden_in_config: String,
    /// Who makes the cluster's tables.
    pub schema: Schema,
    /// Programs of the release that the agent calls.
    pub hooks: Hooks,
}

/// Base distribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// `debian`.
    pub distribution: String,
    /// `trixie`.
    pub release: String,
    /// glibc version of that distribution, `2.41`: the agent must not need a newer one.
    pub glibc: String,
    /// Python of that distribution, `3.13`.
    pub python: String,
}

/// How Shaken Fist's Python code is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// Source of the code.
    pub install: Install,
    /// Where it stands in the image.
    pub prefix: String,
    /// Packages of the lock that the distribution provides instead, with the reason.
    pub from_distribution: BTreeMap<String, String>,
    /// Debian packages that must be there while the code is installed and tried
    /// (modules of the distribution that it imports at once).
    pub build_packages: Vec<String>,
    /// Pins that differ from what the release asks for, with the reason.
    pub overrides: Vec<Override>,
    /// Folders of the release that are copied into site-packages, with the reason.
    pub shims: Vec<Shim>,
}

/// Where the code comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Install {
    /// Package index, every file pinned by hash. The path is relative to the release's folder.
    HashLock {
        /// Requirements file with hashes.
        lock: String,
    },
    /// A wheel that the operator names (`--wheel FILE`); its dependencies come
    /// from the package index.
    Wheel,
}

/// A pin that differs from upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Requirement, `pydantic==2.13.4`.
    pub requirement: String,
    /// Why upstream's own pin does not do.
    pub reason: String,
}

/// A stand-in module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shim {
    /// Folder relative to the release's folder.
    pub path: String,
    /// Why it is needed.
    pub reason: String,
}

/// One systemd unit of the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Unit name without `.service`.
    pub unit: String,
    /// Description for the unit.
    pub description: String,
    /// `ExecStart=`.
    pub exec: String,
    /// `Type=`.
    pub service_type: String,
    /// Names by which profiles ask for what this unit runs.
    pub provides: Vec<String>,
    /// On every node, whatever the profile asks for.
    pub always: bool,
    /// Roles that run it; empty is all.
    pub roles: Vec<Role>,
    /// `After=`.
    pub after: Vec<String>,
    /// `Requires=`.
    pub requires: Vec<String>,
    /// TCP ports that it listens on.
    pub ports: Vec<u16>,
    /// How one sees that it serves.
    pub readiness: Option<Probe>,
    /// Further `[Service]` directives; a list value repeats the directive.
    pub service: Vec<(String, String)>,
}

/// Readiness probe over HTTP on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// TCP port on the loopback address.
    pub port: u16,
    /// Path of the request.
    pub path: String,
    /// Status that means "serving".
    pub status: u16,
    /// Seconds that it may take after the start.
    pub within_seconds: u64,
}

/// One `SHAKENFIST_*` key of `/etc/sf/config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Key without the `SHAKENFIST_` prefix.
    pub key: String,
    /// Where the value comes from.
    pub value: SettingValue,
    /// A node of these roles cannot do without; empty and `required` is all roles.
    pub required: bool,
    /// Roles that get it; empty is all.
    pub roles: Vec<Role>,
    /// What an operator should know about it, without a full stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingValue {
    /// A metadata field by its dotted path (`node.mesh.address`), or by a name
    /// that the agent computes: `cluster.auth_secret_seed` (from the database),
    /// `database.host|port|user|password|name` (from the DSN).
    Metadata(String),
    /// The same on every node.
    Constant(String),
    /// `True` on the named roles, `False` on the others.
    TrueOn(Vec<Role>),
}

/// Who makes the tables of the cluster's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "made-by", rename_all = "kebab-case")]
pub enum Schema {
    /// The agent itself: the release has no tables in MariaDB of its own.
    Agent,
    /// A command of the release, run by one node at a time.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Expected `schema_versions` rows, where the release knows them.
        expected: BTreeMap<String, u32>,
    },
}

/// Programs of the release that the agent calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Establishes the system key in the release's own store: gets the key's
    /// name as its last argument and the key on stdin, prints `created`,
    /// `updated` or `unchanged`, exits 75 when the store cannot be reached.
    pub system_key: Option<Vec<String>>,
}

impl Release {
    /// The units that a node of `role` runs, given what its profile asks for.
    pub fn units_for<'r>(&'r self, role: Role, asked: &[String]) -> Vec<&'r Daemon> {
        self.daemons
            .iter()
            .filter(|daemon| daemon.roles.is_empty() || daemon.roles.contains(&role))
            .filter(|daemon| {
                daemon.always || daemon.provides.iter().any(|name| asked.contains(name))
            })
            .collect()
    }

    /// Every daemon name that a profile may ask for.
    pub fn daemon_names(&self) -> impl Iterator<Item = &str> {
        self.daemons
            .iter()
            .flat_map(|daemon| daemon.provides.iter().map(String::as_str))
            .chain(self.absent_daemons.keys().map(String::as_str))
    }
}

#[cfg(test)]
mod tests;
