//! The real agent, run as an operator runs it: `sf-firstboot bootstrap-cluster`.

use std::path::PathBuf;
use std::time::Duration;

use sf_command::{Child, Cmd};
use sf_contract::secret::Secret;

use super::lot::Runs;
use super::metadata::KEY;

/// The image that the agents believe to run in.
const MANIFEST: &str = r#"{
    "schema": 1, "image_id": "sf-database-tier", "image_version": "0.7.2-1",
    "profile": "database-tier", "profile_digest": "0", "role": "database-tier",
    "debug": false, "release": "0.7", "shakenfist_version": "0.7.2", "series": "0.7",
    "predecessor": "0.6", "schema_versions": {}, "daemons": [], "ports": [],
    "required_metadata": [], "tools": {}, "source_commit": null
}"#;

/// The operations that the metadata of [`Agent::new`] calls for.
pub(crate) const OPERATIONS: [&str; 7] = [
    "auth-secret-seed",
    "cluster-series",
    "config/DNS_SERVER",
    "config/FLOATING_NETWORK",
    "config/MAX_HYPERVISOR_MTU",
    "key/system/deploy",
    "namespace/system",
];

/// A node with its metadata, before it is started.
pub(crate) struct Agent {
    folder: tempfile::TempDir,
}

impl Agent {
    /// A database-tier node of that name.
    pub(crate) fn new(fqdn: &str, dsn: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metadata = format!(
            "schema = 1\n\
             [node]\n\
             name = \"{fqdn}\"\n\
             mesh = {{ address = \"10.0.0.1\", interface = \"eth1\" }}\n\
             egress = {{ address = \"10.1.0.1\", interface = \"eth0\" }}\n\
             [cluster]\n\
             network_node = \"10.0.0.2\"\n\
             floating_network = \"10.2.0.0/24\"\n\
             dns_server = \"9.9.9.9\"\n\
             max_hypervisor_mtu = 8950\n\
             [database]\n\
             dsn = \"{dsn}\"\n\
             wait = \"280s\"\n\
             [secrets]\n\
             system_key = \"{KEY}\"\n\
             [config]\n\
             ETCD_HOST = \"10.0.0.9\"\n"
        );
        let agent = Self { folder };
        std::fs::create_dir(agent.path("root")).unwrap();
        std::fs::write(agent.path("manifest.json"), MANIFEST).unwrap();
        std::fs::write(agent.path("metadata.toml"), metadata).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(agent.path("metadata.toml"), private).unwrap();
        agent
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command, with an empty log.
    pub(crate) fn command(&self) -> Cmd {
        std::fs::write(self.path("log"), "").unwrap();
        let release = concat!(env!("CARGO_MANIFEST_DIR"), "/../releases/0.7/release.toml");
        Cmd::path(env!("CARGO_BIN_EXE_sf-firstboot"))
            .arg("--root")
            .arg(self.path("root"))
            .args(["bootstrap-cluster", "--json", "--metadata"])
            .arg(self.path("metadata.toml"))
            .arg("--manifest")
            .arg(self.path("manifest.json"))
            .args(["--release-descriptor", release])
            .timeout(Duration::from_mins(5))
            .log_to(self.path("log"))
    }

    /// The operations in the report of a run that ended well, each with what
    /// became of it.
    pub(crate) fn operations(&self) -> Vec<(String, String)> {
        let log = self.log();
        let json = &log[log.find("{\n").expect("a report")..];
        let report: serde_json::Value = serde_json::Deserializer::from_str(json)
            .into_iter()
            .next()
            .unwrap()
            .unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        report["operations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|operation| (text(&operation["name"]), text(&operation["outcome"])))
            .collect()
    }

    /// What a started agent wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Runs for Agent {
    fn start(&self) -> Child {
        self.command().spawn().unwrap()
    }

    fn log(&self) -> String {
        self.log()
    }
}

/// Does a stored key belong to a secret, by the C library's bcrypt rather than
/// by the agent's?
pub(crate) fn verified_elsewhere(secret: &Secret, stored: &str) -> bool {
    use base64::Engine as _;
    let hash = base64::engine::general_purpose::STANDARD
        .decode(stored)
        .unwrap();
    let hash = String::from_utf8(hash).unwrap();
    let script = "chomp(my $s = <STDIN>); chomp(my $h = <STDIN>); print crypt($s, $h)";
    let found = Cmd::path("/usr/bin/perl")
        .args(["-e", script])
        .stdin(format!("{}\n{hash}\n", secret.expose()))
        .run()
        .unwrap()
        .text();
    found.trim() == hash
}
