//! The schema of node metadata as one table: reading, unknown-key errors,
//! `sf-firstboot explain`, the reference page and the examples all come from it.

use crate::secret::is_secret_key;

/// One field, or one family of fields whose last part is data (`config.<KEY>`).
#[derive(Debug)]
pub struct FieldSpec {
    /// Dotted path; a family ends in `<…>`.
    pub path: &'static str,
    /// What a value is.
    pub kind: Kind,
    /// One line for people.
    pub doc: &'static str,
    /// What holds when the field is absent, in words or as a value.
    pub default: Option<&'static str>,
    /// A whole line of TOML as it stands under the field's table header.
    pub example: &'static str,
}

/// What a value is; decides the TOML type and the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Host name, RFC 1123, lower case.
    HostName,
    /// IPv4 address.
    Address,
    /// Name of a network interface.
    Interface,
    /// Whole number, 0 or more, of the unit that the field's name ends in.
    Amount,
    /// One word.
    Word,
    /// A host name of `[cluster.hosts]` or an IPv4 address.
    Host,
    /// List of [`Kind::Host`].
    Hosts,
    /// IPv4 network, `10.0.0.0/24`.
    Network,
    /// MTU in bytes.
    Mtu,
    /// `30s`, `5m`, `1h`.
    Duration,
    /// Data source name of the cluster's database; a secret.
    Dsn,
    /// PEM text, a path, or a reference.
    Pem,
    /// The seed that API tokens are signed with; a secret.
    Seed,
    /// The system namespace's key; a secret.
    SystemKey,
    /// `auto`, `require` or `wait`.
    Mode,
    /// HTTP or HTTPS URL without user or password.
    Url,
    /// Value of a `SHAKENFIST_*` key of this node.
    Config,
    /// Value of a key of the cluster-wide table.
    ClusterConfig,
}

impl Kind {
    /// What to write, for "expected …".
    pub fn wanted(self) -> &'static str {
        match self {
            Self::HostName => "a host name, a string such as \"db1.example.com\"",
            Self::Address => "an IPv4 address, a string such as \"10.0.0.1\"",
            Self::Interface => "an interface's name, a string such as \"eth0\"",
            Self::Amount => "a whole number",
            Self::Word => "a string of letters, digits, '.', '_' and '-'",
            Self::Host => "an IPv4 address or a name of [cluster.hosts], a string",
            Self::Hosts => "a list of IPv4 addresses or names of [cluster.hosts]",
            Self::Network => "an IPv4 network, a string such as \"192.168.20.0/24\"",
            Self::Mtu => "a whole number of bytes, such as 8950",
            Self::Duration => "a duration, a string such as \"30s\" or \"5m\"",
            Self::Dsn | Self::Seed | Self::SystemKey => {
                "a string, { credential = \"name\" } or { file = \"/path\" }"
            }
            Self::Pem => "a path, PEM text, { credential = \"name\" } or { file = \"/path\" }",
            Self::Mode => "\"auto\", \"require\" or \"wait\"",
            Self::Url => "a URL, a string such as \"https://ops.example.com/sf\"",
            Self::Config | Self::ClusterConfig => "a string, a number or true or false",
        }
    }

    /// Is the value never shown, whatever the key's name?
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Dsn | Self::Pem | Self::Seed | Self::SystemKey)
    }
}

const fn field(
    path: &'static str,
    kind: Kind,
    doc: &'static str,
    default: Option<&'static str>,
    example: &'static str,
) -> FieldSpec {
    FieldSpec {
        path,
        kind,
        doc,
        default,
        example,
    }
}

