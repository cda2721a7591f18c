//! How long the agent takes, and what a fleet that is powered on at once does
//! to the database. Benches, run by `tests/bench.sh scale`: they print tables
//! and fail only when the outcome is wrong, never because a machine is slow.
//!
//! Every node is a folder in memory, and every agent a process of its own,
//! `sf-firstboot run`, with systemctl replaced by a program that does nothing.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sf_command::{Child, Cmd};

use support::{PASSWORD, Server};

const DATABASE: &str = "scale";

/// The fleet: nodes in folders, and the server.
struct Fleet {
    folder: tempfile::TempDir,
    dsn: String,
}

impl Fleet {
    fn new(server: &Server) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Self {
            folder: folder.unwrap(),
            dsn: server.database(DATABASE),
        }
    }

    /// A node that was never booted.
    fn node(&self, name: &str, role: &str) -> PathBuf {
        let root = self.folder.path().join(name);
        let make = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let link = |path: &str, to: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, path).unwrap();
        };
        make(
            "usr/lib/sf-image/release.toml",
            include_str!("../../releases/0.7/release.toml"),
        );
        let manifest = serde_json::json!({
            "schema": 1, "image_id": format!("sf-{role}"), "image_version": "0.7.2-1", "profile": role,
            "profile_digest": "0", "role": role, "debug": false, "release": "0.7",
            "shakenfist_version": "0.7.2", "series": "0.7", "predecessor": "0.6", "schema_versions": {},
            "daemons": ["sf-daemon"], "ports": [], "required_metadata": [], "tools": {}, "source_commit": null,
        });
        make("usr/lib/sf-image/manifest.json", &manifest.to_string());
        make("etc/machine-id", &format!("{:x}\n", name.len()));
        make("etc/hostname", name);
        make("proc/consoles", "");
        make("proc/sys/kernel/random/boot_id", "boot-1\n");
        for folder in ["var", "srv", "run"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for program in ["systemctl", "journalctl"] {
            link(&format!("usr/bin/{program}"), "/bin/true");
        }
        link("usr/bin/ip", "/usr/bin/ip");
        let metadata = format!(
            "schema = 1\n[node]\nname = \"{name}.example.com\"\n\
             mesh = {{ address = \"127.0.0.1\", interface = \"lo\" }}\n\
             egress = {{ address = \"127.0.0.1\", interface = \"lo\" }}\n\
             [cluster]\nnetwork_node = \"10.0.0.2\"\nfloating_network = \"10.2.0.0/24\"\n\
             dns_server = \"9.9.9.9\"\nmax_hypervisor_mtu = 8950\n\
             [database]\ndsn = \"{}\"\nwait = \"10m\"\n[config]\nETCD_HOST = \"10.0.0.9\"\n",
            self.dsn
        );
        make("etc/sf/metadata.toml", &metadata);
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(root.join("etc/sf/metadata.toml"), private).unwrap();
        root
    }

    /// Adds a system key, and with it the one hash that a bootstrap owes.
    fn with_system_key(root: &Path) {
        let path = root.join("etc/sf/metadata.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            format!("{text}[secrets]\nsystem_key = \"bench-key-1\"\n"),
        )
        .unwrap();
        let release = root.join("usr/lib/sf-image/release.toml");
        let text = std::fs::read_to_string(&release).unwrap();
        let hook: toml::Table = toml::from_str(&text).unwrap();
        let helper = hook["hooks"]["system_key"][0].as_str().unwrap();
        let helper = root.join(helper.trim_start_matches('/'));
        std::fs::create_dir_all(helper.parent().unwrap()).unwrap();
        std::fs::write(&helper, "#!/bin/sh\necho created\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&helper, executable).unwrap();
    }
}

/// The agent as images have it, where the bench's script gives it.
fn agent() -> PathBuf {
    std::env::var_os("SF_BENCH_AGENT")
        .map_or_else(|| env!("CARGO_BIN_EXE_sf-firstboot").into(), PathBuf::from)
}

fn run(root: &Path) -> Child {
    Cmd::path(agent())
        .arg("--root")
        .arg(root)
        .arg("run")
        .env("INVOCATION_ID", "0")
        .env_remove("CREDENTIALS_DIRECTORY")
        .log_to(root.join("log"))
        .spawn()
        .unwrap()
}

fn ended_well(mut child: Child, root: &Path) {
    let status = child.wait_timeout(Duration::from_mins(10)).unwrap();
    let well = status.is_some_and(|status| status.success());
    let log = std::fs::read_to_string(root.join("log")).unwrap_or_default();
    assert!(well, "{}: {status:?}\n{log}", root.display());
}

