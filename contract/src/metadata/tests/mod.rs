//! The stages together, against the release that images carry.

mod broken;
mod desk;
mod merging;
mod properties;
mod redaction;
mod values;

use crate::metadata::{
    Checked, Fragment, Layer, Merged, Origin, Reference, Resolved, Target, check, fields, merge,
};
use crate::release::{self, Release};
use crate::role::Role;
use crate::secret::Secret;

pub(super) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The real descriptor.
pub(super) fn release() -> Release {
    release_named("0.7").unwrap()
}

pub(super) fn release_named(name: &str) -> Option<Release> {
    let path = format!("{ROOT}/releases/{name}/release.toml");
    let text = std::fs::read_to_string(path).ok()?;
    Some(release::read(name, "release.toml", &text).unwrap())
}

pub(super) fn file(text: &str) -> Fragment {
    Fragment::read(Origin::new(Layer::File, 0, "metadata.toml"), text)
}

/// References resolve to something that is right for their name.
pub(super) fn resolve(merged: &Merged) -> Resolved {
    merged.resolve(|field, reference| {
        let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----");
        Ok(match (field, reference) {
            ("database.dsn", _) => Secret::new("mysql://sf:canary-pw@db1.example.com/sf"),
            (field, Reference::File(_) | Reference::Credential(_)) if field.starts_with("pki.") => {
                Secret::new(pem(if field.ends_with("key") {
                    "PRIVATE KEY"
                } else {
                    "CERTIFICATE"
                }))
            }
            _ => Secret::new("0123456789abcdef0123456789abcdef"),
        })
    })
}

pub(super) fn checked(text: &str, role: Role) -> (Merged, Checked) {
    let merged = merge([file(text)]);
    let resolved = resolve(&merged);
    let release = release();
    let checked = check(
        &merged,
        &resolved,
        Target {
            role,
            release: &release,
        },
    );
    (merged, checked)
}

/// All problems of a document as lines.
pub(super) fn problems(text: &str, role: Role) -> Vec<String> {
    let (_, checked) = checked(text, role);
    assert_eq!(checked.metadata.is_none(), !checked.problems.is_empty());
    checked
        .problems
        .iter()
        .map(|finding| finding.problem.to_string())
        .collect()
}

/// Valid for a hypervisor of 0.7.
pub(super) const GOOD: &str = r#"schema = 1
[node]
name = "hv1.example.com"
mesh = { address = "10.0.0.11", interface = "eth1" }
egress = { address = "192.0.2.11", interface = "eth0" }
[cluster]
network_node = "10.0.0.2"
[database]
dsn = "mysql://sf:canary-pw@db1.example.com:3306/shakenfist"
[config]
ETCD_HOST = "10.0.0.1"
"#;

