//! A real Galera cluster of three servers on this machine: each in a network
//! namespace of its own, joined by a bridge, so that a server can be cut off
//! from its peers, from everybody, or killed. Needs root.
//!
//! Bridge, namespaces and addresses carry a number that belongs to this cluster
//! alone, so that several runs do not meet. All of it goes with the handle. The
//! servers of a killed test die with it; its network is removed by the next one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};
use sf_command::{Child, Cmd, Tool};

use super::build::Build;
use super::{Admin, PASSWORD, copy};

/// How many servers.
pub(crate) const NODES: usize = 3;

/// Time limits of the group that fit a machine with no network in between.
const PROVIDER: &str = "gcache.size=32M;evs.keepalive_period=PT0.3S;evs.suspect_timeout=PT2S;\
     evs.inactive_timeout=PT4S;evs.install_timeout=PT4S;evs.inactive_check_period=PT0.3S";

/// The cluster. Servers are numbered from 0.
pub(crate) struct Galera {
    slot: u16,
    folder: tempfile::TempDir,
    children: Vec<Option<Child>>,
    /// A session with a lock on everything, which goes with it.
    backup: Option<Admin>,
}

impl Galera {
    /// Starts it and waits until all are in it.
    pub(crate) fn start() -> Self {
        let lacking: Vec<String> = sf_command::missing(&[Tool::Ip, Tool::Mariadbd])
            .iter()
            .map(ToString::to_string)
            .chain(
                [
                    ("/usr/lib/galera/libgalera_smm.so", "galera-4"),
                    ("/usr/bin/rsync", "rsync"),
                    ("/usr/bin/setpriv", "util-linux"),
                ]
                .into_iter()
                .filter(|(file, _)| !Path::new(file).exists())
                .map(|(file, package)| format!("{file}: package {package}")),
            )
            .collect();
        assert!(
            lacking.is_empty(),
            "these tests need a real Galera cluster; run tests/prerequisites.sh test: {lacking:?}"
        );
        assert!(
            rustix::process::geteuid().is_root(),
            "a Galera cluster in network namespaces needs root"
        );
        remove_stale();
        let folder = tempfile::Builder::new()
            .prefix("sf-galera-")
            .tempdir()
            .unwrap();
        set_mode(folder.path(), 0o755);
        let mut cluster = Self {
            slot: take_slot(),
            folder,
            children: Vec::new(),
            backup: None,
        };
        let seed = Build::Host.seed();
        for node in 0..NODES {
            cluster.wire(node);
            let own = cluster.path(node);
            std::fs::create_dir_all(own.join("tmp")).unwrap();
            if node == 0 {
                copy(&seed, &own.join("data"));
            } else {
                std::fs::create_dir(own.join("data")).unwrap();
            }
            give_to_mysql(&own);
            cluster.children.push(None);
        }
        cluster.launch(0, true);
        cluster.wait_ready(0);
        for node in 1..NODES {
            cluster.launch(node, false);
        }
        cluster.wait_whole();
        cluster
    }