/// All fields, in the order of the reference page.
pub static FIELDS: &[FieldSpec] = &[
    field(
        "node.name",
        Kind::HostName,
        "This node's fully qualified name; its identity in the cluster.",
        None,
        "name = \"hv1.example.com\"",
    ),
    field(
        "node.mesh.address",
        Kind::Address,
        "Address on the network that the nodes use among themselves.",
        None,
        "mesh = { address = \"10.0.0.11\", interface = \"eth1\" }",
    ),
    field(
        "node.mesh.interface",
        Kind::Interface,
        "Interface that carries the mesh address; its MTU must be 2000 or more.",
        None,
        "mesh = { address = \"10.0.0.11\", interface = \"eth1\" }",
    ),
    field(
        "node.egress.address",
        Kind::Address,
        "Address towards the outside.",
        None,
        "egress = { address = \"192.0.2.11\", interface = \"eth0\" }",
    ),
    field(
        "node.egress.interface",
        Kind::Interface,
        "Interface towards the outside.",
        None,
        "egress = { address = \"192.0.2.11\", interface = \"eth0\" }",
    ),
    field(
        "node.reservations.ram_gb",
        Kind::Amount,
        "GiB of memory that instances may not use.",
        Some("the release's own"),
        "reservations = { ram_gb = 4 }",
    ),
    field(
        "node.reservations.cpu",
        Kind::Amount,
        "Processor threads that instances may not use.",
        Some("the release's own"),
        "reservations = { cpu = 2 }",
    ),
    field(
        "node.reservations.disk_gb",
        Kind::Amount,
        "GiB of disk that instances may not use.",
        Some("the release's own"),
        "reservations = { disk_gb = 20 }",
    ),
    field(
        "cluster.zone",
        Kind::Word,
        "Name of the cloud, shown to its users.",
        Some("the release's own"),
        "zone = \"lab\"",
    ),
    field(
        "cluster.network_node",
        Kind::Host,
        "The one node that routes the floating network: its mesh address, or its name in [cluster.hosts].",
        None,
        "network_node = \"10.0.0.2\"",
    ),
    field(
        "cluster.database_nodes",
        Kind::Hosts,
        "Nodes of the database tier: mesh addresses, or names in [cluster.hosts].",
        None,
        "database_nodes = [\"10.0.0.1\"]",
    ),
    field(
        "cluster.floating_network",
        Kind::Network,
        "Network that floating addresses are taken from.",
        Some("the release's own"),
        "floating_network = \"192.168.20.0/24\"",
    ),
    field(
        "cluster.dns_server",
        Kind::Address,
        "Name server that instances are told to use.",
        Some("the release's own"),
        "dns_server = \"9.9.9.9\"",
    ),
    field(
        "cluster.max_hypervisor_mtu",
        Kind::Mtu,
        "Largest MTU of the hypervisors' mesh network.",
        Some("the release's own"),
        "max_hypervisor_mtu = 8950",
    ),
    field(
        "cluster.hosts.<name>",
        Kind::Address,
        "Address of another host, for names that no name server knows; a name with dots stands in quotes.",
        None,
        "hosts = { \"db1.example.com\" = \"10.0.0.1\" }",
    ),
    field(
        "cluster.config.<KEY>",
        Kind::ClusterConfig,
        "A cluster-wide setting, without the SHAKENFIST_ prefix; only keys that the release allows.",
        None,
        "HTTP_PROXY_SERVER = \"http://proxy.example.com:3128\"",
    ),
    field(
        "database.dsn",
        Kind::Dsn,
        "The operator's MariaDB; of several hosts the agent tries one after the other, the daemons get the first. Percent-encode what is special in user and password.",
        None,
        "dsn = \"mysql://sf:PASSWORD@db1.example.com:3306/shakenfist\"",
    ),
    field(
        "database.connect_timeout",
        Kind::Duration,
        "How long one attempt to connect may take, 1s to 5m.",
        Some("10s"),
        "connect_timeout = \"10s\"",
    ),
    field(
        "database.wait",
        Kind::Duration,
        "How long one run waits for the database before it reports it and systemd tries again, 0s to 24h.",
        Some("5m"),
        "wait = \"5m\"",
    ),
    field(
        "pki.ca",
        Kind::Pem,
        "Certificate of the authority that the cluster trusts; the database server's too, unless ssl-ca of the DSN names another.",
        None,
        "ca = { credential = \"sf-ca.pem\" }",
    ),
    field(
        "pki.certificate",
        Kind::Pem,
        "This node's certificate, with its chain.",
        None,
        "certificate = { credential = \"sf-node.pem\" }",
    ),
    field(
        "pki.key",
        Kind::Pem,
        "Private key of the certificate.",
        None,
        "key = { credential = \"sf-node.key\" }",
    ),
    field(
        "pki.libvirt_spice.ca",
        Kind::Pem,
        "Authority of the SPICE consoles. All of `pki.libvirt_spice` is installed on hypervisors and single nodes alone.",
        None,
        "libvirt_spice = { ca = { credential = \"spice-ca.pem\" } }",
    ),
    field(
        "pki.libvirt_spice.certificate",
        Kind::Pem,
        "Certificate of this hypervisor's SPICE consoles.",
        None,
        "libvirt_spice = { certificate = { credential = \"spice.pem\" } }",
    ),
    field(
        "pki.libvirt_spice.key",
        Kind::Pem,
        "Private key of the SPICE certificate.",
        None,
        "libvirt_spice = { key = { credential = \"spice.key\" } }",
    ),
    field(
        "secrets.auth_secret_seed",
        Kind::Seed,
        "What API tokens are signed with, 24 to 128 characters; the same on every node, never changed once set.",
        Some("generated by the bootstrap"),
        "auth_secret_seed = { credential = \"sf-seed\" }",
    ),
    field(
        "secrets.system_key",
        Kind::SystemKey,
        "Key of the system namespace, 8 to 72 bytes; the bootstrap establishes it.",
        None,
        "system_key = { credential = \"sf-system-key\" }",
    ),
    field(
        "secrets.system_key_name",
        Kind::Word,
        "Name of that key.",
        Some("deploy"),
        "system_key_name = \"deploy\"",
    ),
    field(
        "config.<KEY>",
        Kind::Config,
        "A SHAKENFIST_* setting of this node, without the prefix.",
        None,
        "ETCD_HOST = \"10.0.0.1\"",
    ),
    field(
        "bootstrap.mode",
        Kind::Mode,
        "auto: a node of the database tier bootstraps the cluster when nobody has, others wait for it; require: stop unless it has been bootstrapped; wait: never bootstrap from here.",
        Some("auto"),
        "mode = \"auto\"",
    ),
    field(
        "report.url",
        Kind::Url,
        "Where the agent posts its result, if anywhere.",
        None,
        "url = \"https://ops.example.com/sf\"",
    ),
];

