//! Runs of the agent from beginning to end.

use std::os::unix::fs::MetadataExt as _;

use super::maker::wait_for;
use super::node::{Node, SEED, phases};
use super::server::Server;

const ALL: [&str; 8] = [
    "discover",
    "merge",
    "validate",
    "preflight",
    "bootstrap",
    "gate",
    "configure",
    "start",
];

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn a_first_boot_and_a_second_one() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    let events = node.events();
    assert_eq!(phases(&events), ALL);
    let [.., outcome, end] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(end, &serde_json::json!({"event": "END"}));
    assert_eq!(
        (&outcome["outcome"], &outcome["exit_code"]),
        (&"started".into(), &0.into())
    );
    assert_eq!(
        (&outcome["role"], &outcome["image_version"]),
        (&"database-tier".into(), &"0.8.0-1".into())
    );
    assert!(outcome["code"].is_null());
    let created = outcome["created"].to_string();
    assert!(
        created.contains("auth-secret-seed") && created.contains("cluster-series"),
        "{created}"
    );
    // One line on the console: role, image, what was bootstrapped, time taken.
    let console = node.console();
    let line = console.trim();
    assert_eq!(line.lines().count(), 1, "{console}");
    for part in [
        "node5.example.com (database-tier, image 0.8.0-1)",
        "bootstrapped",
        "cluster-series",
        " s",
    ] {
        assert!(line.contains(part), "{part} not in {line}");
    }
    let config = node.read("etc/sf/config");
    assert!(
        config.contains(&format!("SHAKENFIST_AUTH_SECRET_SEED=\"{SEED}\"\n")),
        "{config}"
    );
    let meta = std::fs::metadata(node.root().join("etc/sf/config")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o440);
    if rustix::process::geteuid().is_root() {
        assert_eq!((meta.uid(), meta.gid()), (0, 27));
    }
    assert_eq!(node.read("etc/hostname"), "node5.example.com\n");
    assert!(
        node.read("etc/hosts")
            .contains("10.0.0.5 node5.example.com node5\n")
    );
    assert_eq!(node.read("hook.log"), "run\n");
    assert!(
        node.read("systemctl.log")
            .ends_with("start --no-block sf.target\n")
    );
    assert_eq!(
        server.sql("SELECT outcome FROM shakenfist.bootstrap_nodes"),
        "started"
    );
    // Every line of the log keeps the contract.
    for line in ran.stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["program"], "sf-firstboot");
    }
    let status = node.status();
    assert_eq!(
        (&status["status"]["state"], &status["status"]["phase"]),
        (&"started".into(), &"start".into())
    );
    assert_eq!(status["earlier_boot"], false);

    let operations = "SELECT * FROM shakenfist.bootstrap_operations ORDER BY name";
    let before = server.sql(operations);
    let second = node.agent(&["run"]);
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert_eq!(
        phases(&node.events()),
        [
            "discover",
            "merge",
            "validate",
            "gate",
            "configure",
            "start"
        ]
    );
    assert_eq!(server.sql(operations), before);
    assert_eq!(
        std::fs::metadata(node.root().join("etc/sf/config"))
            .unwrap()
            .ino(),
        meta.ino(),
        "rewritten"
    );
    assert_eq!(node.read("hook.log"), "run\n");
    assert_eq!(
        node.read("systemctl.log")
            .matches("start --no-block sf.target")
            .count(),
        2
    );

    // Other metadata: all of it again, and what is no longer wanted is gone.
    node.edit("wait = \"20s\"", "wait = \"21s\"");
    assert_eq!(node.agent(&["run"]).code, 0);
    assert_eq!(phases(&node.events()), ALL);
    assert_eq!(server.sql(operations), before);
}

#[test]
fn without_metadata_the_card_says_where_it_was_looked_for() {
    let node = Node::new("hypervisor");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let console = node.console();
    for part in [
        "NOT STARTED",
        "exit 78 (configuration)",
        "SF-META-MISSING",
        "/etc/sf/metadata.toml",
        "Remedy",
    ] {
        assert!(console.contains(part), "{part} not in\n{console}");
    }
    assert!(
        console
            .lines()
            .all(|line| line.len() <= 80 && line.is_ascii()),
        "{console}"
    );
    let card = node.read("run/issue.d/50-sf-firstboot.issue");
    assert!(console.contains(card.trim()), "{card}");
    let journal = node.journal();
    for field in [
        "MESSAGE_ID=6f1c0a6d1d5a4f0e9b1f4b0a5d2e7c31\n",
        "SF_CODE=SF-META-MISSING\n",
        "SF_PHASE=validate\n",
        "EXIT_CODE=78\n",
    ] {
        assert!(journal.contains(field), "{field} not in {journal}");
    }
    let events = node.events();
    assert_eq!(phases(&events), ["discover", "merge", "validate"]);
    let [.., card_event, outcome, _end] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (&card_event["event"], &card_event["code"]),
        (&"card".into(), &"SF-META-MISSING".into())
    );
    assert_eq!(
        (&outcome["outcome"], &outcome["exit_code"]),
        (&"failed".into(), &78.into())
    );
    let status = node.status();
    assert_eq!(status["status"]["code"], "SF-META-MISSING");
    assert!(
        status["status"]["card"]
            .as_str()
            .unwrap()
            .contains("NOT STARTED")
    );
    assert!(
        node.agent(&["status"])
            .stdout
            .contains("FAILED in phase validate")
    );
    assert_eq!(
        node.read("systemctl.log")
            .lines()
            .filter(|line| line.starts_with("start"))
            .count(),
        0
    );
    assert!(!node.root().join("etc/sf").exists() && !node.root().join("etc/hostname").exists());
}

