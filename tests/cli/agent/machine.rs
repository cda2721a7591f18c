//! Nodes whose machine fails the agent: disks that are full or cannot be
//! written, programs that do not work, a systemd that refuses.

use sf_command::{Cmd, Tool};

use super::node::{Node, Ran};
use super::server::Server;

/// A run that ends with that exit code; what the console got, in lines of any
/// length.
fn console(node: &Node, ran: &Ran, code: i32) -> String {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    node.console().replace("\n         ", " ")
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn a_disk_with_too_little_room_stops_the_node_before_anything_is_written() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let ran = node.agent_with_mounts("mount -t tmpfs -o size=64M tmpfs var", &["run"]);
    let console = console(&node, &ran, 69);
    contains(
        &console,
        &[
            "SF-DISK-FULL",
            "/var has too little room",
            "MiB free of 64 MiB",
            "Free 256 MiB there",
            "df -h /var",
        ],
    );
    assert!(!console.contains("/srv has"), "{console}");
    assert_eq!(server.dump(), "");
}

#[test]
fn a_disk_that_fills_up_and_one_that_is_read_only_are_told_apart() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    // Room for bytes, but for three files alone: the folders and no more.
    let ran = node.agent_with_mounts("mount -t tmpfs -o nr_inodes=3 tmpfs var", &["run"]);
    let full = console(&node, &ran, 69);
    contains(&full, &["SF-DISK-FULL", "could not be written", "df -h"]);
    let ran = node.agent_with_mounts("mount -t tmpfs -o ro tmpfs var", &["run"]);
    let read_only = console(&node, &ran, 69);
    contains(
        &read_only,
        &["SF-STATE-WRITE", "Read-only file system", "findmnt"],
    );
    assert_eq!(server.dump(), "");
    // Nothing of it lasts.
    assert_eq!(node.agent(&["run"]).code, 0);
}

#[test]
fn a_systemd_that_refuses_the_daemons_is_quoted() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    node.program(
        "usr/bin/systemctl",
        "[ \"$1\" != start ] || { echo 'Unit sf.target is masked.' >&2; exit 1; }",
    );
    let ran = node.agent(&["run"]);
    let console = console(&node, &ran, 69);
    contains(&console, &["SF-UNITS-START", "sf.target is masked"]);
    assert_eq!(node.status()["status"]["phase"], "start");
}

#[test]
fn a_check_that_cannot_be_made_stops_the_node() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    node.interfaces("no netlink");
    let ran = node.agent(&["run"]);
    let console = console(&node, &ran, 69);
    contains(
        &console,
        &[
            "SF-CHECK-IMPOSSIBLE",
            "addresses of this node cannot be asked",
        ],
    );
    assert_eq!(server.dump(), "");
}

#[test]
fn an_image_that_does_not_say_what_it_is_is_not_guessed_at() {
    let node = Node::new("hypervisor");
    let manifest = node.root().join("usr/lib/sf-image/manifest.json");
    std::fs::write(&manifest, "{}").unwrap();
    let ran = node.agent(&["run"]);
    let damaged = console(&node, &ran, 69);
    contains(
        &damaged,
        &[
            "SF-IMAGE-MANIFEST",
            "/usr/lib/sf-image/manifest.json cannot be used",
        ],
    );
    std::fs::remove_file(&manifest).unwrap();
    let ran = node.agent(&["run"]);
    let absent = console(&node, &ran, 69);
    contains(
        &absent,
        &["SF-IMAGE-MANIFEST", "there is no image manifest"],
    );
}

/// A trigger that somebody has put on a table of the agent's.
#[test]
fn an_answer_of_the_database_that_nobody_knows_is_a_defect_and_quoted() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    server.sql(
        "CREATE TRIGGER shakenfist.no BEFORE INSERT ON shakenfist.bootstrap_nodes FOR EACH ROW \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not today'",
    );
    let other = Node::named("hypervisor", "hv1", server.port, "");
    let ran = other.agent(&["run"]);
    let console = console(&other, &ran, 70);
    contains(&console, &["SF-DB-STATEMENT", "not today"]);
    assert!(!console.contains(super::server::PASSWORD));
    assert!(!other.read("systemctl.log").contains("start"));
}

