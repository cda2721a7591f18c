//! Sources on real files under a temporary root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sf_contract::metadata::Target;
use sf_contract::release::{self, Release};
use sf_contract::role::Role;
use tempfile::TempDir;

use super::*;

mod broken;
mod clouds;
mod drives;
mod fetching;
mod redaction;
mod server;
mod trust;

const GOOD: &str = r#"schema = 1
[node]
name = "hv1.example.com"
mesh = { address = "10.0.0.11", interface = "eth1" }
egress = { address = "192.0.2.11", interface = "eth0" }
[cluster]
network_node = "10.0.0.2"
[database]
dsn = "mysql://sf:S3CR3T@db1.example.com:3306/shakenfist"
[config]
ETCD_HOST = "10.0.0.1"
"#;

fn release() -> Release {
    let path = "releases/0.7/release.toml";
    // Tests run in the crate's folder.
    let text = fs::read_to_string(Path::new("..").join(path)).unwrap();
    release::read("0.7", path, &text).unwrap()
}

/// A machine: a root and a credentials folder.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("credentials")).unwrap();
        Self { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder
            .path()
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn credential(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.folder.path().join("credentials").join(name), content).unwrap();
        self
    }

    fn places(&self) -> Places {
        Places::under(self.folder.path().join("root"))
            .credentials(self.folder.path().join("credentials"))
    }

    fn load(&self) -> Result<Loaded, Box<Rejected>> {
        load(&collect(&self.places()))
    }

    /// The only failure there is, as `CODE what | source | remedy`.
    fn failure(&self) -> String {
        let rejected = self.load().unwrap_err();
        assert_eq!(rejected.failures.len(), 1, "{:#?}", rejected.failures);
        self.line(&rejected.failures[0])
    }

    fn line(&self, failure: &Failure) -> String {
        let mut what = failure.what.clone();
        for cause in &failure.causes {
            what = format!("{what}: {cause}");
        }
        format!(
            "{} {what} | {} | {}",
            failure.code.id,
            failure.source.as_deref().unwrap_or_default(),
            failure.remedy_text()
        )
        .replace(self.folder.path().to_str().unwrap(), "TMP")
    }
}

fn load(collected: &Collected) -> Result<Loaded, Box<Rejected>> {
    let release = release();
    collected.load(Target {
        role: Role::Hypervisor,
        release: &release,
    })
}

#[test]
fn the_table_of_sources_is_that_of_precedence() {
    let layers: Vec<Layer> = SOURCES.iter().map(|(layer, _)| *layer).collect();
    assert_eq!(layers, Layer::ALL);
    let machine = Machine::new();
    for (layer, look) in SOURCES {
        let looked = match look {
            Look::Here(look) => look(&machine.places()),
            Look::Waiting(look) => look(&machine.places(), &mut |_| {}),
        };
        assert!(looked.iter().all(|place| place.layer == layer));
    }
}

