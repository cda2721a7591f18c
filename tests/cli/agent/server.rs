//! A private MariaDB for one test, on a free loopback port.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use sf_command::{Child, Cmd, Sink, Tool};

/// The database user's password: a marker that must be found nowhere.
pub(crate) const PASSWORD: &str = "marker-dsn-3f9c";

pub(crate) struct Server {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    running: Option<Child>,
    /// More of the server's options, for the next start.
    pub(crate) options: Vec<String>,
    /// Its clock goes wrong by this much, such as `-90s`, from the next start on.
    pub(crate) clock: Option<&'static str>,
}

/// A data folder as mariadb-install-db makes it: once, since it takes seconds.
fn seed() -> &'static Path {
    static SEED: OnceLock<PathBuf> = OnceLock::new();
    SEED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let seed = folder.join("mariadb-seed");
        if seed.is_dir() {
            return seed;
        }
        let partial = tempfile::tempdir_in(folder).unwrap();
        let data = partial.path().join("data");
        Cmd::new(Tool::MariadbInstallDb)
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", partial.path().display()))
            .args(as_this_user())
            .timeout(Duration::from_mins(2))
            .run()
            .unwrap();
        // Another run may have been faster; its folder is as good.
        let renamed = std::fs::rename(&data, &seed);
        assert!(renamed.is_ok() || seed.is_dir(), "{renamed:?}");
        seed
    })
}

fn as_this_user() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=root")
}

/// What makes a program's clock wrong: libfaketime in its environment.
fn wrong_clock(by: &'static str) -> [(&'static str, &'static str); 3] {
    let preload = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(
        Path::new(preload).exists(),
        "this test sets clocks back; install the package libfaketime"
    );
    [
        ("LD_PRELOAD", preload),
        ("FAKETIME", by),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
}

impl Server {
    /// A server with an empty database `shakenfist`, not running yet.
    pub(crate) fn prepared() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        Cmd::new(Tool::Cp)
            .arg("-a")
            .arg(seed())
            .arg(folder.path().join("data"))
            .run()
            .unwrap();
        let mut server = Self {
            folder,
            port,
            running: None,
            options: Vec::new(),
            clock: None,
        };
        server.start();
        server.sql(&format!(
            "CREATE DATABASE shakenfist CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; \
             CREATE USER sf@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON shakenfist.* TO sf@'%';"
        ));
        server.stop();
        server
    }

    pub(crate) fn started() -> Self {
        let mut server = Self::prepared();
        server.start();
        server
    }

    pub(crate) fn start(&mut self) {
        let data = self.folder.path().join("data");
        let set = |cmd: Cmd, (key, value)| cmd.env(key, value);
        let clock = self.clock.into_iter().flat_map(wrong_clock);
        let child = clock
            .fold(Cmd::new(Tool::Mariadbd), set)
            .args([
                "--no-defaults",
                // From 11.4 on it would make a certificate of its own.
                "--skip-ssl",
                "--bind-address=127.0.0.1",
                "--innodb-flush-log-at-trx-commit=2",
            ])
            .args(["--innodb-buffer-pool-size=16M", "--performance-schema=OFF"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", data.join("pid").display()))
            // A starting server deletes the temporary tables it finds; in a
            // shared folder they would be another server's.
            .arg(format!("--tmpdir={}", self.folder.path().display()))
            .arg(format!("--port={}", self.port))
            .args(as_this_user())
            .args(&self.options)
            .stdout(Sink::Null)
            .stderr(Sink::File(self.folder.path().join("log")))
            .spawn()
            .unwrap();
        self.running = Some(child);
        let deadline = Instant::now() + Duration::from_mins(1);
        // The socket comes last, and only if the port was free.
        while UnixStream::connect(self.socket()).is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "mariadbd does not start:\n{log}");
            let ended = self.running.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "mariadbd ended:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.terminate(Duration::from_secs(20)).unwrap();
        }
    }

    /// Starts again with a certificate for 127.0.0.1 of a CA of its own; the
    /// CA's PEM.
    pub(crate) fn with_tls(&mut self) -> String {
        self.stop();
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        for line in [
            format!("{new} -subj /CN=ca -keyout ca.key -out ca.pem"),
            format!(
                "{new} -subj /CN=db -keyout db.key -out db.pem -CA ca.pem -CAkey ca.key \
                 -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
            ),
        ] {
            Cmd::new(Tool::Openssl)
                .args(line.split_whitespace())
                .cwd(self.folder.path())
                .run()
                .unwrap();
        }
        for (option, file) in [("ssl-cert", "db.pem"), ("ssl-key", "db.key")] {
            let path = self.folder.path().join(file);
            self.options.push(format!("--{option}={}", path.display()));
        }
        self.start();
        std::fs::read_to_string(self.folder.path().join("ca.pem")).unwrap()
    }

    /// Stops it in its tracks: connections are taken and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.running.as_ref().unwrap().pid();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Runs statements as root; rows as tab-separated lines.
    pub(crate) fn sql(&self, statements: &str) -> String {
        Cmd::new(Tool::Mariadb)
            .args([
                "--no-defaults",
                "--skip-ssl-verify-server-cert",
                "--user=root",
                "--batch",
                "--skip-column-names",
            ])
            .arg(format!("--socket={}", self.socket().display()))
            .stdin(statements.as_bytes())
            .run()
            .unwrap()
            .text()
    }

    /// Every row of every table of the cluster.
    pub(crate) fn dump(&self) -> String {
        let tables = self.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shakenfist' ORDER BY 1");
        let selects: Vec<String> = tables
            .lines()
            .map(|table| format!("SELECT '{table}'; SELECT * FROM shakenfist.{table} ORDER BY 1;"))
            .collect();
        if selects.is_empty() {
            String::new()
        } else {
            self.sql(&selects.join("\n"))
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

/// A port for a server that is to be stopped and started: below the range that
/// the kernel gives to outgoing connections, or one of those might have taken
/// it in the meantime.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
