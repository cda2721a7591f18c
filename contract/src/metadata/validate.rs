//! From merged values to [`NodeMetadata`]: every rule is checked, every breach
//! is reported with its place, all in one run. What a node cannot do without is
//! asked of the release, not known here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::checking::Check;
use super::dsn::Dsn;
use super::finding::{Class, Finding};
use super::hints;
use super::merged::{Merged, Resolved, ResolvedField};
use super::node::{
    Attachment, BootstrapMode, Cluster, Database, Host, Node, NodeMetadata, Pki, Reservations,
    Secrets, SpicePki,
};
use super::rules::{self, Wrong};
use super::template::PLACEHOLDER;
use super::value::{SettingText, Value, may_be_shown, shown};
use super::{release_rules, rules::duration};
use crate::problem::Problem;
use crate::release::Release;
use crate::role::Role;
use crate::secret::Secret;

/// What the metadata must fit: the image that the node runs.
#[derive(Clone, Copy, Debug)]
pub struct Target<'r> {
    /// Role of the image.
    pub role: Role,
    /// Release in the image.
    pub release: &'r Release,
}

/// The verdict on a node's metadata.
#[derive(Clone, Debug)]
pub struct Checked {
    /// There when nothing at all is wrong.
    pub metadata: Option<NodeMetadata>,
    /// What is wrong with the sources, the references, the values: first what
    /// keeps a document from being read, then in the order of the text.
    pub problems: Vec<Finding>,
    /// What is allowed but unlikely to be meant.
    pub warnings: Vec<Finding>,
}

/// Checks everything and reports everything. `resolved` is what
/// [`Merged::resolve`] made of `merged`.
pub fn check(merged: &Merged, resolved: &Resolved, target: Target<'_>) -> Checked {
    let (filled, unfilled) = resolved.without_placeholders();
    let mut check = Check {
        merged,
        resolved: &filled,
        target,
        whole: merged
            .problems()
            .iter()
            .all(|finding| !finding.problem.field.is_empty()),
        problems: unfilled.iter().map(not_filled_in).collect(),
        warnings: Vec::new(),
    };
    let metadata = check.metadata();
    release_rules::check(&mut check, metadata.as_ref());
    let Check {
        problems: found,
        warnings,
        ..
    } = check;
    let mut problems = merged.problems().to_vec();
    problems.extend_from_slice(resolved.problems());
    problems.extend(found);
    merged.put_in_order(&mut problems);
    Checked {
        metadata: metadata.filter(|_| problems.is_empty()),
        problems,
        warnings,
    }
}

/// A value of a template that nobody has replaced.
fn not_filled_in((path, field): &(String, ResolvedField)) -> Finding {
    Finding {
        class: Class::Value,
        problem: Problem {
            source: field.place.origin.name.clone(),
            field: path.clone(),
            span: field.place.span.clone(),
            message: format!("is still the template's {PLACEHOLDER:?}"),
            hint: Some(format!("write {}", field.spec.kind.wanted())),
        },
    }
}