    /// The cluster that the tests of one process use one after the other.
    pub(crate) fn shared() -> (Arc<Mutex<Self>>, Hold) {
        static SHARED: Mutex<Weak<Mutex<Galera>>> = Mutex::new(Weak::new());
        static TURN: Mutex<()> = Mutex::new(());
        // Held by the test from here to its end: one at a time has the cluster.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Mutex::new(Self::start()));
            *shared = Arc::downgrade(&cluster);
            cluster
        });
        drop(shared);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        (cluster, Hold(turn))
    }

    fn namespace(&self, node: usize) -> String {
        format!("sfg{}-{node}", self.slot)
    }

    fn port_of(&self, node: usize) -> String {
        format!("sfg{}p{node}", self.slot)
    }

    fn path(&self, node: usize) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    fn ip(&self, last: u8) -> Ipv4Addr {
        address(self.slot, last)
    }

    /// The address of a server.
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        let last = u8::try_from(node + 1).unwrap();
        (IpAddr::V4(self.ip(last)), 3306).into()
    }

    /// A DSN over the addresses, in that order.
    pub(crate) fn dsn(name: &str, hosts: &[SocketAddr]) -> String {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        format!(
            "mysql://{name}:{PASSWORD}@{}/{name}?ssl-mode=disabled",
            hosts.join(",")
        )
    }

    fn wire(&self, node: usize) {
        let (namespace, port) = (self.namespace(node), self.port_of(node));
        let bridge = format!("sfg{}", self.slot);
        ip(&format!("netns add {namespace}"));
        ip(&format!(
            "link add {port} type veth peer name eth0 netns {namespace}"
        ));
        ip(&format!("link set {port} master {bridge} up"));
        let address = self.address(node).ip();
        ip(&format!("-n {namespace} addr add {address}/24 dev eth0"));
        ip(&format!("-n {namespace} link set eth0 up"));
        ip(&format!("-n {namespace} link set lo up"));
    }

    fn launch(&mut self, node: usize, first: bool) {
        let own = self.path(node);
        let path = |name: &str| own.join(name).display().to_string();
        let peers: Vec<String> = (0..NODES)
            .filter(|peer| *peer != node && !first)
            .map(|peer| self.address(peer).ip().to_string())
            .collect();
        // setpriv, because the signal that comes with our death is forgotten
        // when mariadbd itself changes its user.
        let child = Cmd::new(Tool::Ip)
            .args(["netns", "exec", &self.namespace(node)])
            .args([
                "setpriv",
                "--reuid=mysql",
                "--regid=mysql",
                "--clear-groups",
            ])
            .args(["--pdeathsig=KILL", "--", "mariadbd", "--no-defaults"])
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--tmpdir={}", path("tmp")))
            .arg(format!("--wsrep-node-address={}", self.address(node).ip()))
            .arg(format!("--wsrep-node-name=node{node}"))
            .arg(format!("--wsrep-cluster-name=sfg{}", self.slot))
            .arg(format!(
                "--wsrep-cluster-address=gcomm://{}",
                peers.join(",")
            ))
            .arg(format!("--wsrep-provider-options={PROVIDER}"))
            .args(first.then_some("--wsrep-new-cluster"))
            .args([
                "--port=3306",
                "--bind-address=0.0.0.0",
                "--skip-name-resolve",
                "--character-set-server=utf8mb4",
                "--collation-server=utf8mb4_unicode_ci",
                "--max-connections=600",
                "--innodb-buffer-pool-size=48M",
                "--innodb-log-file-size=16M",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-doublewrite=0",
                "--wsrep-on=ON",
                "--wsrep-provider=/usr/lib/galera/libgalera_smm.so",
                "--wsrep-sst-method=rsync",
                "--binlog-format=ROW",
                "--innodb-autoinc-lock-mode=2",
                "--default-storage-engine=InnoDB",
            ])
            .log_to(own.join("log"))
            .spawn()
            .unwrap();
        self.children[node] = Some(child);
    }

    /// Root's connection to a server.
    pub(crate) fn admin(&self, node: usize) -> Admin {
        self.try_admin(node).unwrap()
    }

    fn try_admin(&self, node: usize) -> Result<Admin, sqlx::Error> {
        Admin::at(&self.path(node).join("socket").display().to_string())
    }

    /// Until a server takes statements.
    pub(crate) fn wait_ready(&mut self, node: usize) {
        self.wait_status(node, "wsrep_ready", "ON");
    }

    /// Until all servers are in the cluster and up to date.
    pub(crate) fn wait_whole(&mut self) {
        for node in 0..NODES {
            self.wait_status(node, "wsrep_cluster_size", &NODES.to_string());
            self.wait_status(node, "wsrep_local_state_comment", "Synced");
            self.wait_ready(node);
        }
    }

    /// Until a status variable of a server has that value.
    pub(crate) fn wait_status(&mut self, node: usize, name: &str, value: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        let sql = format!("SHOW STATUS LIKE '{name}'");
        loop {
            let found = self.try_admin(node).ok().and_then(|mut admin| {
                let rows = admin.try_rows(&sql).ok()?;
                Some(rows.first()?[1].clone())
            });
            if found.as_deref() == Some(value) {
                return;
            }
            let ended = self.children[node]
                .as_mut()
                .is_none_or(|child| child.try_wait().unwrap().is_some());
            assert!(
                !ended && Instant::now() < deadline,
                "{name} of server {node} is {found:?}, not {value}:\n{}",
                self.log(node)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self, node: usize) -> String {
        let log = std::fs::read_to_string(self.path(node).join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        tail.join("\n")
    }

    /// Brings back whatever a test that failed left broken.
    pub(crate) fn mend(&mut self) {
        if let Some(backup) = self.backup.take() {
            backup.close();
        }
        for node in 0..NODES {
            if self.children[node].is_none() {
                self.launch(node, false);
            }
            ip(&format!("link set {} up", self.port_of(node)));
            self.peers(node, "del");
        }
        self.wait_whole();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node].take() {
            child.kill().unwrap();
        }
    }

    /// Locks a server's tables against writes, as a backup does.
    pub(crate) fn lock_for_backup(&mut self, node: usize) {
        let mut admin = self.admin(node);
        admin.run("FLUSH TABLES WITH READ LOCK");
        self.backup = Some(admin);
    }

    /// Cuts a server off from everybody.
    pub(crate) fn partition(&self, node: usize) {
        ip(&format!("link set {} down", self.port_of(node)));
    }

    /// Cuts a server off from its peers; clients still reach it.
    pub(crate) fn isolate(&self, node: usize) {
        self.peers(node, "add");
    }

    fn peers(&self, node: usize, action: &str) {
        let namespace = self.namespace(node);
        for peer in (0..NODES).filter(|peer| *peer != node) {
            let peer = self.address(peer).ip();
            let command = format!("-n {namespace} route {action} blackhole {peer}/32");
            let done = run(&command);
            // Only an isolation has these routes.
            assert!(done.is_ok() || action == "del", "ip {command}: {done:?}");
        }
    }
}

impl Drop for Galera {
    fn drop(&mut self) {
        self.children.clear();
        remove(self.slot);
    }
}

/// A test's turn with the shared cluster.
pub(crate) struct Hold(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

/// An address of the range for tests between networks (RFC 2544), which no
/// route of a machine leads to.
fn address(slot: u16, last: u8) -> Ipv4Addr {
    let [high, low] = slot.to_be_bytes();
    Ipv4Addr::new(198, 18 + high, low, last)
}

/// Makes a bridge whose number nobody else has.
fn take_slot() -> u16 {
    let start = u16::try_from(std::process::id() % 512).unwrap();
    for slot in (start..512).chain(0..start) {
        let bridge = format!("sfg{slot}");
        // Making it is what takes the number.
        if Path::new("/sys/class/net").join(&bridge).exists()
            || run(&format!("link add name {bridge} type bridge")).is_err()
        {
            continue;
        }
        ip(&format!("link set {bridge} alias {}", std::process::id()));
        ip(&format!("addr add {}/24 dev {bridge}", address(slot, 254)));
        ip(&format!("link set {bridge} up"));
        return slot;
    }
    panic!(
        "no bridge could be made: {:?}",
        run("link add name sfg0 type bridge")
    );
}

/// Removes what tests that were killed left behind.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let slot = name.strip_prefix("sfg").and_then(|text| text.parse().ok());
        let alias = std::fs::read_to_string(entry.path().join("ifalias")).unwrap_or_default();
        let owner = alias.trim().parse().ok().and_then(Pid::from_raw);
        if let (Some(slot), Some(owner)) = (slot, owner)
            && test_kill_process(owner).is_err()
        {
            remove(slot);
        }
    }
}

fn remove(slot: u16) {
    for node in 0..NODES {
        let _ = run(&format!("netns del sfg{slot}-{node}"));
    }
    let _ = run(&format!("link del sfg{slot}"));
}

fn run(arguments: &str) -> Result<(), sf_command::Failure> {
    Cmd::new(Tool::Ip)
        .args(arguments.split_whitespace())
        .run()
        .map(drop)
}

fn ip(arguments: &str) {
    run(arguments).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).unwrap();
}

/// The state transfer fails in folders that are not the user's.
fn give_to_mysql(path: &Path) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> = passwd
        .lines()
        .find(|line| line.starts_with("mysql:"))
        .expect("the user mysql, which comes with the package mariadb-server")
        .split(':')
        .collect();
    give(path, fields[2].parse().unwrap(), fields[3].parse().unwrap());
}

fn give(path: &Path, user: u32, group: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(group)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user, group);
        }
    }
}
