//! How long the agent takes, and what a fleet that is powered on at once does
//! to the database. Benches, run by `tests/bench.sh scale`: they print tables
//! and fail only when the outcome is wrong, never because a machine is slow.
//!
//! Every node is a folder in memory, and every agent a process of its own,
//! `sf-firstboot run`, with systemctl replaced by a program that does nothing.
//! Beside each fleet stand as many logins by MariaDB's own client, before and
//! after it: only the ratio of the two tells something on a busy machine.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sf_command::{Child, Cmd};

use support::galera::{Galera, NODES};
use support::metadata::dump;
use support::{Admin, PASSWORD, Server};

const DATABASE: &str = "scale";

/// How many boot at once, at most.
const BATCH: usize = 1000;

/// With `SF_BENCH_SIMULATED` the nodes between this many and the last batch are
/// rows that nobody booted for, which saves minutes.
const SIMULATED_FROM: usize = 3000;

/// Nodes in folders, and the servers that their agents use.
struct Fleet {
    folder: tempfile::TempDir,
    servers: Vec<SocketAddr>,
}

impl Fleet {
    /// The database must be there.
    fn new(servers: Vec<SocketAddr>) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Self {
            folder: folder.unwrap(),
            servers,
        }
    }

    fn of(server: &Server) -> Self {
        server.database(DATABASE);
        Self::new(vec![server.address()])
    }

    /// Nodes that were never booted; every hundredth may bootstrap.
    fn nodes(&self, numbers: Range<usize>) -> Vec<PathBuf> {
        numbers
            .map(|number| {
                let role = if number.is_multiple_of(100) {
                    "database-tier"
                } else {
                    "hypervisor"
                };
                self.node(number, role)
            })
            .collect()
    }

    /// The servers as a node's DSN lists them: each node has another one first.
    fn dsn(&self, number: usize) -> String {
        let mut servers = self.servers.clone();
        servers.rotate_left(number % self.servers.len());
        Galera::dsn(DATABASE, &servers)
    }

    /// A node that was never booted.
    fn node(&self, number: usize, role: &str) -> PathBuf {
        let name = format!("n{number}");
        let root = self.folder.path().join(&name);
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
        make("etc/machine-id", &format!("{number:032x}\n"));
        make("etc/hostname", &name);
        make("proc/consoles", "");
        make("proc/sys/kernel/random/boot_id", "boot-1\n");
        for folder in ["var", "srv", "run"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for program in ["systemctl", "journalctl"] {
            link(&format!("usr/bin/{program}"), "/bin/true");
        }
        let metadata = format!(
            "schema = 1\n[node]\nname = \"{name}.example.com\"\n\
             mesh = {{ address = \"127.0.0.1\", interface = \"lo\" }}\n\
             egress = {{ address = \"127.0.0.1\", interface = \"lo\" }}\n\
             [cluster]\nnetwork_node = \"10.0.0.2\"\nfloating_network = \"10.2.0.0/24\"\n\
             dns_server = \"9.9.9.9\"\nmax_hypervisor_mtu = 8950\n\
             [database]\ndsn = \"{}\"\nwait = \"10m\"\n[config]\nETCD_HOST = \"10.0.0.9\"\n",
            self.dsn(number)
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

fn command(program: impl AsRef<Path>, root: &Path) -> Cmd {
    Cmd::path(program.as_ref())
        .env("INVOCATION_ID", "0")
        .env_remove("CREDENTIALS_DIRECTORY")
        // Cargo's, in which every program would look for its libraries first.
        .env_remove("LD_LIBRARY_PATH")
        .log_to(root.join("log"))
}

fn run(root: &Path) -> Child {
    command(agent(), root)
        .arg("--root")
        .arg(root)
        .arg("run")
        .spawn()
        .unwrap()
}

fn ended_well(mut child: Child, root: &Path) {
    let status = child.wait_timeout(Duration::from_mins(10)).unwrap();
    let well = status.is_some_and(|status| status.success());
    let log = std::fs::read_to_string(root.join("log")).unwrap_or_default();
    assert!(well, "{}: {status:?}\n{log}", root.display());
}

/// What one run took.
#[derive(Clone, Copy, Default, PartialEq, PartialOrd)]
struct Usage {
    seconds: f64,
    processor: f64,
    peak_kib: u64,
}

/// One run by itself. time(1) starts it, and says what it alone has used.
fn alone(root: &Path) -> Usage {
    let figures = root.join("figures");
    let began = Instant::now();
    let mut child = command("/usr/bin/time", root)
        .args(["--format=%U %S %M", "--output"])
        .arg(&figures)
        .arg(agent())
        .arg("--root")
        .arg(root)
        .arg("run")
        .spawn()
        .expect("/usr/bin/time, package time");
    let status = child.wait().unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let log = std::fs::read_to_string(root.join("log")).unwrap_or_default();
    assert!(status.success(), "{}: {status:?}\n{log}", root.display());
    let figures = std::fs::read_to_string(figures).unwrap();
    let figures: Vec<&str> = figures.split_whitespace().collect();
    Usage {
        seconds,
        processor: figures[0].parse::<f64>().unwrap() + figures[1].parse::<f64>().unwrap(),
        peak_kib: figures[2].parse().unwrap(),
    }
}

/// Runs agents one after the other; of each figure the median.
fn median(roots: &[PathBuf]) -> Usage {
    let all: Vec<Usage> = roots.iter().map(|root| alone(root)).collect();
    let mut seconds: Vec<f64> = all.iter().map(|one| one.seconds).collect();
    let mut processor: Vec<f64> = all.iter().map(|one| one.processor).collect();
    let mut peak: Vec<u64> = all.iter().map(|one| one.peak_kib).collect();
    seconds.sort_by(f64::total_cmp);
    processor.sort_by(f64::total_cmp);
    peak.sort_unstable();
    let middle = all.len() / 2;
    Usage {
        seconds: seconds[middle],
        processor: processor[middle],
        peak_kib: peak[middle],
    }
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

/// A login and one SELECT each, by MariaDB's own client, spread over the servers.
fn bare_logins(fleet: &Fleet, count: usize) -> Duration {
    let log = fleet.folder.path().join("bare");
    let began = Instant::now();
    let running: Vec<Child> = (0..count)
        .map(|number| {
            let server = fleet.servers[number % fleet.servers.len()];
            Cmd::path("/usr/bin/mariadb")
                .args(["--no-defaults", "--skip-ssl", "--batch"])
                .arg(format!("--host={}", server.ip()))
                .arg(format!("--port={}", server.port()))
                .args(["--user=scale", "--execute=SELECT 1", DATABASE])
                .env("MYSQL_PWD", PASSWORD)
                .env_remove("LD_LIBRARY_PATH")
                .log_to(&log)
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in running {
        let status = child.wait_timeout(Duration::from_mins(10)).unwrap();
        assert!(
            status.is_some_and(|status| status.success()),
            "a bare login failed: {}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
    }
    began.elapsed()
}

/// What a fleet took, and bare logins around it.
struct Measured {
    first: Duration,
    second: Duration,
    /// The faster of before and after.
    bare: Duration,
}

impl Measured {
    /// Boots the nodes twice, all at once each time.
    fn of(fleet: &Fleet, nodes: &[PathBuf]) -> Self {
        let before = bare_logins(fleet, nodes.len());
        let first = at_once(nodes);
        let second = at_once(nodes);
        Self {
            first,
            second,
            bare: before.min(bare_logins(fleet, nodes.len())),
        }
    }

    /// `12.3 | 12 | 1.6 | 1.3 | 7.7`: seconds of the first boot, milliseconds
    /// of it per node, both boots in bare logins, those in seconds.
    fn cells(&self, nodes: usize) -> String {
        let [first, second, bare] =
            [self.first, self.second, self.bare].map(|time| time.as_secs_f64());
        let count = f64::from(u32::try_from(nodes).unwrap());
        format!(
            "{first:.1} | {:.1} | {:.1} | {:.1} | {bare:.1}",
            first * 1000.0 / count,
            first / bare,
            second / bare
        )
    }
}

const COLUMNS: &str =
    "first boot, s | ms per node | times bare logins | second boot, times | bare logins, s";

/// Exactly one bootstrap, and all nodes started.
fn one_bootstrap_and_all_started(admin: &mut Admin, nodes: usize) {
    for (sql, expected) in [
        (
            "bootstrap_nodes WHERE outcome = 'started'",
            nodes.to_string(),
        ),
        (
            "cluster_config WHERE key_name = 'AUTH_SECRET_SEED'",
            "1".into(),
        ),
        (
            "bootstrap_operations WHERE outcome <> 'created'",
            "0".into(),
        ),
        (
            "bootstrap_operations WHERE name = 'cluster-series'",
            "1".into(),
        ),
        ("cluster_series", "1".into()),
    ] {
        let found = admin.cell(&format!("SELECT COUNT(*) FROM {DATABASE}.{sql}"));
        assert_eq!(found, expected, "{sql}");
    }
}

/// How many connections there were at the same time, ours among them, since the
/// last `FLUSH STATUS`.
fn most_connections(admin: &mut Admin) -> usize {
    let rows = admin.rows("SHOW GLOBAL STATUS LIKE 'Max_used_connections'");
    rows[0][1].parse().unwrap()
}

/// A server that has room for a whole batch.
fn roomy() -> Server {
    Server::start(&[
        &format!("--max-connections={}", BATCH + 50),
        "--thread-handling=pool-of-threads",
        "--back-log=2000",
    ])
}

#[test]
#[ignore = "a bench; tests/bench.sh scale runs it"]
fn one_agent_alone() {
    let server = Server::start(&[]);
    let fleet = Fleet::of(&server);
    let mut admin = server.admin();
    let first = fleet.node(1, "database-tier");
    let with_key = fleet.node(2, "database-tier");
    Fleet::with_system_key(&with_key);
    let others: Vec<PathBuf> = (3..24).map(|n| fleet.node(n, "hypervisor")).collect();
    admin.run("FLUSH STATUS");
    let bootstrap = median(&[first]);
    let key = median(&[with_key]);
    let joining = median(&others);
    let again = median(&others);
    // A run has one connection at a time, and hands it on between its phases.
    assert_eq!(most_connections(&mut admin), 2, "ours, and the agent's");
    let size = std::fs::metadata(agent()).unwrap().len() / 1024;
    println!("\n| one run, nothing else at this server | ms | processor, ms | peak RSS, KiB |");
    println!("|---|---|---|---|");
    for (what, used) in [
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
        println!(
            "| {what} | {:.0} | {:.0} | {} |",
            used.seconds * 1000.0,
            used.processor * 1000.0,
            used.peak_kib
        );
    }
    println!("\nThe agent's binary has {size} KiB.");
}

/// Ten, a hundred, a thousand at once, each against an empty database; then on
/// with the last one in batches of a thousand, whose tables grow.
/// `SF_BENCH_NODES` is the fleet's size at the end, 10,000 by itself.
#[test]
#[ignore = "a bench; tests/bench.sh scale runs it"]
fn a_fleet_at_once() {
    let size: usize = std::env::var("SF_BENCH_NODES").map_or(10_000, |text| text.parse().unwrap());
    let simulated = std::env::var_os("SF_BENCH_SIMULATED").is_some();
    println!("\n| nodes at once | nodes recorded before | {COLUMNS} | connections at once |");
    println!("|---|---|---|---|---|---|---|---|");
    for count in [10, 100] {
        let server = roomy();
        let fleet = Fleet::of(&server);
        boot(&server, &fleet, 0..count, "0");
    }
    let server = roomy();
    let fleet = Fleet::of(&server);
    let mut admin = server.admin();
    let mut before = 0;
    while before < size {
        let mut said = before.to_string();
        if simulated && before >= SIMULATED_FROM && before + BATCH < size {
            admin.run(&format!(
                "USE {DATABASE}; INSERT INTO bootstrap_nodes \
                 SELECT CONCAT('n', seq, '.example.com'), 'hypervisor', '0.7', '0.7.2', '0.7.2-1', \
                 CONCAT('simulated-', seq), 'services', 'started', UNIX_TIMESTAMP(), NULL \
                 FROM seq_{before}_to_{}",
                size - BATCH - 1
            ));
            said = format!(
                "{} ({} of them simulated)",
                size - BATCH,
                size - BATCH - before
            );
            before = size - BATCH;
        }
        let until = size.min(before + BATCH);
        boot(&server, &fleet, before..until, &said);
        before = until;
    }
}

/// Boots further nodes of a fleet and prints their row.
#[expect(clippy::print_stdout, reason = "the row")]
fn boot(server: &Server, fleet: &Fleet, numbers: Range<usize>, before: &str) {
    let mut admin = server.admin();
    let (count, all) = (numbers.len(), numbers.end);
    let nodes = fleet.nodes(numbers);
    admin.run("FLUSH STATUS");
    let measured = Measured::of(fleet, &nodes);
    let most = most_connections(&mut admin);
    one_bootstrap_and_all_started(&mut admin, all);
    let others =
        admin.cell("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'root'");
    let others: usize = others.parse().unwrap();
    assert!(
        most <= count + others,
        "{most} connections of {count} nodes"
    );
    println!(
        "| {count} | {before} | {} | {most} |",
        measured.cells(count)
    );
    for node in nodes {
        std::fs::remove_dir_all(node).unwrap();
    }
}

/// Limits far below the fleet: MariaDB's own, and one that turns most away. Who
/// finds no room waits for it, and the node that all wait for comes last.
#[test]
#[ignore = "a bench; tests/bench.sh scale runs it"]
fn a_fleet_at_a_server_with_few_connections() {
    println!(
        "\n| {BATCH} nodes at once, max_connections | first boot, s | connections at once | logins turned away |"
    );
    println!("|---|---|---|---|");
    for limit in [151, 12] {
        let server = Server::start(&[&format!("--max-connections={limit}")]);
        let fleet = Fleet::of(&server);
        let mut nodes: Vec<PathBuf> = (1..BATCH).map(|n| fleet.node(n, "hypervisor")).collect();
        nodes.push(fleet.node(0, "database-tier"));
        let mut admin = server.admin();
        admin.run("FLUSH STATUS");
        let took = at_once(&nodes);
        let most = most_connections(&mut admin);
        // One more than the limit is kept for an administrator.
        assert!(most <= limit + 1, "{most} connections");
        one_bootstrap_and_all_started(&mut admin, BATCH);
        let turned_away =
            &admin.rows("SHOW GLOBAL STATUS LIKE 'Connection_errors_max_connections'")[0][1];
        println!(
            "| {limit} | {:.1} | {most} | {turned_away} |",
            took.as_secs_f64()
        );
    }
}

/// Three servers; each node has another one first in its DSN.
#[test]
#[ignore = "a bench; tests/bench.sh scale runs it"]
fn a_fleet_at_once_on_galera() {
    let cluster = Galera::start();
    cluster.admin(0).database(DATABASE);
    // Not before what was done at one is done at all.
    let mut admins = [0, 1, 2].map(|server| {
        let mut admin = cluster.admin(server);
        admin.run("SET SESSION wsrep_sync_wait = 7");
        admin.rows("SELECT COUNT(*) FROM mysql.user");
        admin.run("FLUSH LOCAL STATUS");
        admin
    });
    let fleet = Fleet::new((0..NODES).map(|server| cluster.address(server)).collect());
    let nodes = fleet.nodes(0..BATCH);
    let measured = Measured::of(&fleet, &nodes);
    let most = admins.each_mut().map(most_connections);
    one_bootstrap_and_all_started(&mut admins[0], BATCH);
    let [first, rest @ ..] = admins.each_mut().map(|admin| dump(admin, DATABASE));
    assert!(!first.is_empty());
    for other in rest {
        assert_eq!(other, first);
    }
    let conflicts: u64 = admins
        .each_mut()
        .map(|admin| {
            let rows = admin.rows("SHOW GLOBAL STATUS LIKE 'wsrep_local_cert_failures'");
            rows[0][1].parse::<u64>().unwrap()
        })
        .iter()
        .sum();
    println!(
        "\n| nodes at once, three Galera servers | {COLUMNS} | connections at once | lost at COMMIT |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {BATCH} | {} | {most:?} | {conflicts} |",
        measured.cells(BATCH)
    );
}