impl Check<'_> {
    fn metadata(&mut self) -> Option<NodeMetadata> {
        let node = self.node();
        let cluster = self.cluster(&node);
        let database = self.database();
        let secrets = self.secrets();
        let pki = self.pki();
        let config = self.config();
        let bootstrap_mode = self
            .rule("bootstrap.mode", |text| {
                BootstrapMode::ALL
                    .into_iter()
                    .find(|mode| mode.name() == text)
                    .ok_or_else(|| {
                        Wrong::hint(
                            format!("{} is not a mode", shown(text)),
                            "write \"auto\", \"require\" or \"wait\"",
                        )
                    })
            })
            .unwrap_or_default();
        let report_url = self.discreet_rule("report.url", rules::url).map(|url| {
            if may_be_shown(&url) {
                SettingText::Plain(url)
            } else {
                SettingText::Secret(Secret::new(url))
            }
        });
        // Judged before a DSN that is not there ends this.
        let cluster_config = self.cluster_config();
        let mut metadata = NodeMetadata {
            node,
            cluster,
            database: database?,
            pki,
            secrets,
            config,
            cluster_config: BTreeMap::new(),
            bootstrap_mode,
            report_url,
        };
        metadata.cluster_config = self.cluster_wide(&metadata);
        metadata.cluster_config.extend(cluster_config);
        Some(metadata)
    }

    fn node(&mut self) -> Node {
        let name = self.rule("node.name", rules::host_name).unwrap_or_default();
        if !name.is_empty() && !name.contains('.') {
            self.warn(
                "node.name",
                format!("{} has no domain", shown(&name)),
                "the name is this node's identity in the cluster; write it fully qualified",
            );
        }
        let mesh = self.attachment("node.mesh");
        if mesh.address.is_some_and(|address| address.is_loopback()) {
            self.warn(
                "node.mesh.address",
                "is a loopback address, which no other node can reach",
                "give the address on the network that the nodes share",
            );
        }
        Node {
            name,
            mesh,
            egress: self.attachment("node.egress"),
            reservations: Reservations {
                ram_gb: self.amount("node.reservations.ram_gb", 0, 1 << 20),
                cpu: self.amount("node.reservations.cpu", 0, 1 << 16),
                disk_gb: self.amount("node.reservations.disk_gb", 0, 1 << 24),
            },
        }
    }

    fn attachment(&mut self, path: &str) -> Attachment {
        Attachment {
            address: self.rule(&format!("{path}.address"), rules::address),
            interface: self.rule(&format!("{path}.interface"), rules::interface),
        }
    }

    fn cluster(&mut self, node: &Node) -> Cluster {
        let hosts = self.hosts();
        let whole = self.whole;
        let lookup = |text: &str| -> Result<Option<Host>, Wrong> {
            let written = text.to_owned();
            if let Ok(address) = text.parse::<Ipv4Addr>() {
                rules::address(text)?;
                return Ok(Some(Host { written, address }));
            }
            let name = rules::host_name(text)?;
            let own = node.mesh.address.filter(|_| name == node.name);
            match hosts.get(&name).copied().or(own) {
                Some(address) => Ok(Some(Host { written, address })),
                None if !whole => Ok(None),
                None => Err(Wrong::hint(
                    format!("{} is not a name of [cluster.hosts]", shown(text)),
                    format!(
                        "write the address itself, or add it under [cluster.hosts]: \"{name}\" = \"10.0.0.1\""
                    ),
                )),
            }
        };
        let network_node = self.rule("cluster.network_node", lookup).flatten();
        let mut database_nodes = Vec::new();
        if let Some(ResolvedField {
            value: Value::List(items),
            ..
        }) = self.resolved.get("cluster.database_nodes")
        {
            for item in items {
                match lookup(item) {
                    Ok(host) => database_nodes.extend(host),
                    Err(wrong) => self.wrong("cluster.database_nodes", wrong),
                }
            }
        }
        Cluster {
            zone: self.rule("cluster.zone", rules::word),
            network_node,
            database_nodes,
            floating_network: self.rule("cluster.floating_network", rules::network),
            dns_server: self.rule("cluster.dns_server", rules::address),
            max_hypervisor_mtu: self.amount("cluster.max_hypervisor_mtu", 1280, 65_535),
            hosts,
        }
    }

    fn hosts(&mut self) -> BTreeMap<String, Ipv4Addr> {
        let mut hosts = BTreeMap::new();
        for (path, name) in self.family("cluster.hosts.") {
            if let Err(mut wrong) = rules::host_name(&name) {
                // A field whose own table has no header.
                wrong.hint = hints::other_table(&name).or(wrong.hint);
                self.wrong(&path, wrong);
            } else if let Some(address) = self.rule(&path, rules::address) {
                hosts.insert(name, address);
            }
        }
        hosts
    }

    fn database(&mut self) -> Option<Database> {
        let second = Duration::from_secs(1);
        let minute = 60 * second;
        let connect_timeout = self
            .rule("database.connect_timeout", |text| {
                duration(text, second, 5 * minute)
            })
            .unwrap_or(10 * second);
        let wait = self
            .rule("database.wait", |text| {
                duration(text, Duration::ZERO, 24 * 60 * minute)
            })
            .unwrap_or(5 * minute);
        let dsn = self.discreet_rule("database.dsn", |text| {
            // The error never shows the text (its own promise, tested there).
            text.parse::<Dsn>()
                .map_err(|error| Wrong::new(error.to_string()))
        });
        Some(Database {
            dsn: dsn?,
            connect_timeout,
            wait,
        })
    }

    fn secrets(&mut self) -> Secrets {
        let secret = |rule: fn(&str) -> Result<(), Wrong>| {
            move |text: &str| rule(text).map(|()| Secret::new(text))
        };
        Secrets {
            auth_secret_seed: self.discreet_rule("secrets.auth_secret_seed", secret(rules::seed)),
            system_key: self.discreet_rule("secrets.system_key", secret(rules::system_key)),
            system_key_name: self
                .rule("secrets.system_key_name", rules::word)
                .unwrap_or_else(|| "deploy".into()),
        }
    }

    fn pki(&mut self) -> Pki {
        let (ca, certificate, key) = self.pem_items("pki");
        let spice = self.pem_items("pki.libvirt_spice");
        Pki {
            ca,
            certificate,
            key,
            libvirt_spice: SpicePki {
                ca: spice.0,
                certificate: spice.1,
                key: spice.2,
            },
        }
    }

    fn pem_items(&mut self, table: &str) -> (Option<Secret>, Option<Secret>, Option<Secret>) {
        let path = |item: &str| format!("{table}.{item}");
        let is_set = |item: &str| self.resolved.is_set(&path(item));
        if is_set("certificate") != is_set("key") {
            let (there, absent) = if is_set("key") {
                ("key", "certificate")
            } else {
                ("certificate", "key")
            };
            let wrong = Wrong::hint(
                format!("is of no use without {}", path(absent)),
                format!("give {} as well", path(absent)),
            );
            if !self.is_mistaken(&path(absent)) {
                self.missing(&path(there), wrong);
            }
        }
        let certificate = |text: &str| rules::pem(text, false);
        (
            self.discreet_rule(&path("ca"), certificate),
            self.discreet_rule(&path("certificate"), certificate),
            self.discreet_rule(&path("key"), |text| rules::pem(text, true)),
        )
    }

    fn config(&mut self) -> BTreeMap<String, SettingText> {
        let mut config = BTreeMap::new();
        for (path, key) in self.family("config.") {
            if let Err(wrong) = rules::config_key(&key) {
                self.wrong(&path, wrong);
                continue;
            }
            let forbidden = self.target.release.forbidden_in_config.as_str();
            let Some(field) = self.resolved.get(&path) else {
                continue;
            };
            let text = match &field.value {
                Value::Secret(secret) => SettingText::Secret(secret.clone()),
                Value::Boolean(flag) => {
                    SettingText::Plain(if *flag { "True" } else { "False" }.into())
                }
                Value::Integer(number) => SettingText::Plain(number.to_string()),
                Value::Text(text) | Value::Float(text) => SettingText::Plain(text.clone()),
                Value::List(_) | Value::Reference(_) => continue,
            };
            match rules::config_value(text.expose(), forbidden) {
                Ok(()) => {
                    config.insert(key, text);
                }
                Err(wrong) => self.wrong_value(&path, wrong),
            }
        }
        config
    }

    /// What the release keeps in its cluster-wide table and makes from `[cluster]`.
    fn cluster_wide(&self, metadata: &NodeMetadata) -> BTreeMap<String, serde_json::Value> {
        let mut values = BTreeMap::new();
        for (key, path) in release_rules::cluster_wide(self.target.release) {
            let value = match path {
                "cluster.max_hypervisor_mtu" => metadata.cluster.max_hypervisor_mtu.map(Into::into),
                _ => metadata.setting(path).map(|text| text.expose().into()),
            };
            if let Some(value) = value {
                values.insert(key.to_owned(), value);
            }
        }
        values
    }

    /// `[cluster.config]`: what else the operator sets in that table.
    fn cluster_config(&mut self) -> BTreeMap<String, serde_json::Value> {
        let mut values = BTreeMap::new();
        for (path, key) in self.family("cluster.config.") {
            if let Err(wrong) = rules::config_key(&key) {
                self.wrong(&path, wrong);
                continue;
            }
            let Some(field) = self.resolved.get(&path) else {
                continue;
            };
            let value = match &field.value {
                Value::Text(text) => text.as_str().into(),
                Value::Integer(number) => (*number).into(),
                Value::Float(text) => text.parse::<f64>().unwrap_or_default().into(),
                Value::Boolean(flag) => (*flag).into(),
                Value::Secret(_) | Value::List(_) | Value::Reference(_) => {
                    self.wrong(
                        &path,
                        Wrong::hint(
                            "is a secret, which the cluster-wide table must not hold",
                            "the seed stands in secrets.auth_secret_seed; give a proxy without user and password",
                        ),
                    );
                    continue;
                }
            };
            match release_rules::allowed(self.target.release, &key) {
                Ok(()) => {
                    values.insert(key, value);
                }
                Err(wrong) => self.wrong(&path, wrong),
            }
        }
        values
    }
}
