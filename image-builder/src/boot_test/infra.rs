//! The infrastructure beside the machines: a real MariaDB and a real etcd, on
//! loopback, private to the run.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use sf_command::{Child, Cmd, Tool};

/// The address at which a machine reaches the host's loopback.
pub const HOST_FROM_INSIDE: &str = "10.0.2.2";

/// etcd's client port, fixed in the code of Shaken Fist 0.7.
pub const ETCD_PORT: u16 = 2379;

/// The database user of a run, and its database.
pub const DATABASE_USER: &str = "sf";
/// See [`DATABASE_USER`].
pub const DATABASE: &str = "shakenfist";

/// How long a service may take to answer; it takes a second.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Why a service is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program failed.
    #[error(transparent)]
    Command(#[from] sf_command::Failure),
    /// A file could not be made.
    #[error("cannot write below {path}")]
    Io {
        /// The folder.
        path: Utf8PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It ended or does not answer.
    #[error("{service} does not answer on 127.0.0.1:{port}; its log ends with:\n{log}")]
    Silent {
        /// `mariadb`, `etcd`.
        service: &'static str,
        /// Its port.
        port: u16,
        /// The last lines of its log.
        log: String,
    },
    /// It runs already, or does not.
    #[error("{0}")]
    State(&'static str),
}

/// A TCP port on loopback that nobody uses now.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Whether nobody listens on a port of loopback.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A service that can be started and stopped again, keeping its data.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    port: u16,
    command: Cmd,
    log: Utf8PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts it and waits until it answers.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.child.is_some() {
            return Err(Error::State("it is running already"));
        }
        let mut child = self.command.spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let ended = child.try_wait()?.is_some();
            if !ended && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                self.child = Some(child);
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                let log = fs_err::read(&self.log).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                return Err(Error::Silent {
                    service: self.name,
                    port: self.port,
                    log: super::console::last_words(&log, 10).join("\n"),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it in order.
    pub fn stop(&mut self) -> Result<(), Error> {
        let mut child = self.child.take().ok_or(Error::State("it is not running"))?;
        child.terminate(Duration::from_secs(20))?;
        Ok(())
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Prepares a MariaDB: an empty database with a user of its own. The seed of
/// the data folder is made once per server version, below `cache`.
pub fn mariadb(
    folder: &Utf8Path,
    cache: &Utf8Path,
    port: u16,
    password: &str,
) -> Result<Server, Error> {
    let failed = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    fs_err::create_dir_all(folder).map_err(failed)?;
    let seed = mariadb_seed(cache)?;
    let data = folder.join("data");
    Cmd::new(Tool::Cp)
        .args(["-a", "--reflink=auto", "--"])
        .args([&seed, &data])
        .run()?;
    // A password in a statement file: it must not be an argument.
    let init = folder.join("init.sql");
    let escaped = password.replace('\\', "\\\\").replace('\'', "''");
    let statements = format!(
        "CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;\n\
         CREATE USER IF NOT EXISTS {DATABASE_USER}@'%' IDENTIFIED BY '{escaped}';\n\
         GRANT ALL PRIVILEGES ON {DATABASE}.* TO {DATABASE_USER}@'%';\n"
    );
    fs_err::write(&init, statements).map_err(failed)?;
    fs_err::set_permissions(&init, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let log = folder.join("mariadb.log");
    let command = as_this_user(Cmd::new(Tool::Mariadbd).arg("--no-defaults"))
        .args([
            format!("--datadir={data}"),
            format!("--socket={folder}/mariadb.sock"),
            format!("--pid-file={folder}/mariadb.pid"),
            format!("--init-file={init}"),
            // A starting server deletes the temporary tables it finds; in a
            // shared folder they would be another server's.
            format!("--tmpdir={folder}"),
            format!("--port={port}"),
        ])
        .args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
        ])
        .args([
            "--character-set-server=utf8mb4",
            "--collation-server=utf8mb4_general_ci",
        ])
        .args([
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
        ])
        .log_to(&log);
    Ok(Server {
        name: "mariadb",
        port,
        command,
        log,
        child: None,
    })
}

fn as_this_user(cmd: Cmd) -> Cmd {
    // MariaDB refuses to run as root unless told to.
    if rustix::process::geteuid().is_root() {
        cmd.arg("--user=root")
    } else {
        cmd
    }
}

fn mariadb_seed(cache: &Utf8Path) -> Result<Utf8PathBuf, Error> {
    let version = Cmd::new(Tool::Mariadbd)
        .args(["--no-defaults", "--version"])
        .run()?
        .text();
    let version: String = version
        .split_whitespace()
        .nth(2)
        .unwrap_or("unknown")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
        .collect();
    let seed = cache.join(format!("mariadb-seed-{version}"));
    if seed.exists() {
        return Ok(seed);
    }
    let failed = |source| Error::Io {
        path: cache.to_owned(),
        source,
    };
    fs_err::create_dir_all(cache).map_err(failed)?;
    let partial = tempfile::Builder::new()
        .prefix(".mariadb-seed-")
        .tempdir_in(cache)
        .map_err(failed)?;
    let data = partial.path().join("data");
    as_this_user(Cmd::new(Tool::MariadbInstallDb).arg("--no-defaults"))
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--tmpdir={}", partial.path().display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .timeout(Duration::from_mins(2))
        .run()?;
    match fs_err::rename(&data, &seed) {
        // Another run was faster.
        Err(_) if seed.exists() => Ok(seed),
        Err(source) => Err(failed(source)),
        Ok(()) => Ok(seed),
    }
}

/// Prepares an etcd on its fixed port.
pub fn etcd(folder: &Utf8Path) -> Result<Server, Error> {
    let failed = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    fs_err::create_dir_all(folder).map_err(failed)?;
    let peer = format!("http://127.0.0.1:{}", free_port().map_err(failed)?);
    let client = format!("http://127.0.0.1:{ETCD_PORT}");
    let log = folder.join("etcd.log");
    let command = Cmd::new(Tool::Etcd)
        .args([
            "--name",
            "boot-test",
            "--data-dir",
            folder.join("data").as_str(),
        ])
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("boot-test={peer}")])
        .log_to(&log);
    Ok(Server {
        name: "etcd",
        port: ETCD_PORT,
        command,
        log,
        child: None,
    })
}
