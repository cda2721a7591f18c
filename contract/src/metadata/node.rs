//! Node metadata as the agent uses it: validated, typed, complete.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::dsn::Dsn;
use super::value::SettingText;
use crate::role::Role;
use crate::secret::Secret;

/// Everything that the operator says about a node.
#[derive(Clone, Debug)]
pub struct NodeMetadata {
    /// `[node]`
    pub node: Node,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[database]`
    pub database: Database,
    /// `[pki]`
    pub pki: Pki,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[config]`: keys without the `SHAKENFIST_` prefix, values as text
    /// (`true` is `True`, as Shaken Fist writes it).
    pub config: BTreeMap<String, SettingText>,
    /// What goes to the cluster-wide table: `[cluster.config]`, and those fields
    /// of `[cluster]` that the release keeps there. Keys without prefix.
    pub cluster_config: BTreeMap<String, serde_json::Value>,
    /// `bootstrap.mode`
    pub bootstrap_mode: BootstrapMode,
    /// `report.url`; its query can hold a token.
    pub report_url: Option<SettingText>,
}

/// `[node]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Fully qualified, lower case.
    pub name: String,
    /// Network among the nodes.
    pub mesh: Attachment,
    /// Network towards the outside.
    pub egress: Attachment,
    /// What instances may not use.
    pub reservations: Reservations,
}

/// An address and the interface that carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// IPv4, since Shaken Fist's nodes switch IPv6 off.
    pub address: Option<Ipv4Addr>,
    /// Interface's name, at most 15 bytes.
    pub interface: Option<String>,
}

/// `[node] reservations`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// GiB.
    pub ram_gb: Option<u32>,
    /// Threads.
    pub cpu: Option<u32>,
    /// GiB.
    pub disk_gb: Option<u32>,
}

/// `[cluster]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Cloud's name.
    pub zone: Option<String>,
    /// The one network node.
    pub network_node: Option<Host>,
    /// Nodes of the database tier.
    pub database_nodes: Vec<Host>,
    /// Where floating addresses come from.
    pub floating_network: Option<Network>,
    /// Name server for instances.
    pub dns_server: Option<Ipv4Addr>,
    /// Bytes.
    pub max_hypervisor_mtu: Option<u32>,
    /// Names that no name server knows.
    pub hosts: BTreeMap<String, Ipv4Addr>,
}

/// A host as it was written, and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name or address.
    pub written: String,
    /// Address; that of `[cluster.hosts]` for a name.
    pub address: Ipv4Addr,
}

/// An IPv4 network; the host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// First address.
    pub address: Ipv4Addr,
    /// Bits of the prefix, 8 to 30.
    pub prefix: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

/// `[database]`
#[derive(Clone, Debug)]
pub struct Database {
    /// Where the database is and how to log in.
    pub dsn: Dsn,
    /// For one attempt.
    pub connect_timeout: Duration,
    /// For one run of the agent.
    pub wait: Duration,
}

/// `[pki]`: PEM texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pki {
    /// Authority.
    pub ca: Option<Secret>,
    /// Certificate with chain.
    pub certificate: Option<Secret>,
    /// Private key.
    pub key: Option<Secret>,
    /// The same three for SPICE.
    pub libvirt_spice: SpicePki,
}

/// `[pki] libvirt_spice`: PEM texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpicePki {
    /// Authority.
    pub ca: Option<Secret>,
    /// Certificate.
    pub certificate: Option<Secret>,
    /// Private key.
    pub key: Option<Secret>,
}

/// `[secrets]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// What tokens are signed with; the bootstrap generates it when absent.
    pub auth_secret_seed: Option<Secret>,
    /// The system namespace's key, 8 to 72 bytes.
    pub system_key: Option<Secret>,
    /// Its name.
    pub system_key_name: String,
}

/// `bootstrap.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootstrapMode {
    /// Roles that bootstrap do so when nobody has; the others wait for it.
    #[default]
    Auto,
    /// Neither bootstrap nor wait: stop unless the cluster has been bootstrapped.
    Require,
    /// Never bootstrap from this node; wait until another one has.
    Wait,
}

impl BootstrapMode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Require, Self::Wait];

    /// As it is written in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Wait => "wait",
        }
    }

    /// May a node of `role` bootstrap the cluster in this mode?
    pub fn bootstraps(self, role: Role) -> bool {
        self == Self::Auto && role.bootstraps()
    }
}

impl NodeMetadata {
    /// The text of the metadata field at a dotted path, for a release's setting
    /// that names it; `None` when it is absent, or when the agent computes it
    /// ([`super::fields::COMPUTED`]) from a field of `[database]`. Hosts come as addresses, lists are joined
    /// with commas, and numbers are decimal.
    pub fn setting(&self, path: &str) -> Option<SettingText> {
        if let Some(key) = path.strip_prefix("config.") {
            return self.config.get(key).cloned();
        }
        let secret = |secret: &Option<Secret>| secret.clone().map(SettingText::Secret);
        match path {
            "secrets.auth_secret_seed" => return secret(&self.secrets.auth_secret_seed),
            "secrets.system_key" => return secret(&self.secrets.system_key),
            "report.url" => return self.report_url.clone(),
            "pki.ca" => return secret(&self.pki.ca),
            "pki.certificate" => return secret(&self.pki.certificate),
            "pki.key" => return secret(&self.pki.key),
            "pki.libvirt_spice.ca" => return secret(&self.pki.libvirt_spice.ca),
            "pki.libvirt_spice.certificate" => return secret(&self.pki.libvirt_spice.certificate),
            "pki.libvirt_spice.key" => return secret(&self.pki.libvirt_spice.key),
            _ => {}
        }
        self.plain_setting(path).map(SettingText::Plain)
    }

    fn plain_setting(&self, path: &str) -> Option<String> {
        let Self { node, cluster, .. } = self;
        if let Some(name) = path.strip_prefix("cluster.hosts.") {
            return cluster.hosts.get(name).map(ToString::to_string);
        }
        if let Some(key) = path.strip_prefix("cluster.config.") {
            return self.cluster_config.get(key).map(json_text);
        }
        match path {
            "node.name" => Some(node.name.clone()),
            "node.mesh.address" => text(node.mesh.address),
            "node.mesh.interface" => node.mesh.interface.clone(),
            "node.egress.address" => text(node.egress.address),
            "node.egress.interface" => node.egress.interface.clone(),
            "node.reservations.ram_gb" => text(node.reservations.ram_gb),
            "node.reservations.cpu" => text(node.reservations.cpu),
            "node.reservations.disk_gb" => text(node.reservations.disk_gb),
            "cluster.zone" => cluster.zone.clone(),
            "cluster.network_node" => cluster
                .network_node
                .as_ref()
                .map(|host| host.address.to_string()),
            "cluster.database_nodes" => {
                let all: Vec<String> = cluster
                    .database_nodes
                    .iter()
                    .map(|host| host.address.to_string())
                    .collect();
                (!all.is_empty()).then(|| all.join(","))
            }
            "cluster.floating_network" => text(cluster.floating_network),
            "cluster.dns_server" => text(cluster.dns_server),
            "cluster.max_hypervisor_mtu" => text(cluster.max_hypervisor_mtu),
            "secrets.system_key_name" => Some(self.secrets.system_key_name.clone()),
            "bootstrap.mode" => Some(self.bootstrap_mode.name().to_owned()),
            _ => None,
        }
    }
}

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn json_text(value: &serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
