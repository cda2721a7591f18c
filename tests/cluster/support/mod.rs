//! A real MariaDB for tests: a data folder is made once into the cache, copied
//! for each server (0.2 s), and served on a socket and a loopback port. The
//! server dies with the test process, and its folder with the handle.

#![allow(dead_code, reason = "each test uses its own part of this")]

pub(crate) mod agent;
pub(crate) mod history;
pub(crate) mod metadata;
pub(crate) mod normal;
pub(crate) mod proxy;
pub(crate) mod replay;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

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
    /// Loopback port.
    pub(crate) port: u16,
}

impl Server {
    /// Starts a server with further options, such as `--version=8.0.36`.
    pub(crate) fn start(options: &[&str]) -> Self {
        let missing = sf_command::missing(&[Tool::Mariadbd, Tool::MariadbInstallDb]);
        assert!(
            missing.is_empty(),
            "these tests need a real MariaDB; install the package {}",
            missing[0].package
        );
        let folder = tempfile::Builder::new()
            .prefix("sf-mariadb-")
            .tempdir()
            .unwrap();
        Cmd::new(Tool::Cp)
            .args(["-r", "--reflink=auto", "--sparse=always"])
            .arg(seed())
            .arg(folder.path().join("data"))
            .run()
            .unwrap();
        let mut server = Self {
            child: None,
            folder,
            port: free_port(),
        };
        server.launch(options);
        server
    }

    fn launch(&mut self, options: &[&str]) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let log = self.folder.path().join("log");
        // Not the shared one: a server that starts removes the temporary tables
        // that it finds there, and the one that they belonged to crashes.
        std::fs::create_dir_all(path("tmp")).unwrap();
        let child = Cmd::new(Tool::Mariadbd)
            .arg("--no-defaults")
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--tmpdir={}", path("tmp")))
            .arg(format!("--port={}", self.port))
            .args(account())
            .args([
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
            .log_to(&log)
            .spawn()
            .unwrap();
        self.child = Some(child);
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

    /// Makes an empty database and a user of the same name that may do
    /// anything in it; returns the DSN.
    pub(crate) fn database(&self, name: &str) -> String {
        let mut admin = self.admin();
        admin.run(&format!(
            "DROP DATABASE IF EXISTS `{name}`; \
             CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; \
             CREATE OR REPLACE USER `{name}`@`%` IDENTIFIED BY '{PASSWORD}'; \
             GRANT ALL PRIVILEGES ON `{}`.* TO `{name}`@`%`",
            name.replace('_', "\\_")
        ));
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
    format!("mysql://{name}:{PASSWORD}@127.0.0.1:{port}/{name}?ssl-mode=disabled")
}

/// A connector for a DSN.
pub(crate) fn connector(dsn: &str) -> Connector {
    Connector::new(dsn.parse().unwrap()).connect_timeout(Duration::from_secs(5))
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
        let text = sql.to_owned();
        block_on(sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut self.connection))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .iter()
            .map(|row| {
                (0..row.len())
                    .map(|index| {
                        let bytes: Option<Vec<u8>> = row.try_get_unchecked(index).unwrap();
                        bytes.map_or("NULL".to_owned(), |b| {
                            String::from_utf8_lossy(&b).into_owned()
                        })
                    })
                    .collect()
            })
            .collect()
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

/// A loopback port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// mariadbd refuses to run as root unless told so.
fn account() -> Vec<String> {
    if rustix::process::geteuid().is_root() {
        vec!["--user=root".to_owned()]
    } else {
        Vec::new()
    }
}

/// The data folder that servers start from, made when it is not in the cache.
fn seed() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let version = Cmd::new(Tool::Mariadbd)
        .arg("--version")
        .run()
        .unwrap()
        .text();
    let version: String = version
        .split_whitespace()
        .nth(2)
        .unwrap_or("unknown")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect();
    let cache = cache_folder();
    std::fs::create_dir_all(&cache).unwrap();
    let seed = cache.join(format!("mariadb-seed-{version}"));
    let _guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if !seed.is_dir() {
        make_seed(&cache, &seed);
    }
    seed
}

fn make_seed(cache: &Path, seed: &Path) {
    // Several test processes may get here at once: each makes its own, and the
    // first one to rename wins.
    let partial = tempfile::Builder::new()
        .prefix(".partial-mariadb-seed-")
        .tempdir_in(cache)
        .unwrap();
    let data = partial.path().join("data");
    let temporary = partial.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    Cmd::new(Tool::MariadbInstallDb)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        // As in launch(): not the shared one.
        .arg(format!("--tmpdir={}", temporary.display()))
        .args(account())
        .args([
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-log-file-size=16M",
        ])
        .run()
        .unwrap();
    if let Err(error) = std::fs::rename(&data, seed) {
        assert!(seed.is_dir(), "{}: {error}", seed.display());
    }
}

fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("SF_CACHE_DIR").filter(|value| !value.is_empty()) {
        return folder.into();
    }
    let home = std::env::var_os("HOME").expect("HOME or SF_CACHE_DIR");
    PathBuf::from(home).join(".cache/sf-image")
}