#[test]
fn metadata_that_names_another_network_node_is_warned_about() {
    let server = Server::started();
    for (role, name) in [("database-tier", "db1"), ("network", "net1")] {
        let node = Node::named(role, name, server.port, "");
        assert_eq!(node.agent(&["run"]).code, 0, "{name}");
    }
    let warned = |name: &str, network_node: &str| {
        let node = Node::new("hypervisor");
        node.metadata(
            server.port,
            &format!(
                "[cluster]\nnetwork_node = \"{network_node}\"\n\
                 hosts = {{ \"net1.example.com\" = \"10.0.0.11\", other = \"10.0.0.12\" }}\n"
            ),
        );
        node.edit("node5", name);
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let line = ran
            .stderr
            .lines()
            .find(|line| line.contains("SF-NETWORK-NODE"));
        line.map(str::to_owned)
    };
    assert_eq!(warned("hv1", "10.0.0.11"), None);
    assert_eq!(warned("hv2", "net1.example.com"), None);
    let line = warned("hv3", "10.0.0.12").unwrap();
    contains(
        &line,
        &[
            "network-node",
            "cluster.network_node is 10.0.0.12, but net1.example.com holds the network role",
        ],
    );
}

/// Of the commands that want root the one that does nothing by itself.
#[test]
fn who_is_not_root_is_told_so() {
    let agent = env!("CARGO_BIN_EXE_sf-firstboot");
    // A namespace of its own, in which nobody is root.
    let failure = Cmd::new(Tool::Unshare)
        .args(["--user", agent, "stopped"])
        .run()
        .unwrap_err();
    assert_eq!(failure.code(), Some(64), "{failure}");
    contains(failure.stderr(), &["SF-NOT-ROOT", "sudo"]);
}

/// The findings of one check, by `check --json`.
fn findings(node: &Node, id: &str) -> Vec<serde_json::Value> {
    let ran = node.agent(&["check", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == id).unwrap();
    check["findings"].as_array().cloned().unwrap_or_default()
}

fn finds(node: &Node, id: &str, code: &str, said: &str) {
    let found = findings(node, id);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["code"], code);
    let what = found[0]["what"].as_str().unwrap();
    assert!(what.contains(said), "{what}");
}

#[test]
fn a_machine_that_is_too_small_or_does_not_virtualise_is_told_and_goes_on() {
    let server = Server::started();
    let node = Node::new("single-node");
    node.metadata(server.port, "");
    for id in ["memory", "kvm"] {
        assert!(findings(&node, id).is_empty(), "{id}");
    }
    let write = |path: &str, text: &str| std::fs::write(node.root().join(path), text).unwrap();
    write("proc/meminfo", "MemTotal:        1048576 kB\n");
    finds(&node, "memory", "SF-MEMORY-LOW", "has 1024 MiB of memory");
    write("proc/cpuinfo", "flags\t\t: fpu hypervisor\n");
    finds(&node, "kvm", "SF-KVM-MISSING", "is a virtual machine");
    write("proc/cpuinfo", "flags\t\t: fpu svm\n");
    std::fs::remove_file(node.root().join("dev/kvm")).unwrap();
    finds(&node, "kvm", "SF-KVM-MISSING", "/dev/kvm cannot be used");
    // Warnings both: the node comes up, and says them.
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    contains(&ran.stderr, &["SF-MEMORY-LOW", "SF-KVM-MISSING"]);
}

#[test]
fn clocks_are_compared_with_the_image_and_with_the_servers() {
    let mut server = Server::prepared();
    server.clock = Some("-90s");
    server.start();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    finds(
        &node,
        "clock-skew",
        "SF-CLOCK-SKEW",
        "90 s behind this machine's",
    );
    let manifest = node.root().join("usr/lib/sf-image/manifest.json");
    let manifest = std::fs::File::open(manifest).unwrap();
    let tomorrow = std::time::SystemTime::now() + std::time::Duration::from_hours(24);
    manifest.set_modified(tomorrow).unwrap();
    finds(
        &node,
        "clock",
        "SF-CLOCK-WRONG",
        "but its image was made on",
    );
    node.edit("wait = \"20s\"", "wait = \"1s\"");
    let ran = node.agent(&["run"]);
    contains(&console(&node, &ran, 75), &["SF-CLOCK-WRONG"]);
    assert_eq!(server.dump(), "");
}

/// Every such machine would be the same one, and copied disks could not be told.
#[test]
fn a_machine_without_any_identity_is_refused() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let id = node.root().join("etc/machine-id");
    for text in ["", "uninitialized\n"] {
        std::fs::write(&id, text).unwrap();
        let ran = node.agent(&["run"]);
        contains(
            &console(&node, &ran, 69),
            &["SF-MACHINE-ID", "systemd-machine-id-setup"],
        );
    }
    assert_eq!(server.dump(), "");
    // Its hardware's is one.
    let dmi = node.root().join("sys/class/dmi/id");
    std::fs::create_dir_all(&dmi).unwrap();
    std::fs::write(
        dmi.join("product_uuid"),
        "8b5c0f0e-93a1-4a4c-b1f6-0d3c8a1f6e11\n",
    )
    .unwrap();
    assert_eq!(node.agent(&["run"]).code, 0);
}
