//! A node that becomes another one: role, addresses, names.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::node::Node;
use super::server::Server;

fn link(node: &Node, folder: &str, unit: &str) -> std::path::PathBuf {
    let folder = node.root().join("etc/systemd/system").join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(unit);
    std::os::unix::fs::symlink(format!("/usr/lib/systemd/system/{unit}"), &path).unwrap();
    path
}

const CONSOLES: &str = "[pki.libvirt_spice]\nca = { credential = \"ca\" }\n\
    certificate = { credential = \"crt\" }\nkey = { credential = \"key\" }\n";

const SPICE: &str = "etc/pki/libvirt-spice";

/// Certificates for the consoles of n1.
fn equip(node: &Node) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["n1.example.com".to_owned()]).unwrap();
    node.credential("ca", &ca.pem());
    node.credential("crt", &own.signed_by(&key, &ca).unwrap().pem());
    node.credential("key", &key.serialize_pem());
}

fn consoles(node: &Node) -> Vec<String> {
    let folder = std::fs::read_dir(node.root().join(SPICE));
    let mut names: Vec<String> = folder
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The node boots another role's image from now on.
fn becomes(node: &Node, from: &str, to: &str) {
    let path = node.root().join("usr/lib/sf-image/manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let other = manifest
        .replace(
            &format!("\"role\":\"{from}\""),
            &format!("\"role\":\"{to}\""),
        )
        .replace(&format!("sf-{from}"), &format!("sf-{to}"));
    assert_ne!(manifest, other);
    std::fs::write(path, other).unwrap();
}

/// A hypervisor becomes a network node with its metadata as it was, with a reset
/// and without.
#[test]
fn the_key_of_the_consoles_goes_with_the_role() {
    const ALL: [&str; 3] = ["ca-cert.pem", "server-cert.pem", "server-key.pem"];
    let server = Server::started();
    let [tier, node] = [("database-tier", "db1"), ("hypervisor", "n1")].map(|(role, name)| {
        let node = Node::named(role, name, server.port, CONSOLES);
        equip(&node);
        node
    });
    assert_eq!(tier.agent(&["run"]).code, 0);
    assert!(consoles(&tier).is_empty(), "it has no consoles");
    for reset in [false, true] {
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(consoles(&node), ALL);
        std::fs::write(node.root().join(SPICE).join("theirs.pem"), "x").unwrap();
        if reset {
            node.program("usr/bin/systemctl", super::fleet::DOWN);
            assert_eq!(node.agent(&["reset", "--yes"]).code, 0);
        }
        becomes(&node, "hypervisor", "network");
        let ran = node.agent(&["check"]);
        assert!(
            !ran.stdout.contains("libvirt-spice") && ran.stdout.contains("for consoles alone"),
            "{}",
            ran.stdout
        );
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(consoles(&node), ["theirs.pem"], "reset {reset}");
        std::fs::remove_file(node.root().join(SPICE).join("theirs.pem")).unwrap();
        becomes(&node, "network", "hypervisor");
    }
    // What nobody installs is not judged.
    std::fs::remove_file(tier.root().join("run/credentials/@system/key")).unwrap();
    // It fits no certificate.
    tier.credential("key", &KeyPair::generate().unwrap().serialize_pem());
    let ran = tier.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// A machine that is given another name: its old row holds a series, and a role,
/// until somebody says that it is gone.
#[test]
fn a_renamed_node_is_told_what_its_old_name_holds() {
    let server = Server::started();
    let [tier, node, net] = [
        ("database-tier", "db1"),
        ("hypervisor", "h1"),
        ("network", "net1"),
    ]
    .map(|(role, name)| Node::named(role, name, server.port, ""));
    for node in [&tier, &node, &net] {
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(!ran.stderr.contains("cluster forget"), "{}", ran.stderr);
    }
    node.edit("h1.", "hv1.");
    // Until the agent has run; the database has nothing to do with it.
    let ran = node.agent(&["gate", "sf-api"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("cleared for h1.example.com")
            && ran.stderr.contains("`systemctl restart sf-firstboot`"),
        "{}",
        ran.stderr
    );
    // On this boot and the next, until it is done.
    for _ in 0..2 {
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let told = "sf-firstboot cluster forget h1.example.com --database-file FILE";
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert_eq!(node.agent(&["gate", "sf-api"]).code, 0);
    }
    server.sql("DELETE FROM shakenfist.bootstrap_nodes WHERE fqdn = 'h1.example.com'");
    let ran = node.agent(&["run"]);
    assert!(!ran.stderr.contains("cluster forget"), "{}", ran.stderr);
    let kept = node.read("var/lib/sf-firstboot/cluster.json");
    assert!(
        kept.contains("\"hv1.example.com\"") && !kept.contains("\"h1."),
        "{kept}"
    );

    // What holds a role has to be forgotten first.
    net.edit("net1.", "gw.");
    let ran = net.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    let console = net.console().replace("\n         ", " ");
    for part in [
        "this same machine, as net1.example.com holds it since",
        "cluster forget net1.example.com --database-file FILE",
    ] {
        assert!(console.contains(part), "{part} not in\n{console}");
    }
    server.sql(
        "DELETE FROM shakenfist.bootstrap_nodes WHERE fqdn = 'net1.example.com'; \
         DELETE FROM shakenfist.bootstrap_claims",
    );
    assert_eq!(net.agent(&["run"]).code, 0);
}

#[test]
fn a_copy_is_told_of_which_machine() {
    let server = Server::started();
    let (tier, copy) = (Node::new("database-tier"), Node::new("hypervisor"));
    for node in [&tier, &copy] {
        node.metadata(server.port, "");
    }
    assert_eq!(tier.agent(&["run"]).code, 0);
    let ran = copy.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    let console = copy.console().replace("\n         ", " ");
    for part in [
        "another machine, a database-tier node that last booted 20",
        "has joined the cluster as node5.example.com",
        "sf.metadata:3 (node.name)",
    ] {
        assert!(console.contains(part), "{part} not in\n{console}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn what_the_old_role_had_is_gone() {
    let server = Server::started();
    let hosts = "[cluster]\nhosts = { \"gone.example.com\" = \"10.0.0.9\" }\n";
    let [tier, node, other] = [
        ("database-tier", "db1"),
        ("network", "n1"),
        ("network", "n2"),
    ]
    .map(|(role, name)| Node::named(role, name, server.port, hosts));
    for node in [&tier, &node, &other] {
        let path = node.root().join("usr/lib/sf-image/release.toml");
        let release = std::fs::read_to_string(&path).unwrap();
        let more = "[[setting]]\nkey = \"NODE_IS_NETWORK_NODE\"\ntrue_on = [\"network\", \"single-node\"]\n\n[schema_of_the_cluster]";
        std::fs::write(&path, release.replace("[schema_of_the_cluster]", more)).unwrap();
    }
    let image = node.root().join("usr/lib/sf-image/manifest.json");
    let manifest = std::fs::read_to_string(&image).unwrap();
    let network = manifest.replace("\"sf-api\"]", "\"sf-api\",\"sf-net\"]");
    assert_ne!(manifest, network);
    std::fs::write(&image, &network).unwrap();
    assert_eq!(tier.agent(&["run"]).code, 0);
    assert_eq!(node.agent(&["run"]).code, 0);
    assert_eq!(other.agent(&["run"]).code, 77, "the role is held");
    let config = node.read("etc/sf/config");
    assert!(
        config.contains("NODE_IS_NETWORK_NODE=\"True\"") && config.contains("10.0.0.5"),
        "{config}"
    );

    // What an earlier run of that role wrote and enabled, and what is not the agent's.
    let own = node.root().join("etc/pki/libvirt-spice/server-key.pem");
    let theirs = node.root().join("etc/pki/libvirt-spice/theirs.pem");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    for path in [&own, &theirs] {
        std::fs::write(path, "x").unwrap();
    }
    let ledger = node.root().join("var/lib/sf-firstboot/files.json");
    let files = std::fs::read_to_string(&ledger).unwrap();
    let files = files.replacen('[', "[\"/etc/pki/libvirt-spice/server-key.pem\",", 1);
    std::fs::write(&ledger, files).unwrap();
    let units = node.root().join("usr/lib/systemd/system");
    std::fs::create_dir_all(&units).unwrap();
    std::fs::write(units.join("sf-firstboot.service"), "").unwrap();
    std::fs::write(units.join("sf-net.service"), "").unwrap();
    let gone = [
        link(&node, "sf.target.wants", "sf-net.service"),
        link(&node, "multi-user.target.wants", "sf-net.service"),
        link(
            &node,
            "multi-user.target.wants",
            "sf-of-another-release.service",
        ),
    ];
    let stays = [
        link(&node, "multi-user.target.wants", "sf-firstboot.service"),
        link(&node, "multi-user.target.wants", "ssh.service"),
    ];

    // The same machine boots a hypervisor's image, with another address.
    let hypervisor = manifest
        .replace("\"role\":\"network\"", "\"role\":\"hypervisor\"")
        .replace("sf-network", "sf-hypervisor");
    assert!(hypervisor.contains("hypervisor"));
    std::fs::write(&image, hypervisor).unwrap();
    node.edit("10.0.0.5", "10.0.0.77");
    node.interfaces(r#"[{"name": "eth0", "addresses": ["10.0.0.77"]}]"#);
    node.edit(
        "hosts = { \"gone.example.com\" = \"10.0.0.9\" }",
        "hosts = { \"new.example.com\" = \"10.0.0.8\" }",
    );
    std::fs::write(node.root().join("systemctl.log"), "").unwrap();
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let config = node.read("etc/sf/config");
    assert!(
        config.contains("NODE_IS_NETWORK_NODE=\"False\""),
        "{config}"
    );
    assert!(
        config.contains("10.0.0.77") && !config.contains("10.0.0.5\""),
        "{config}"
    );
    let hosts = node.read("etc/hosts");
    assert!(
        hosts.contains("10.0.0.77 n1.example.com") && hosts.contains("new.example.com"),
        "{hosts}"
    );
    assert!(
        !hosts.contains("gone") && !hosts.contains("10.0.0.5"),
        "{hosts}"
    );
    assert!(!own.exists() && theirs.exists());
    for path in &gone {
        assert!(path.symlink_metadata().is_err(), "{}", path.display());
    }
    for path in &stays {
        assert!(path.symlink_metadata().is_ok(), "{}", path.display());
    }
    let log = node.read("systemctl.log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines,
        [
            "daemon-reload",
            "stop --no-block sf-net.service",
            "start --no-block sf.target"
        ]
    );
    assert_eq!(
        server.sql("SELECT role FROM shakenfist.bootstrap_nodes WHERE fqdn = 'n1.example.com'"),
        "hypervisor"
    );
    // The role is free without anybody's help.
    assert_eq!(other.agent(&["run"]).code, 0);
    assert_eq!(
        server.sql("SELECT fqdn FROM shakenfist.bootstrap_claims"),
        "n2.example.com"
    );
    // Nothing left to do: systemd is not bothered again.
    std::fs::write(node.root().join("systemctl.log"), "").unwrap();
    assert_eq!(node.agent(&["run"]).code, 0);
    assert!(!node.read("systemctl.log").contains("daemon-reload"));
}