/// Names that settings of a release may ask for and that no metadata field
/// holds: the agent computes them.
pub const COMPUTED: [&str; 6] = [
    "cluster.auth_secret_seed",
    "database.host",
    "database.port",
    "database.user",
    "database.password",
    "database.name",
];

impl FieldSpec {
    /// For a family the part before its data (`config.` of `config.<KEY>`).
    pub fn family(&self) -> Option<&'static str> {
        self.path.split_once('<').map(|(prefix, _)| prefix)
    }

    /// Header of the table that [`FieldSpec::example`] stands in.
    pub fn table(&self) -> &'static str {
        let path = self.path;
        for table in [
            "cluster.config",
            "node",
            "cluster",
            "database",
            "pki",
            "secrets",
        ] {
            if let Some(rest) = path.strip_prefix(table)
                && rest.starts_with('.')
            {
                return table;
            }
        }
        path.split('.').next().unwrap_or(path)
    }

    /// Is a value of the field at `path` never shown?
    pub fn is_secret(&self, path: &str) -> bool {
        self.kind.is_secret() || (self.family().is_some() && is_secret_key(path))
    }

    /// Is the text at `path` never shown? Nor is one under a key that no member of
    /// the family can have: it may be a mistyped secret's (`system_ky`).
    pub(super) fn hides(&self, path: &str) -> bool {
        let key = self.family().and_then(|prefix| path.strip_prefix(prefix));
        let is_key = |key| match self.kind {
            Kind::Config | Kind::ClusterConfig => super::rules::config_key(key).is_ok(),
            _ => super::rules::host_name(key).is_ok(),
        };
        self.is_secret(path) || !key.is_none_or(is_key)
    }

    /// An example with its table header, for remedies: `[node]` and a line.
    pub fn example_block(&self) -> String {
        format!("[{}]\n{}", self.table(), self.example)
    }
}