#[test]
fn all_mistakes_of_the_metadata_are_on_one_card() {
    let node = Node::new("hypervisor");
    node.metadata(1, "[cluster]\nzoen = \"x\"\ndns_server = \"10.0.0\"\n");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let console = node.console().replace("\n         ", " ");
    for part in [
        "zoen",
        "did you mean",
        "dns_server",
        "credential sf.metadata:",
    ] {
        assert!(console.contains(part), "{part} not in\n{console}");
    }
    assert_eq!(console.matches("NOT STARTED").count(), 1);
}

#[test]
fn a_database_that_is_down_is_waited_for_and_then_found() {
    let mut server = Server::prepared();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    node.edit("wait = \"20s\"", "wait = \"2s\"");
    let began = std::time::Instant::now();
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(
        began.elapsed() >= std::time::Duration::from_millis(1900),
        "did not wait"
    );
    assert!(
        began.elapsed() <= std::time::Duration::from_secs(30),
        "waited too long"
    );
    let console = node.console();
    for part in [
        "SF-DB-REFUSED",
        &format!("127.0.0.1:{}", server.port),
        "credential sf.metadata:",
        "mysql://sf:******@",
        "exit 75 (transient): tried again by itself",
        "Remedy",
    ] {
        assert!(console.contains(part), "{part} not in\n{console}");
    }
    assert!(ran.stderr.contains("waited_seconds"), "{}", ran.stderr);
    assert!(!node.read("systemctl.log").contains("start"));
    assert!(
        node.root()
            .join("run/issue.d/50-sf-firstboot.issue")
            .exists()
    );
    node.events();

    // Tried again, and nothing has changed: one line, and the card stays above the prompt.
    assert_eq!(node.agent(&["run"]).code, 75);
    let console = node.console();
    let line = console.trim();
    assert!(
        line.lines().count() == 1 && line.contains("attempt 2, still SF-DB-REFUSED"),
        "{console}"
    );
    let issue = node.read("run/issue.d/50-sf-firstboot.issue");
    assert!(issue.contains("Remedy"), "{issue}");
    node.events();

    // It comes up while the agent waits.
    node.edit("wait = \"2s\"", "wait = \"60s\"");
    std::fs::remove_file(node.root().join("run/sf-firstboot/status.json")).unwrap();
    let waiting = node.start(&["run"]);
    wait_for("the status says for what", || {
        node.read("run/sf-firstboot/status.json")
            .contains("\"waiting_for\": \"waiting for the database: ")
    });
    server.start();
    let ran = Node::end(waiting);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        !node
            .root()
            .join("run/issue.d/50-sf-firstboot.issue")
            .exists()
    );
    assert!(node.agent(&["status"]).stdout.contains("daemons started"));
}

#[test]
fn a_hypervisor_waits_for_the_bootstrap_of_another_node() {
    let server = Server::started();
    let (tier, hypervisor) = (Node::new("database-tier"), Node::new("hypervisor"));
    tier.metadata(server.port, "");
    hypervisor.metadata(server.port, "");
    hypervisor.edit("node5", "hv1");
    let waiting = hypervisor.start(&["run"]);
    wait_for("the status says for whom", || {
        let status = hypervisor.read("run/sf-firstboot/status.json");
        status.contains("\"waiting_for\": \"waiting for a database-tier node to bootstrap")
    });
    assert_eq!(tier.agent(&["run"]).code, 0);
    let ran = Node::end(waiting);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(hypervisor.read("etc/sf/config").contains(SEED));
    assert!(!hypervisor.read("etc/sf/config").contains("MARIADB"));
    assert_eq!(
        hypervisor.read("hook.log"),
        "",
        "only roles that bootstrap set the key"
    );
    // "require" does not wait for a cluster that is not there.
    let other = Server::started();
    hypervisor.metadata(other.port, "[bootstrap]\nmode = \"require\"\n");
    hypervisor.edit("wait = \"20s\"", "wait = \"60s\"");
    let began = std::time::Instant::now();
    let ran = hypervisor.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    assert!(
        began.elapsed() < std::time::Duration::from_secs(30),
        "waited"
    );
    assert!(hypervisor.console().contains("SF-BOOTSTRAP-REQUIRED"));
    assert_eq!(other.dump(), "");
}

