//! A real MariaDB for tests: a data folder is made once into the cache, copied
//! for each server (0.2 s), and served on a socket and a loopback port. The
//! server dies with the test process, and its folder with the handle.

#![allow(dead_code, reason = "each test uses its own part of this")]

pub(crate) mod agent;
pub(crate) mod build;
pub(crate) mod crossing;
pub(crate) mod galera;
pub(crate) mod handover;
pub(crate) mod history;
pub(crate) mod lot;
#[path = "../../cli/agent/maker.rs"]
pub(crate) mod maker;
pub(crate) mod matrix;
pub(crate) mod metadata;
pub(crate) mod mysql;
#[path = "../../cli/agent/node.rs"]
pub(crate) mod node;
pub(crate) mod normal;
pub(crate) mod proxy;
pub(crate) mod readers;
pub(crate) mod rehearsal;
pub(crate) mod replay;
pub(crate) mod steps;
pub(crate) mod ways;

/// What `maker` and `node` expect to stand beside them.
mod server {
    pub(crate) use super::PASSWORD;
}

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use build::Build;
use rustix::process::{Pid, Signal, kill_process};
use sf_command::{Child, Cmd, Tool};
use sf_firstboot::database::Connector;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

/// A marker that no output and no table but its own may contain.
pub(crate) const PASSWORD: &str = "pa55-MARKER-word";

/// A running server.
pub(crate) struct Server {
    child: Option<Child>,
    folder: tempfile::TempDir,
    build: Build,
    environment: Vec<(String, String)>,
    /// Loopback port.
    pub(crate) port: u16,
}

impl Server {
    /// Starts the machine's own MariaDB with further options, such as
    /// `--version=8.0.36`.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_build(Build::Host, options)
    }

    /// Starts a server of that build.
    pub(crate) fn start_build(build: Build, options: &[&str]) -> Self {
        Self::start_in(build, &std::env::temp_dir(), &[], options)
    }

    /// Starts a server whose files are in a folder of their own under `parent`,
    /// with further variables in its environment.
    pub(crate) fn start_in(
        build: Build,
        parent: &std::path::Path,
        environment: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("sf-mariadb-")
            .tempdir_in(parent)
            .unwrap();
        copy(&build.seed(), &folder.path().join("data"));
        let mut server = Self {
            child: None,
            folder,
            build,
            environment: environment
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            port: free_port(),
        };
        server.launch(options);
        server
    }

    /// Starts the server on its folder; returns once it lets root in.
    pub(crate) fn launch(&mut self, options: &[&str]) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let log = self.folder.path().join("log");
        // Not the shared one: a server that starts removes the temporary tables
        // that it finds there, and the one that they belonged to crashes.
        std::fs::create_dir_all(path("tmp")).unwrap();
        let mut command = self
            .build
            .mariadbd()
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--tmpdir={}", path("tmp")))
            .arg(format!("--port={}", self.port))
            .args(build::account())
            .args([
                // From 11.4 on it would make a certificate of its own.
                "--skip-ssl",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--character-set-server=utf8mb4",
                "--collation-server=utf8mb4_unicode_ci",
                "--max-connections=300",
                "--innodb-buffer-pool-size=32M",
                "--innodb-log-file-size=16M",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-doublewrite=0",
            ])
            .args(options.iter().copied())
            .log_to(&log);
        for (key, value) in &self.environment {
            command = command.env(key, value);
        }
        self.child = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            if block_on(self.options("root").connect()).is_ok() {
                return;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            assert!(
                !ended && Instant::now() < deadline,
                "mariadbd did not start:\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Sends the server a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().pid();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// Ends the server without a chance to write anything.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
        }
    }

    /// Ends the server and starts it again on the same data and port.
    pub(crate) fn restart(&mut self, options: &[&str]) {
        self.stop();
        self.launch(options);
    }

    /// Ends the server; its port then refuses.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.terminate(Duration::from_secs(20)).unwrap();
        }
    }

    /// Path of its unix socket.
    pub(crate) fn socket(&self) -> String {
        self.folder.path().join("socket").display().to_string()
    }

    /// What the server wrote to its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The folder of its data, for logs that it writes there.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn options(&self, user: &str) -> MySqlConnectOptions {
        MySqlConnectOptions::new()
            .socket(self.socket())
            .username(user)
            .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled)
            .disable_statement_logging()
    }

    /// An administrator's connection.
    pub(crate) fn admin(&self) -> Admin {
        Admin {
            connection: block_on(self.options("root").connect()).unwrap(),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        (std::net::Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Makes an empty database and a user of the same name that may do
    /// anything in it; returns the DSN.
    pub(crate) fn database(&self, name: &str) -> String {
        self.admin().database(name);
        self.dsn(name)
    }

    /// The DSN of a database and its user.
    pub(crate) fn dsn(&self, name: &str) -> String {
        dsn(name, self.port)
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "what a failing test has to say")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the server's log, latest first:\n{}", tail.join("\n"));
        }
    }
}