#[test]
fn nothing_anywhere_lists_every_place_and_shows_what_works() {
    let machine = Machine::new();
    insta::assert_snapshot!(machine.failure(), @r#"
    SF-META-MISSING no metadata was found for this node of role hypervisor: looked at credentials sf.<field>: no such credential: looked at credential sf.metadata: no such credential: looked at /etc/sf/metadata.d/*.toml: no such folder: looked at /etc/sf/metadata.toml: no such file: looked at NoCloud drive cidata: no file system has the label cidata or CIDATA: looked at OpenStack config drive config-2: no file system has the label config-2 or CONFIG-2: looked at sf.metadata_url: it is neither on the kernel command line nor a credential: looked at cloud metadata service: by its DMI this machine is in none of the clouds EC2, OpenStack, GCE, Azure |  | Give it the credential sf.metadata, or write /etc/sf/metadata.toml, mode 0600; the shortest that works:

    schema = 1

    [node]
    name = "hv1.example.com"
    mesh = { address = "10.0.0.11", interface = "eth1" }
    egress = { address = "192.0.2.11", interface = "eth0" }

    [cluster]
    network_node = "10.0.0.2"

    [database]
    dsn = "mysql://sf:PASSWORD@db1.example.com:3306/shakenfist"

    [config]
    ETCD_HOST = "10.0.0.1"
    "#);
    let none = collect(&Places::under(machine.path("/")));
    let failure = load(&none).unwrap_err().summary();
    assert!(
        failure.causes[1].contains("$CREDENTIALS_DIRECTORY is not set"),
        "{failure:?}"
    );
    assert_eq!(failure.kind().exit_code(), 78);
}

#[test]
fn the_example_of_the_failure_works() {
    let machine = Machine::new();
    let failure = machine.load().unwrap_err().summary();
    let remedy = failure.remedy_text();
    let example = &remedy[remedy.find("schema = 1").unwrap()..];
    Machine::new().file(FILE, example).load().unwrap();
}

#[test]
fn each_source_is_read_and_the_strongest_wins() {
    let mut machine = Machine::new();
    let mut found = Vec::new();
    let name = |name: &str| format!("schema = 1\nnode.name = \"{name}.example.com\"\n");
    let extra = machine.folder.path().join("extra.toml");
    fs::write(&extra, name("line")).unwrap();
    let steps: [fn(Machine, String) -> Machine; 6] = [
        |machine, _| machine.file(FILE, GOOD),
        |machine, text| machine.file("/etc/sf/metadata.d/10-a.toml", text),
        |machine, text| machine.file("/etc/sf/metadata.d/20-b.toml", text),
        |machine, text| machine.credential("sf.metadata", text),
        |machine, _| machine.credential("sf.node.name", "field.example.com\n"),
        |machine, _| machine,
    ];
    for (step, word) in steps
        .into_iter()
        .zip(["file", "ten", "twenty", "whole", "field", "line"])
    {
        machine = step(machine, name(word));
        let mut places = machine.places();
        if word == "line" {
            places = places.command_line(vec![extra.clone()]);
        }
        let collected = collect(&places);
        let loaded = load(&collected).unwrap();
        let place = collected.merged.place("node.name").unwrap();
        let place = place.replace(machine.folder.path().to_str().unwrap(), "TMP");
        found.push(format!("{} from {place}", loaded.metadata.node.name));
    }
    insta::assert_snapshot!(found.join("\n"), @r#"
    hv1.example.com from /etc/sf/metadata.toml:3
    ten.example.com from /etc/sf/metadata.d/10-a.toml:2
    twenty.example.com from /etc/sf/metadata.d/20-b.toml:2
    whole.example.com from credential sf.metadata:2
    field.example.com from credential sf.node.name
    line.example.com from TMP/extra.toml:2
    "#);
}

#[test]
fn secrets_that_everybody_can_read_are_warned_about() {
    let expose = |machine: &Machine, path: &str| {
        fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o644)).unwrap();
    };
    let machine = Machine::new().file(FILE, GOOD);
    assert!(machine.load().unwrap().warnings.is_empty());
    expose(&machine, FILE);
    let warnings = machine.load().unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        machine.line(&warnings[0]),
        "SF-META-EXPOSED /etc/sf/metadata.toml can be read by every user, and it holds secrets | /etc/sf/metadata.toml | chmod 0600 /etc/sf/metadata.toml"
    );

    let text = format!("{GOOD}[secrets]\nsystem_key = {{ file = \"/k\" }}\n[pki]\nca = \"/ca\"\n")
        .replace(
            "\"mysql://sf:S3CR3T@db1.example.com:3306/shakenfist\"",
            "{ file = \"/d\" }",
        );
    let machine = Machine::new()
        .file(FILE, text)
        .file("/d", "mysql://sf:S3CR3T@db1/sf")
        .file("/k", "S3CR3TS3CR3T")
        .file("/ca", "-----BEGIN CERTIFICATE-----\n");
    for path in [FILE, "/k", "/ca"] {
        expose(&machine, path);
    }
    let warnings = machine.load().unwrap().warnings;
    let shown: Vec<&str> = warnings
        .iter()
        .map(|warning| warning.what.as_str())
        .collect();
    assert_eq!(
        shown,
        ["/k can be read by every user, and secrets.system_key is in it"]
    );
}

#[test]
fn strangers_among_the_credentials_are_warned_about() {
    let machine = Machine::new()
        .file(FILE, GOOD)
        .credential("sf.something-else-altogether", "S3CR3T")
        .credential("ssh.authorized_keys.root", "x");
    let warnings = machine.load().unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(
        warnings[0].source.as_deref(),
        Some("credential sf.something-else-altogether")
    );
}

#[test]
fn explain_works_on_what_was_rejected() {
    let machine = Machine::new()
        .file(FILE, "schema = 1\n[database]\ndsn = \"S3CR3T\"\n[nodes]\n")
        .credential("sf.database.dsn", "S3CR3T");
    let collected = collect(&machine.places());
    assert!(load(&collected).is_err());
    let shown = collected.explain(Some("database.dsn")).unwrap()[0].to_string();
    assert!(
        shown.contains("from      credential sf.database.dsn"),
        "{shown}"
    );
    assert!(
        shown.contains("shadowed  /etc/sf/metadata.toml:3 = ******"),
        "{shown}"
    );
    let failure = collected.explain(Some("databse.dsn")).unwrap_err();
    assert_eq!(
        machine.line(&failure),
        "SF-USAGE there is no metadata field \"databse.dsn\" |  | Did you mean database.dsn?"
    );
}

#[test]
fn the_digest_changes_with_values_and_keys_and_not_with_sources() {
    let key = [7_u8; 32];
    let digest = |machine: &Machine| machine.load().unwrap().digest(&key);
    let file = Machine::new().file(FILE, GOOD);
    let base = digest(&file);
    assert_eq!(base.len(), 64);
    assert_eq!(digest(&file), base);
    assert_eq!(
        digest(&Machine::new().credential("sf.metadata", GOOD)),
        base
    );
    assert_ne!(file.load().unwrap().digest(&[8; 32]), base);
    for (from, to) in [
        ("S3CR3T", "S3CR3S"),
        ("10.0.0.11", "10.0.0.12"),
        (
            "ETCD_HOST = \"10.0.0.1\"",
            "ETCD_HOST = \"10.0.0.1\"\nX = \"1\"",
        ),
    ] {
        assert_ne!(
            digest(&Machine::new().file(FILE, GOOD.replace(from, to))),
            base,
            "{to}"
        );
    }
    // Where one value ends and the next begins counts too.
    let config = |lines: &str| digest(&Machine::new().file(FILE, format!("{GOOD}{lines}\n")));
    assert_ne!(config("X = \"1config.Y2\""), config("X = \"1\"\nY = \"2\""));
    // A referred secret counts by what it is, not by where.
    let text = GOOD.replace(
        "\"mysql://sf:S3CR3T@db1.example.com:3306/shakenfist\"",
        "{ credential = \"d\" }",
    );
    let with = |dsn: &str| Machine::new().file(FILE, &text).credential("d", dsn);
    assert_eq!(
        digest(&with("mysql://sf:S3CR3T@db1.example.com:3306/shakenfist\n")),
        base
    );
    assert_ne!(
        digest(&with("mysql://sf:S3CR3S@db1.example.com:3306/shakenfist\n")),
        base
    );
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn nothing_panics_on_bytes_in_any_source(
        document in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        field in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
    ) {
        let machine = Machine::new()
            .file(FILE, &document)
            .file("/etc/sf/metadata.d/a.toml", [b"schema = 1\n".as_slice(), &document].concat())
            .file("/proc/cmdline", [b"sf.metadata_url=".as_slice(), &document].concat())
            .file("/dev/disk/by-label/cidata", &document)
            .credential("sf.metadata_ca", &field)
            .credential("sf.metadata", &document)
            .credential("sf.database.dsn", &field)
            .credential("sf.cluster.database_nodes", &field);
        let collected = collect(&machine.places());
        let _ = load(&collected).map_err(|rejected| format!("{}{}", rejected.summary(), rejected.frames));
        collected.explain(None).unwrap();
    }
}