/// The field that a dotted path names, families included.
pub fn find(path: &str) -> Option<&'static FieldSpec> {
    FIELDS.iter().find(|spec| match spec.family() {
        None => spec.path == path,
        Some(prefix) => path.strip_prefix(prefix).is_some_and(|key| !key.is_empty()),
    })
}

/// Can a release's setting take its value from `path`? Not from the fields of
/// `[database]`: the agent takes the DSN apart and offers [`COMPUTED`] names.
pub fn is_setting_source(path: &str) -> bool {
    // A key that no document can set would be asked for in vain.
    let settable = || {
        ["config.", "cluster.config."]
            .iter()
            .find_map(|family| path.strip_prefix(family))
            .is_none_or(|key| super::rules::config_key(key).is_ok())
    };
    let of_field = || find(path).is_some() && !path.starts_with("database.");
    COMPUTED.contains(&path) || (of_field() && settable())
}

/// The first field of a table, or of a table in it.
pub(super) fn first_in(table: &str) -> Option<&'static FieldSpec> {
    FIELDS.iter().find(|spec| {
        spec.path
            .strip_prefix(table)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Do fields stand below this path?
pub fn is_table(path: &str) -> bool {
    FIELDS.iter().any(|spec| {
        spec.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Upper-case words with an underscore or the prefix are settings, not fields.
pub(super) fn is_config_key(key: &str) -> bool {
    key.len() > 2
        && key.contains('_')
        && key
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Is it a word of the schema: something that may be shown as a key even where
/// it is not certain that it is one?
pub(super) fn is_name(word: &str) -> bool {
    word == "schema"
        || matches!(word, "credential" | "file")
        || FIELDS
            .iter()
            .any(|spec| spec.path.split('.').any(|part| part == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_own_path_and_documented() {
        let mut seen = std::collections::BTreeSet::new();
        for spec in FIELDS {
            assert!(seen.insert(spec.path), "{} twice", spec.path);
            let path = spec.path.replace(['<', '>'], "");
            assert!(std::ptr::eq(find(&path).unwrap(), spec), "{path}");
            assert!(spec.doc.ends_with('.'), "{path}");
            assert!(!spec.example.is_empty());
            assert!(is_table(spec.table()), "{path}");
        }
        for path in [
            "node",
            "node.mesh",
            "config.",
            "cluster.config.",
            "nope",
            "",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_release_can_ask_only_for_what_can_be_set() {
        for path in ["config.ETCD_HOST", "node.name", "database.host"] {
            assert!(is_setting_source(path), "{path}");
        }
        for path in [
            "config.A.B",
            "config.a",
            "cluster.config.A B",
            "database.dsn",
            "nope",
        ] {
            assert!(!is_setting_source(path), "{path}");
        }
    }

    #[test]
    fn secrets_are_told_by_kind_or_by_the_key_of_a_family() {
        for (path, secret) in [
            ("database.dsn", true),
            ("pki.key", true),
            ("secrets.system_key", true),
            ("secrets.system_key_name", false),
            ("config.MARIADB_PASSWORD", true),
            ("config.ETCD_HOST", false),
            ("node.name", false),
        ] {
            assert_eq!(find(path).unwrap().is_secret(path), secret, "{path}");
        }
    }
}
