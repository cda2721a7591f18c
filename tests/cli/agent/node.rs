//! A folder that stands for a node.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use sf_command::{Child, Cmd, Sink, Tool};

/// The system key of the tests: a marker that must be found nowhere.
pub(crate) const SYSTEM_KEY: &str = "marker-key-8d1e";

/// The seed of the tests; `/etc/sf/config` alone may hold it.
pub(crate) const SEED: &str = "marker-seed-0123456789abcdef";

const AGENT: &str = env!("CARGO_BIN_EXE_sf-firstboot");

/// How many machines there have been.
static MACHINES: AtomicU32 = AtomicU32::new(1);

pub(crate) struct Node {
    folder: tempfile::TempDir,
    journal: UnixDatagram,
    runs: std::cell::Cell<u32>,
}

/// What a run of the agent left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Node {
    /// A node with an image of that role and no metadata.
    pub(crate) fn new(role: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let make = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        make(
            "usr/lib/sf-image/release.toml",
            include_str!("../../../firstboot/tests/fixtures/release.toml"),
        );
        make(
            "usr/lib/sf-image/manifest.json",
            &serde_json::json!({
                "schema": 1, "image_id": format!("sf-{role}"), "image_version": "0.8.0-1", "profile": role,
                "profile_digest": "", "role": role, "debug": false, "release": "test", "shakenfist_version": "0.8.0",
                "series": "0.8", "predecessor": "0.7", "schema_versions": {}, "daemons": ["sf-database", "sf-api"],
                "ports": [], "required_metadata": [], "tools": {}, "source_commit": null,
            })
            .to_string(),
        );
        make("etc/group", "root:x:0:\nsudo:x:27:\n");
        // Each is a machine of its own.
        let machine = MACHINES.fetch_add(1, Ordering::Relaxed);
        make("etc/machine-id", &format!("{machine:032x}\n"));
        make("etc/hosts", "127.0.0.1 localhost\n");
        make(
            "proc/sys/kernel/random/boot_id",
            "00000000-0000-4000-8000-000000000001\n",
        );
        make(
            "proc/consoles",
            "ttyS0                -W- (EC  p a)    4:64\n",
        );
        make("proc/meminfo", "MemTotal:        8388608 kB\n");
        make("proc/cpuinfo", "flags\t\t: fpu vmx\n");
        make("dev/kvm", "");
        make("dev/ttyS0", "");
        make("dev/virtio-ports/sf.result", "");
        make("run/systemd/journal/x", "");
        make("var/x", "");
        make("srv/x", "");
        let node = Self {
            journal: UnixDatagram::bind(root.join("run/systemd/journal/socket")).unwrap(),
            folder,
            runs: std::cell::Cell::new(0),
        };
        node.journal.set_nonblocking(true).unwrap();
        node.program("usr/bin/systemctl", "echo \"$*\" >>\"$ROOT/systemctl.log\"");
        node.program("usr/bin/journalctl", "exit 0");
        node.interfaces(UP);
        node.hook("echo created");
        node
    }

    /// A node of that name, with metadata as [`Self::metadata`] writes it.
    pub(crate) fn named(role: &str, name: &str, port: u16, more: &str) -> Self {
        let node = Self::new(role);
        node.metadata(port, more);
        node.edit("node5", name);
        node
    }

    /// The node that bootstraps, and two that want the network role; none has run.
    pub(crate) fn rivals(port: u16) -> [Self; 3] {
        [
            ("database-tier", "db1"),
            ("network", "net1"),
            ("network", "net2"),
        ]
        .map(|(role, name)| Self::named(role, name, port, ""))
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// What its kernel says of its interfaces from now on.
    pub(crate) fn interfaces(&self, json: &str) {
        let path = self.root().join("run/interfaces.json");
        let new = path.with_extension("new");
        std::fs::write(&new, json).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// A script in the node; `$ROOT` is the node's root.
    pub(crate) fn program(&self, path: &str, script: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(
            &path,
            format!("#!/bin/sh\nROOT='{}'\n{script}\n", self.root().display()),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The release's helper for the system key; it has checked its input
    /// before `script` decides how it ends.
    pub(crate) fn hook(&self, script: &str) {
        let check = format!(
            "read key\n[ \"$key\" = {SYSTEM_KEY} ] && [ \"$*\" = 'system-key deploy' ] || exit 9\necho run >>\"$ROOT/hook.log\""
        );
        self.program(
            "usr/lib/test-release/set-key",
            &format!("{check}\n{script}"),
        );
    }

    /// Metadata and secrets as credentials, with a DSN for that port.
    pub(crate) fn metadata(&self, port: u16, more: &str) {
        let password = super::server::PASSWORD;
        self.credential(
            "sf.metadata",
            &format!(
                "schema = 1\n[node]\nname = \"node5.example.com\"\nmesh = {{ address = \"10.0.0.5\", interface = \"eth0\" }}\n\
                 [database]\ndsn = \"mysql://sf:{password}@127.0.0.1:{port}/shakenfist\"\nwait = \"20s\"\n\
                 [secrets]\nsystem_key = {{ credential = \"sf.key\" }}\nauth_secret_seed = {{ credential = \"sf.seed\" }}\n{more}"
            ),
        );
        self.credential("sf.key", SYSTEM_KEY);
        self.credential("sf.seed", SEED);
    }

    pub(crate) fn credential(&self, name: &str, text: &str) {
        let folder = self.root().join("run/credentials/@system");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    }

    /// Changes the metadata in place.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let path = self.root().join("run/credentials/@system/sf.metadata");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::remove_file(&path).unwrap();
        self.credential("sf.metadata", &text.replace(from, to));
    }

    /// Starts the agent as a service would be started.
    pub(crate) fn start(&self, arguments: &[&str]) -> (Child, PathBuf) {
        self.start_at(self.root(), arguments)
    }

    /// The same with another folder for the agent's root.
    pub(crate) fn start_at(&self, root: &Path, arguments: &[&str]) -> (Child, PathBuf) {
        self.spawn(Cmd::path(AGENT), root, arguments)
    }

    /// Runs it where this script has mounted something, for it alone.
    pub(crate) fn agent_with_mounts(&self, script: &str, arguments: &[&str]) -> Ran {
        let root = rustix::process::geteuid().is_root();
        let own: &[&str] = if root {
            &["--mount"]
        } else {
            &["--mount", "--user", "--map-root-user"]
        };
        let script = format!(
            "set -e\ncd '{}'\n{script}\nexec \"$@\"",
            self.root().display()
        );
        let command = Cmd::new(Tool::Unshare)
            .args(own.iter().copied())
            .args(["sh", "-c", &script, "sh", AGENT]);
        Self::end(self.spawn(command, self.root(), arguments))
    }

    fn spawn(&self, command: Cmd, root: &Path, arguments: &[&str]) -> (Child, PathBuf) {
        let run = self.runs.get();
        self.runs.set(run + 1);
        let streams = self.root().join(format!("streams-{run}"));
        std::fs::create_dir(&streams).unwrap();
        let child = command
            .args(["--log-format", "json", "--root"])
            .arg(root)
            .args(arguments)
            .env("INVOCATION_ID", "0123")
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .stdout(Sink::File(streams.join("stdout")))
            .stderr(Sink::File(streams.join("stderr")))
            .spawn()
            .unwrap();
        (child, streams)
    }

    pub(crate) fn end((mut child, streams): (Child, PathBuf)) -> Ran {
        let status = child
            .wait_timeout(Duration::from_mins(2))
            .unwrap()
            .expect("the agent does not end");
        let read = |name| std::fs::read_to_string(streams.join(name)).unwrap();
        Ran {
            code: status.code().expect("no signal"),
            stdout: read("stdout"),
            stderr: read("stderr"),
        }
    }

    pub(crate) fn agent(&self, arguments: &[&str]) -> Ran {
        Self::end(self.start(arguments))
    }

    /// Runs it on a machine that is not the node, with the node's metadata.
    pub(crate) fn at_desk(&self, arguments: &[&str]) -> Ran {
        let metadata = self.root().join("node.toml");
        let text = self.read("run/credentials/@system/sf.metadata");
        let text = text
            .replace("{ credential = \"sf.key\" }", &format!("\"{SYSTEM_KEY}\""))
            .replace("{ credential = \"sf.seed\" }", &format!("\"{SEED}\""));
        std::fs::write(&metadata, text).unwrap();
        let release = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/release.toml");
        let empty = tempfile::tempdir().unwrap();
        let mut all = arguments.to_vec();
        all.extend([
            "--metadata",
            metadata.to_str().unwrap(),
            "--release-descriptor",
            release,
        ]);
        let ran = Self::end(self.start_at(empty.path(), &all));
        assert_eq!(
            std::fs::read_dir(empty.path()).unwrap().count(),
            0,
            "a check wrote something"
        );
        ran
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap_or_default()
    }

    /// Events of the result port since the last look.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = self.read("dev/virtio-ports/sf.result");
        std::fs::write(self.root().join("dev/virtio-ports/sf.result"), "").unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The console since the last look.
    pub(crate) fn console(&self) -> String {
        let text = self.read("dev/ttyS0");
        std::fs::write(self.root().join("dev/ttyS0"), "").unwrap();
        text.replace('\r', "")
    }

    /// Entries of the journal since the last look.
    pub(crate) fn journal(&self) -> String {
        let mut text = String::new();
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count) = self.journal.recv(&mut buffer) {
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        text
    }

    pub(crate) fn status(&self) -> Value {
        let ran = self.agent(&["status", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

/// Interfaces that the metadata of [`Node::metadata`] fits.
pub(crate) const UP: &str = r#"[{"name": "eth0", "mtu": 8950, "addresses": ["10.0.0.5"]}]"#;

/// Names of the phases among the events.
pub(crate) fn phases(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter(|event| event["event"] == "phase")
        .filter_map(|event| event["phase"].as_str())
        .collect()
}