#[test]
fn the_examples_are_valid_for_their_roles() {
    for (name, role) in [
        ("database-tier", Role::DatabaseTier),
        ("hypervisor", Role::Hypervisor),
        ("network", Role::Network),
    ] {
        let path = format!("{ROOT}/examples/metadata/{name}.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let (_, checked) = checked(&text, role);
        assert_eq!(checked.problems, [], "{name}");
        assert_eq!(checked.warnings, [], "{name}");
        let lines = text
            .lines()
            .filter(|line| {
                !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with('[')
            })
            .count();
        assert!(lines <= 10, "{name} has {lines} lines");
    }
}

#[test]
fn the_shortest_example_works_for_every_role_and_release() {
    for name in ["0.7", "develop"] {
        let Some(release) = release_named(name) else {
            assert_eq!(name, "develop");
            continue;
        };
        for role in Role::ALL {
            let text = crate::metadata::example::shortest(&release, role);
            let merged = merge([file(&text)]);
            let resolved = resolve(&merged);
            let checked = check(
                &merged,
                &resolved,
                Target {
                    role,
                    release: &release,
                },
            );
            assert_eq!(checked.problems, [], "{name} {role}:\n{text}");
        }
    }
    insta::assert_snapshot!(crate::metadata::example::shortest(&release(), Role::Hypervisor), @r#"
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
}

#[test]
fn the_example_line_of_every_field_is_read_as_that_field() {
    for spec in crate::metadata::fields::FIELDS {
        let fragment = file(&format!("schema = 1\n{}\n", spec.example_block()));
        assert_eq!(fragment.problems, [], "{}", spec.path);
        let prefix = spec.path.split('<').next().unwrap();
        assert!(
            fragment
                .entries
                .iter()
                .any(|entry| entry.path.starts_with(prefix)),
            "{}: {:?}",
            spec.path,
            fragment.entries
        );
    }
}

#[test]
fn a_good_document_becomes_typed_metadata() {
    let (merged, checked) = checked(
        &format!(
            "{GOOD}EXTRA = true\nNUMBER = 5\nRATIO = 1.5\nAPI_TOKEN = \"canary-token\"\n{}",
            "[cluster.hosts]\n\"db1.example.com\" = \"10.0.0.1\"\n[cluster.config]\nCPU_OVERCOMMIT_RATIO = 16.5\n\
             HTTP_PROXY_SERVER = \"http://proxy:3128\"\n[secrets]\nsystem_key = { credential = \"k\" }\n\
             [bootstrap]\nmode = \"wait\"\n[report]\nurl = \"https://ops.example.com/x?y=1\"\n"
        ),
        Role::Hypervisor,
    );
    assert_eq!(checked.problems, []);
    let metadata = checked.metadata.unwrap();
    for (path, text) in [
        ("node.name", Some("hv1.example.com")),
        ("node.mesh.address", Some("10.0.0.11")),
        ("node.egress.interface", Some("eth0")),
        ("cluster.network_node", Some("10.0.0.2")),
        ("cluster.hosts.db1.example.com", Some("10.0.0.1")),
        ("cluster.config.CPU_OVERCOMMIT_RATIO", Some("16.5")),
        (
            "cluster.config.HTTP_PROXY_SERVER",
            Some("http://proxy:3128"),
        ),
        ("config.ETCD_HOST", Some("10.0.0.1")),
        ("config.EXTRA", Some("True")),
        ("config.NUMBER", Some("5")),
        ("config.RATIO", Some("1.5")),
        ("config.API_TOKEN", Some("canary-token")),
        (
            "secrets.system_key",
            Some("0123456789abcdef0123456789abcdef"),
        ),
        ("secrets.system_key_name", Some("deploy")),
        ("bootstrap.mode", Some("wait")),
        ("cluster.zone", None),
        ("database.host", None),
    ] {
        let found = metadata.setting(path);
        assert_eq!(
            found.as_ref().map(super::SettingText::expose),
            text,
            "{path}"
        );
    }
    assert_eq!(metadata.database.wait.as_secs(), 300);
    assert!(!format!("{metadata:?}").contains("canary"), "{metadata:?}");
    assert_eq!(merged.place("node.name").unwrap(), "metadata.toml:3");
    assert_eq!(
        merged.place("node.mesh.address").unwrap(),
        "metadata.toml:4"
    );
}

#[test]
fn every_field_that_a_release_may_ask_for_can_be_had() {
    let mut text = vec!["schema = 1".to_owned()];
    let mut tables: Vec<&str> = Vec::new();
    for spec in fields::FIELDS {
        if !tables.contains(&spec.table()) {
            tables.push(spec.table());
        }
    }
    for table in tables {
        text.push(format!("[{table}]"));
        let mut lines: Vec<&str> = fields::FIELDS
            .iter()
            .filter(|spec| spec.table() == table)
            .map(|spec| spec.example)
            .collect();
        lines.dedup();
        // One key of `{ … }` a line in the examples; dotted keys add them up.
        for line in lines {
            match line.split_once(" = { ") {
                Some((key @ ("reservations" | "libvirt_spice"), rest)) => {
                    let rest = rest.strip_suffix(" }").unwrap();
                    text.push(format!("{key}.{rest}"));
                }
                _ => text.push(line.to_owned()),
            }
        }
    }
    let (_, checked) = checked(&text.join("\n"), Role::DatabaseTier);
    assert_eq!(checked.problems, [], "{text:?}");
    let metadata = checked.metadata.unwrap();
    for spec in fields::FIELDS {
        let path = match spec.path {
            "cluster.hosts.<name>" => "cluster.hosts.db1.example.com",
            "cluster.config.<KEY>" => "cluster.config.HTTP_PROXY_SERVER",
            "config.<KEY>" => "config.ETCD_HOST",
            path => path,
        };
        let found = metadata.setting(path);
        assert_eq!(found.is_some(), fields::is_setting_source(path), "{path}");
        if let Some(found) = found {
            let secret = matches!(found, crate::metadata::SettingText::Secret(_));
            assert_eq!(secret, spec.is_secret(path), "{path}");
        }
    }
    for path in fields::COMPUTED {
        assert!(
            fields::is_setting_source(path) && metadata.setting(path).is_none(),
            "{path}"
        );
    }
}

#[test]
fn fields_of_the_cluster_go_to_the_cluster_wide_table_where_the_release_has_it() {
    let text = format!(
        "{}dns_server = \"9.9.9.9\"\nmax_hypervisor_mtu = 8950\nzone = \"lab\"\n{}",
        &GOOD[..GOOD.find("[database]").unwrap()],
        &GOOD[GOOD.find("[database]").unwrap()..]
    );
    let metadata = checked(&text, Role::DatabaseTier).1.metadata.unwrap();
    let shown = serde_json::to_string(&metadata.cluster_config).unwrap();
    assert_eq!(
        shown,
        r#"{"DNS_SERVER":"9.9.9.9","MAX_HYPERVISOR_MTU":8950}"#
    );
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    let text = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    let (merged, checked) = checked(&text, Role::Hypervisor);
    assert_eq!(checked.problems, []);
    assert_eq!(merged.place("node.name").unwrap(), "metadata.toml:3");
}