#[test]
fn a_first_boot_that_was_cut_short_is_resumed_and_says_so() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    node.hook("echo 'etcd does not answer' >&2; exit 75");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let console = node.console();
    assert!(
        console.contains("SF-HOOK-UNREACHABLE") && console.contains("etcd does not answer"),
        "{console}"
    );
    assert!(!node.read("systemctl.log").contains("start"));
    node.hook("echo created");
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(node.console().contains("resuming a first boot"));
    assert!(node.status()["status"]["resumed"].is_string());
    assert_eq!(node.agent(&["run"]).code, 0);
    assert!(!node.console().contains("resuming"));
}

#[test]
fn a_series_too_far_away_is_refused_and_nothing_is_written() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    assert_eq!(node.agent(&["run"]).code, 0);
    let manifest = node.read("usr/lib/sf-image/manifest.json");
    let newer = manifest
        .replace("\"0.8\"", "\"0.10\"")
        .replace("\"0.7\"", "\"0.9\"")
        .replace("0.8.0", "0.10.0");
    std::fs::write(node.root().join("usr/lib/sf-image/manifest.json"), newer).unwrap();
    // All but what the node says about its own boot.
    let dump = || {
        let own = server.sql("SELECT fqdn, series FROM shakenfist.bootstrap_nodes");
        let all = server.dump();
        let (before, rest) = all.split_once("bootstrap_nodes\n").unwrap();
        (
            own,
            before.to_owned(),
            rest.split_once("cluster_").unwrap().1.to_owned(),
        )
    };
    let (before, config) = (dump(), node.read("etc/sf/config"));
    node.console();
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    let console = node.console();
    assert!(
        console.contains("SF-GATE-VERSION") && console.contains("0.10") && console.contains("0.8"),
        "{console}"
    );
    assert_eq!(dump(), before);
    // It still holds the series that it may go back to, and says what happened.
    assert_eq!(
        server.sql("SELECT series, image_version, phase, outcome, last_error FROM shakenfist.bootstrap_nodes"),
        "0.8\t0.10.0-1\tpreflight\trefused\tSF-GATE-VERSION"
    );
    assert_eq!(node.read("etc/sf/config"), config);
    assert_eq!(
        node.read("systemctl.log")
            .matches("start --no-block sf.target")
            .count(),
        1
    );
}

#[test]
fn the_gate_before_a_daemon_survives_an_outage() {
    let mut server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");
    let gate = || node.agent(&["gate", "sf-api.service"]);
    assert_eq!(gate().code, 75, "nothing has cleared this boot");
    assert_eq!(node.agent(&["run"]).code, 0);
    assert_eq!(gate().code, 0);
    server.stop();
    let ran = gate();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let boot = node.root().join("proc/sys/kernel/random/boot_id");
    std::fs::write(boot, "00000000-0000-4000-8000-000000000002\n").unwrap();
    let ran = gate();
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("SF-GATE-NO-CLEARANCE"),
        "{}",
        ran.stderr
    );
    assert!(
        node.agent(&["status"])
            .stdout
            .contains("from an earlier boot")
    );
}

#[test]
fn daemons_that_answer_make_the_node_ready() {
    use std::io::{Read as _, Write as _};
    let node = Node::new("hypervisor");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = node.root().join("usr/lib/sf-image/release.toml");
    let release = std::fs::read_to_string(&path)
        .unwrap()
        .replace("port = 13000", &format!("port = {port}"));
    let within = |seconds: u32| {
        let within = format!("within_seconds = {seconds}");
        std::fs::write(&path, release.replace("within_seconds = 5", &within)).unwrap();
    };
    within(60);
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 256];
        let count = stream.read(&mut request).unwrap();
        assert!(request[..count].starts_with(b"GET /livez "));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    });
    let link = node
        .root()
        .join("run/systemd/generator.early/basic.target.wants");
    std::fs::create_dir_all(&link).unwrap();
    std::os::unix::fs::symlink("/x", link.join("systemd-bless-boot.service")).unwrap();
    let ran = node.agent(&["ready"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    answering.join().unwrap();
    let events = node.events();
    assert_eq!(
        events[1],
        serde_json::json!({"event": "ready", "daemons": ["sf-database", "sf-api"]})
    );
    assert_eq!(events[2], serde_json::json!({"event": "END"}));
    assert_eq!(
        node.read("systemctl.log"),
        "start --no-block systemd-bless-boot.service\n"
    );
    assert_eq!(node.status()["status"]["state"], "ready");
    // Nobody listens any more.
    within(1);
    let ran = node.agent(&["ready"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let console = node.console();
    assert!(
        console.contains("NOT READY") && console.contains("sf-api does not answer"),
        "{console}"
    );
}
