//! `sf-firstboot cluster` and what nodes leave for it.

use std::path::Path;

use super::node::{Node, Ran};
use super::server::{PASSWORD, Server};

/// At a desk that has nothing but the DSN in a file.
fn desk(server: &Server, arguments: &[&str]) -> Ran {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), dsn(server)).unwrap();
    desk_with(file.path(), arguments)
}

fn dsn(server: &Server) -> String {
    format!(
        "mysql://sf:{PASSWORD}@127.0.0.1:{}/shakenfist\n",
        server.port
    )
}

fn desk_with(file: &Path, arguments: &[&str]) -> Ran {
    let empty = tempfile::tempdir().unwrap();
    let node = Node::new("hypervisor");
    let mut all = vec!["cluster"];
    all.extend(arguments);
    all.extend(["--database-file", file.to_str().unwrap()]);
    let ran = Node::end(node.start_at(empty.path(), &all));
    assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD));
    ran
}

fn status(server: &Server) -> serde_json::Value {
    let ran = desk(server, &["status", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Whoever keeps the DSN off the disk: `--database-file <(pass show sf/dsn)`.
#[test]
fn the_dsn_may_come_by_a_pipe() {
    let server = Server::started();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("dsn");
    let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600.into());
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    let (into, dsn) = (pipe.clone(), dsn(&server));
    let writer = std::thread::spawn(move || std::fs::write(into, dsn).unwrap());
    let ran = desk_with(&pipe, &["status"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("no nodes"), "{}", ran.stdout);
    writer.join().unwrap();
    let ran = desk_with(&folder.path().join("absent"), &["status"]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("absent is not there"), "{}", ran.stderr);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn a_fleet_is_watched_and_mended_from_one_desk() {
    let mut server = Server::started();
    let ran = desk(&server, &["status"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout
            .starts_with("no nodes: the cluster has not been bootstrapped")
    );

    let [tier, net1, net2] = Node::rivals(server.port);
    assert_eq!(tier.agent(&["run"]).code, 0);
    assert_eq!(net1.agent(&["run"]).code, 0);
    // The other network node is told on its console, and the desk sees it.
    let ran = net2.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    let console = net2.console().replace("\n         ", " ");
    for part in [
        "SF-CLAIM-HELD",
        "net1.example.com holds it since",
        "release-claim network",
    ] {
        assert!(console.contains(part), "{part} not in\n{console}");
    }
    assert!(!net2.read("systemctl.log").contains("start"));
    let check = net2.agent(&["check"]);
    assert_eq!(check.code, 77, "{}", check.stdout);
    assert!(
        check.stdout.contains("FAIL  role-claim"),
        "{}",
        check.stdout
    );
    // Daemons of net1 do not answer: nobody listens on the port of its probe.
    assert_eq!(net1.agent(&["ready"]).code, 75);
    let seen = status(&server);
    assert_eq!(
        seen["totals"],
        serde_json::json!({"failed": 0, "refused": 1, "waiting": 1, "booting": 0, "started": 1, "ready": 0})
    );
    let nodes = seen["cluster"]["nodes"].as_array().unwrap();
    let told: Vec<_> = nodes
        .iter()
        .map(|node| {
            [
                &node["fqdn"],
                &node["state"],
                &node["phase"],
                &node["last_error"],
            ]
        })
        .collect();
    assert_eq!(
        serde_json::json!(told),
        serde_json::json!([
            ["net2.example.com", "refused", "preflight", "SF-CLAIM-HELD"],
            [
                "net1.example.com",
                "waiting",
                "ready",
                "SF-DAEMON-NOT-READY"
            ],
            ["db1.example.com", "started", "start", null],
        ])
    );
    assert!(nodes[0]["series"].is_null(), "it has never passed the gate");
    assert_eq!(seen["cluster"]["claims"][0]["fqdn"], "net1.example.com");
    assert_eq!(seen["cluster"]["series"][0]["nodes"], 2);
    let table = desk(&server, &["status"]).stdout;
    assert!(
        table.starts_with("3 nodes: 1 started, 1 waiting, 1 REFUSED\n"),
        "{table}"
    );
    assert!(table.is_ascii(), "{table}");

    // Nothing is done unasked, and nothing to nodes that are not there.
    let dump = server.dump();
    for (arguments, code, part) in [
        (&["forget", "net1.example.com"][..], 64, "SF-UNCONFIRMED"),
        (
            &["forget", "net1.example.com", "--yes"],
            64,
            "--yes --force",
        ),
        (
            &["forget", "net9.example.com", "--yes"],
            64,
            "Did you mean net",
        ),
        (&["release-claim", "network"], 64, "SF-UNCONFIRMED"),
        (&["release-claim", "storage", "--yes"], 64, "network"),
    ] {
        let ran = desk(&server, arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(server.dump(), dump);

    // The role is handed over.
    let ran = desk(&server, &["release-claim", "network", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("net1.example.com held it"),
        "{}",
        ran.stdout
    );
    assert_eq!(net2.agent(&["run"]).code, 0);
    // The old holder's daemons do not start again beside the new one.
    let ran = net1.agent(&["gate", "sf-api"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("net2.example.com holds it"),
        "{}",
        ran.stderr
    );
    // Released under a holder that runs: whichever of its daemons starts next takes it back,
    // before a second node can.
    let released = || desk(&server, &["release-claim", "network", "--yes"]).code;
    assert_eq!(released(), 0);
    let ran = net2.agent(&["gate", "sf-api"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        server.sql("SELECT fqdn FROM shakenfist.bootstrap_claims"),
        "net2.example.com"
    );
    assert_eq!(released(), 0);
    assert_eq!(
        desk(&server, &["release-claim", "network", "--yes"]).code,
        64
    );

    // Other hardware under a name that is taken, until the old one is forgotten.
    let spare = Node::named("network", "net2", server.port, "");
    std::fs::write(spare.root().join("etc/machine-id"), "spare\n").unwrap();
    let ran = spare.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(
        spare.console().contains("SF-NODE-CLONE"),
        "another machine under the name"
    );
    let ran = desk(&server, &["forget", "NET2.example.com", "--yes", "--force"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("warning: net2.example.com booted"),
        "{}",
        ran.stderr
    );
    assert_eq!(spare.agent(&["run"]).code, 0);
    let table = desk(&server, &["status"]).stdout;
    assert!(
        table.contains("by hand    forget net2.example.com by "),
        "{table}"
    );

    // Any node's metadata names the database, and a node knows its own; what is
    // broken on the desk itself does not matter to a file that is named.
    let file = tier.root().join("named.toml");
    let text = tier.read("run/credentials/@system/sf.metadata");
    std::fs::write(&file, text).unwrap();
    let broken = Node::new("hypervisor");
    broken.credential("sf.metadata", "not TOML");
    let named = ["cluster", "status", "--metadata", file.to_str().unwrap()];
    for ran in [broken.agent(&named), tier.agent(&["cluster", "status"])] {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.starts_with("3 nodes: "), "{}", ran.stdout);
    }
    let ran = broken.agent(&["cluster", "status"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);

    // An outage is said, and ends the command but for --watch.
    server.stop();
    let ran = desk(&server, &["status"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("SF-DB-REFUSED"), "{}", ran.stderr);
}

#[test]
fn watching_survives_an_outage_and_prints_what_changes() {
    let mut server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let (mut child, streams) = node.start(&["cluster", "status", "--watch"]);
    let said = |part: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let text = std::fs::read_to_string(streams.join("stdout")).unwrap();
            if text.lines().last().is_some_and(|line| line.contains(part)) {
                return text;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{part} not in\n{text}"
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    said("the cluster has not been bootstrapped");
    assert_eq!(node.agent(&["run"]).code, 0);
    said("1 node: 1 started");
    server.stop();
    said("SF-DB-REFUSED");
    server.start();
    let text = said("1 node: 1 started");
    // A look may fall into the middle of a run, so there can be more lines than
    // what was waited for; but never the same one twice in a row.
    let told: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(_, told)| told))
        .collect();
    assert!(told.len() >= 4, "{text}");
    assert!(
        told.windows(2).all(|pair| pair[0] != pair[1]),
        "only changes are printed:\n{text}"
    );
    assert!(!text.contains('\x1b'), "no terminal, no control characters");
    child.terminate(std::time::Duration::from_secs(5)).unwrap();
}

/// The tables are gone, as after a wrong restore: the node that could make a
/// second cluster does not, and one that is forgotten may.
#[test]
fn a_lost_database_is_not_bootstrapped_again_by_its_members() {
    let server = Server::started();
    let tier = Node::new("database-tier");
    tier.metadata(server.port, "");
    let hypervisor = Node::named("hypervisor", "hv1", server.port, "");
    assert_eq!(tier.agent(&["run"]).code, 0);
    assert_eq!(hypervisor.agent(&["run"]).code, 0);
    server.sql("DROP DATABASE shakenfist; CREATE DATABASE shakenfist CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;");
    tier.console();
    let ran = tier.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    let console = tier.console().replace("\n         ", " ");
    assert!(
        console.contains("SF-CLUSTER-LOST")
            && console.contains("node5.example.com bootstrapped at"),
        "{console}"
    );
    assert_eq!(server.dump(), "");
    // Running daemons go on, and may restart: nothing is known to be wrong.
    assert_eq!(hypervisor.agent(&["gate", "sf-api"]).code, 0);
    // On purpose.
    tier.program("usr/bin/systemctl", DOWN);
    let ran = tier.agent(&["reset", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(tier.agent(&["run"]).code, 0);
    // The hypervisor follows, and its daemons' restart puts it on record again.
    assert_eq!(hypervisor.agent(&["gate", "sf-api"]).code, 0);
    assert_eq!(
        server.sql(
            "SELECT fqdn, series, phase, outcome FROM shakenfist.bootstrap_nodes ORDER BY fqdn"
        ),
        "hv1.example.com\t0.8\tstart\tstarted\nnode5.example.com\t0.8\tstart\tstarted"
    );
}

/// The file that says which cluster a node belongs to is damaged: that is not
/// the same as belonging to none.
#[test]
fn a_node_that_cannot_read_its_membership_makes_no_second_cluster() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    let file = node.root().join("var/lib/sf-firstboot/cluster.json");
    let membership = std::fs::read(&file).unwrap();
    let damage = || std::fs::write(&file, [0; 40]).unwrap();
    // With the cluster in the database nothing hangs on it.
    damage();
    node.edit("wait = \"20s\"", "wait = \"21s\"");
    assert_eq!(node.agent(&["run"]).code, 0);
    assert_eq!(std::fs::read(&file).unwrap(), membership);
    server.sql("DROP DATABASE shakenfist; CREATE DATABASE shakenfist CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;");
    damage();
    node.console();
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    let console = node.console().replace("\n         ", " ");
    for part in [
        "SF-STATE-DAMAGED",
        "/var/lib/sf-firstboot/cluster.json",
        "restore the database from a backup",
    ] {
        assert!(console.contains(part), "{part} not in {console}");
    }
    assert_eq!(server.dump(), "");
    // Nor does one that cannot be opened at all count as none.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(node.agent(&["run"]).code, 77);
    assert_eq!(server.dump(), "");
}

/// Who may write to the tables does not rule the operator's terminal.
#[test]
fn what_stands_in_the_database_is_not_obeyed_by_a_terminal() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    server.sql(
        "SET @e = CONCAT(CHAR(27), '[2J', CHAR(7)); \
         INSERT INTO shakenfist.bootstrap_nodes VALUES (CONCAT('hv', @e), CONCAT('role', @e), \
         '0.8', '0.8.0', CONCAT('1', @e), 'i', CONCAT('gate', @e), 'failed', UNIX_TIMESTAMP(), \
         CONCAT('SF-X', @e)); \
         INSERT INTO shakenfist.bootstrap_claims VALUES ('network', CONCAT('hv', @e), 'i', 0); \
         INSERT INTO shakenfist.bootstrap_events VALUES \
         ('1', 0, CONCAT('forget', @e), 'x', 'd', CONCAT('u', @e), 'h', '1')",
    );
    let plain = |text: &str| text.chars().all(|c| !c.is_control() || c == '\n');
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["forget", "hv\u{1b}[2J\u{7}"],
        &["forget", "hv"],
        &["release-claim", "network"],
    ] {
        let ran = desk(&server, arguments);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            plain(&said) && said.contains("hv"),
            "{arguments:?}: {said:?}"
        );
    }
    let net = Node::named("network", "net1", server.port, "");
    let ran = net.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(plain(&ran.stderr), "{:?}", ran.stderr);
    let seen = status(&server);
    let nodes = seen["cluster"]["nodes"].as_array().unwrap();
    assert_eq!(nodes[0]["fqdn"], "hv\u{1b}[2J\u{7}", "as it stands there");
}

/// A systemctl by which no daemon runs.
pub(crate) const DOWN: &str = "echo \"$*\" >>\"$ROOT/systemctl.log\"\n\
                    [ \"$1\" != show ] || printf 'ActiveState=inactive\nSubState=dead\nNRestarts=0\n'";

#[test]
fn a_reset_makes_the_next_boot_a_first_boot_and_touches_nothing_else() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    node.events();
    std::fs::write(node.root().join("srv/instance"), "disk").unwrap();
    std::fs::create_dir_all(node.root().join("var/lib/sf-firstboot/fetched")).unwrap();
    std::fs::write(node.root().join("var/lib/sf-firstboot/fetched/x"), "").unwrap();
    let (dump, config) = (server.dump(), node.read("etc/sf/config"));
    // Not unasked, and not under running daemons.
    node.program("usr/bin/systemctl", DOWN);
    let ran = node.agent(&["reset"]);
    assert_eq!(ran.code, 64, "{}", ran.stderr);
    node.program(
        "usr/bin/systemctl",
        "printf 'ActiveState=active\nSubState=running\nNRestarts=0\n'",
    );
    let ran = node.agent(&["reset", "--yes"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("sf-api.service") && ran.stderr.contains("systemctl stop sf.target")
    );
    // Nor under those that a run starts while the question stands.
    node.program(
        "usr/bin/systemctl",
        "if [ -e \"$ROOT/asked-$4\" ]; then state=active; else state=inactive; fi\n\
         : >\"$ROOT/asked-$4\"\n\
         printf 'ActiveState=%s\nSubState=x\nNRestarts=0\n' $state",
    );
    let ran = node.agent(&["reset", "--yes"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("daemons run on this node"),
        "{}",
        ran.stderr
    );
    assert!(node.root().join("var/lib/sf-firstboot/done.json").exists());
    // Nor where systemd does not say.
    for script in ["exit 1", "true"] {
        node.program("usr/bin/systemctl", script);
        let ran = node.agent(&["reset", "--yes"]);
        assert_eq!(ran.code, 77, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("cannot be told") && ran.stderr.contains("systemctl show sf-"),
            "{}",
            ran.stderr
        );
    }
    // Nor where the image does not say which daemons there are.
    let release = node.root().join("usr/lib/sf-image/release.toml");
    let kept = std::fs::read(&release).unwrap();
    std::fs::remove_file(&release).unwrap();
    for (script, named) in [
        (
            "[ \"$1\" = list-units ] && echo 'sf-firstboot.service loaded active exited x' && \
             echo 'sf-net.service loaded active running y'",
            "daemons run on this node: sf-net.service\n",
        ),
        ("exit 1", "whether daemons run on this node cannot be told"),
    ] {
        node.program("usr/bin/systemctl", script);
        let ran = node.agent(&["reset", "--yes"]);
        assert_eq!(ran.code, 77, "{}", ran.stderr);
        assert!(ran.stderr.contains(named), "{}", ran.stderr);
    }
    std::fs::write(&release, kept).unwrap();
    node.program("usr/bin/systemctl", DOWN);
    assert!(node.root().join("var/lib/sf-firstboot/done.json").exists());

    let ran = node.agent(&["reset", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let left: Vec<_> = std::fs::read_dir(node.root().join("var/lib/sf-firstboot"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    // Its files are still there, and the next run has to know them.
    assert_eq!(left, ["files.json"]);
    assert!(!node.root().join("run/sf-firstboot/clearance.json").exists());
    assert_eq!(node.agent(&["gate", "sf-api"]).code, 75, "no clearance");
    assert_eq!(node.agent(&["status"]).code, 69);
    assert_eq!((server.dump(), node.read("etc/sf/config")), (dump, config));
    assert_eq!(node.read("srv/instance"), "disk");
    assert_eq!(node.agent(&["reset", "--yes"]).code, 0, "twice");
    assert_eq!(node.agent(&["run"]).code, 0);
    assert!(super::node::phases(&node.events()).contains(&"preflight"));
}