/// A DSN on a loopback port, without TLS so that a proxy can read along.
pub(crate) fn dsn(name: &str, port: u16) -> String {
    dsn_at(name, (std::net::Ipv4Addr::LOCALHOST, port).into())
}

/// A DSN on an address.
pub(crate) fn dsn_at(name: &str, address: std::net::SocketAddr) -> String {
    format!("mysql://{name}:{PASSWORD}@{address}/{name}?ssl-mode=disabled")
}

/// Copies a data folder. Without holes: a server relies on having the space of
/// its redo log, and dies when a full disk denies it.
pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    Cmd::new(Tool::Cp)
        .args(["-r", "--reflink=auto", "--sparse=never"])
        .arg(from)
        .arg(to)
        .run()
        .unwrap();
}

/// A connector for a DSN.
pub(crate) fn connector(dsn: &str) -> Connector {
    Connector::new(dsn.parse().unwrap()).connect_timeout(Duration::from_secs(5))
}

/// Waits for a minute at most until it is `there`.
pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !there() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills the agent and waits until it is dead, so that it does not notice the
/// broken connection and act on it.
pub(crate) fn kill(victim: &Mutex<Option<Pid>>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let pid = loop {
        if let Some(pid) = *victim.lock().unwrap() {
            break pid;
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    };
    let _ = kill_process(pid, Signal::KILL);
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The server that the tests of one process share; it ends with its last user.
pub(crate) fn shared() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start(&[]));
        *shared = Arc::downgrade(&server);
        server
    })
}

/// Root's connection to a server.
pub(crate) struct Admin {
    connection: MySqlConnection,
}

impl Admin {
    /// Logs in as root on a socket.
    pub(crate) fn at(socket: &str) -> Result<Self, sqlx::Error> {
        let options = MySqlConnectOptions::new()
            .socket(socket)
            .username("root")
            .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled)
            .disable_statement_logging();
        block_on(options.connect()).map(|connection| Self { connection })
    }

    /// Makes an empty database and a user of the same name that may do
    /// anything in it.
    pub(crate) fn database(&mut self, name: &str) {
        self.run(&format!(
            "DROP DATABASE IF EXISTS `{name}`; \
             CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; \
             CREATE OR REPLACE USER `{name}`@`%` IDENTIFIED BY '{PASSWORD}'; \
             GRANT ALL PRIVILEGES ON `{}`.* TO `{name}`@`%`",
            name.replace('_', "\\_")
        ));
    }

    /// Runs statements.
    pub(crate) fn run(&mut self, sql: &str) {
        let text = sql.to_owned();
        block_on(sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut self.connection))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Runs statements that may fail; the error's text.
    pub(crate) fn try_run(&mut self, sql: &str) -> Result<(), String> {
        let text = sql.to_owned();
        block_on(sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut self.connection))
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Reads rows as text; NULL is `NULL`.
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        self.try_rows(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Reads rows as text, which may fail.
    pub(crate) fn try_rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>, sqlx::Error> {
        let text = sql.to_owned();
        let rows = block_on(sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut self.connection))?;
        let cell = |row: &sqlx::mysql::MySqlRow, index| {
            let bytes: Option<Vec<u8>> = row.try_get_unchecked(index).unwrap();
            bytes.map_or("NULL".to_owned(), |bytes| {
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        Ok(rows
            .iter()
            .map(|row| (0..row.len()).map(|index| cell(row, index)).collect())
            .collect())
    }

    /// The first cell.
    pub(crate) fn cell(&mut self, sql: &str) -> String {
        self.rows(sql)[0][0].clone()
    }

    /// Ends the connection.
    pub(crate) fn close(self) {
        let _ = block_on(self.connection.close());
    }
}

/// Runs a future on the test thread's own runtime, so that a connection can be
/// used by several calls.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = sf_firstboot::database::runtime().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// A loopback port at which nothing listens, nobody else's until this process
/// ends: below the range that the kernel gives to outgoing connections, or one of
/// those might take it before a server does, or while a server is down.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10).unwrap() * 1000;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