/// Runs agents one after the other; the median time of one.
fn median(roots: &[PathBuf]) -> Duration {
    let mut times: Vec<Duration> = roots
        .iter()
        .map(|root| {
            let began = Instant::now();
            ended_well(run(root), root);
            began.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// Starts all at once; the time until the last one has ended.
fn at_once(roots: &[PathBuf]) -> Duration {
    let began = Instant::now();
    let running: Vec<Child> = roots.iter().map(|root| run(root)).collect();
    for (child, root) in running.into_iter().zip(roots) {
        ended_well(child, root);
    }
    began.elapsed()
}

/// A login and one SELECT each, by MariaDB's own client.
fn bare_logins(server: &Server, count: usize, log: &Path) -> Duration {
    let began = Instant::now();
    let running: Vec<Child> = (0..count)
        .map(|_| {
            Cmd::path("/usr/bin/mariadb")
                .args(["--no-defaults", "--host=127.0.0.1", "--skip-ssl", "--batch"])
                .arg(format!("--port={}", server.port))
                .args(["--user=scale", "--execute=SELECT 1", DATABASE])
                .env("MYSQL_PWD", PASSWORD)
                .log_to(log)
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in running {
        let status = child.wait_timeout(Duration::from_mins(10)).unwrap();
        assert!(
            status.is_some_and(|status| status.success()),
            "a bare login failed"
        );
    }
    began.elapsed()
}

#[test]
#[ignore = "a bench; tests/bench.sh scale runs it"]
fn one_agent_alone() {
    let server = Server::start(&[]);
    let fleet = Fleet::new(&server);
    let first = fleet.node("db1", "database-tier");
    let with_key = fleet.node("db2", "database-tier");
    Fleet::with_system_key(&with_key);
    let others: Vec<PathBuf> = (0..21)
        .map(|n| fleet.node(&format!("hv{n}"), "hypervisor"))
        .collect();
    let bootstrap = median(&[first]);
    let key = median(&[with_key]);
    let joining = median(&others);
    let again = median(&others);
    println!("| one run on an idle host | ms |\n|---|---|");
    for (what, time) in [
        (
            "first boot of the first database-tier node, bootstrap without a system key",
            bootstrap,
        ),
        (
            "first boot of the second one, which adds a system key (bcrypt)",
            key,
        ),
        ("first boot of a hypervisor (median of 21)", joining),
        ("second boot of a hypervisor (median of 21)", again),
    ] {
        println!("| {what} | {} |", time.as_millis());
    }
}

#[test]
#[ignore = "a bench; tests/bench.sh scale runs it"]
fn a_fleet_at_once() {
    let count: usize = std::env::var("SF_BENCH_NODES").map_or(1000, |text| text.parse().unwrap());
    let connections = format!("--max-connections={}", count + 50);
    let server = Server::start(&[
        &connections,
        "--thread-handling=pool-of-threads",
        "--back-log=2000",
    ]);
    let fleet = Fleet::new(&server);
    let nodes: Vec<PathBuf> = (0..count)
        .map(|n| {
            let role = if n % 100 == 0 {
                "database-tier"
            } else {
                "hypervisor"
            };
            fleet.node(&format!("n{n}"), role)
        })
        .collect();
    let mut admin = server.admin();
    let before = bare_logins(&server, count, &fleet.folder.path().join("bare"));
    admin.run("FLUSH STATUS");
    let first = at_once(&nodes);
    let most = &admin.rows("SHOW GLOBAL STATUS LIKE 'Max_used_connections'")[0][1];
    let second = at_once(&nodes);
    let after = bare_logins(&server, count, &fleet.folder.path().join("bare"));

    let started =
        admin.cell("SELECT COUNT(*) FROM scale.bootstrap_nodes WHERE outcome = 'started'");
    assert_eq!(started, count.to_string());
    let seeds =
        admin.cell("SELECT COUNT(*) FROM scale.cluster_config WHERE key_name = 'AUTH_SECRET_SEED'");
    assert_eq!(seeds, "1");
    let created =
        admin.cell("SELECT COUNT(*) FROM scale.bootstrap_operations WHERE outcome = 'created'");
    assert_eq!(
        created,
        admin.cell("SELECT COUNT(*) FROM scale.bootstrap_operations")
    );

    let bare = before.min(after).as_secs_f64();
    println!("| {count} nodes at once | s | times bare logins |\n|---|---|---|");
    for (what, time) in [
        ("bare logins with one SELECT, before", before),
        ("first boot, bootstrap included", first),
        ("second boot", second),
        ("bare logins with one SELECT, after", after),
    ] {
        let seconds = time.as_secs_f64();
        println!("| {what} | {seconds:.1} | {:.1} |", seconds / bare);
    }
    println!("| connections at once, at most | {most} | |");
}
