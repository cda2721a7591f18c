//! Which MariaDB a test runs: the machine's own, or Debian 13's 11.8, which
//! `tests/mariadb-11.8.sh` unpacks beside it. And the data folder that servers
//! of a build start from, made once into the cache.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sf_command::{Cmd, Tool};

/// A MariaDB that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// The one that is installed.
    Host,
    /// 11.8, run with its own C library out of the cache.
    Debian13,
}

impl Build {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "MariaDB 10.11",
            Self::Debian13 => "MariaDB 11.8",
        }
    }

    /// The server, without options but the first.
    pub(crate) fn mariadbd(self) -> Cmd {
        match self {
            Self::Host => {
                let missing = sf_command::missing(&[Tool::Mariadbd, Tool::MariadbInstallDb]);
                assert!(
                    missing.is_empty(),
                    "these tests need a real MariaDB; install the package {}",
                    missing[0].package
                );
                Cmd::new(Tool::Mariadbd).arg("--no-defaults")
            }
            Self::Debian13 => {
                let tree = tree();
                let libraries = tree.join("usr/lib/x86_64-linux-gnu");
                Cmd::path(libraries.join("ld-linux-x86-64.so.2"))
                    .arg("--library-path")
                    .arg(&libraries)
                    .arg(tree.join("usr/sbin/mariadbd"))
                    .arg("--no-defaults")
                    .arg(format!(
                        "--lc-messages-dir={}",
                        tree.join("usr/share/mariadb").display()
                    ))
                    .arg(format!(
                        "--character-sets-dir={}",
                        tree.join("usr/share/mariadb/charsets").display()
                    ))
            }
        }
    }

    /// The data folder that its servers start from.
    pub(crate) fn seed(self) -> PathBuf {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let version = self.mariadbd().arg("--version").run().unwrap().text();
        let words = version.split_whitespace().skip_while(|word| *word != "Ver");
        let version: String = words
            .clone()
            .nth(1)
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
            self.make_seed(&cache, &seed);
        }
        seed
    }

    fn make_seed(self, cache: &Path, seed: &Path) {
        // Several test processes may get here at once: each makes its own, and
        // the first one to rename wins.
        let partial = tempfile::Builder::new()
            .prefix(".partial-mariadb-seed-")
            .tempdir_in(cache)
            .unwrap();
        let data = partial.path().join("data");
        let temporary = partial.path().join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        let folders = [
            format!("--datadir={}", data.display()),
            // As in launch(): not the shared one.
            format!("--tmpdir={}", temporary.display()),
            "--innodb-log-file-size=16M".to_owned(),
        ];
        match self {
            Self::Host => Cmd::new(Tool::MariadbInstallDb)
                .arg("--no-defaults")
                .args(folders)
                .args(account())
                .args([
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--skip-name-resolve",
                ])
                .run(),
            Self::Debian13 => {
                // What mariadb-install-db does, which knows no foreign C library.
                std::fs::create_dir(&data).unwrap();
                let mut sql = String::from(
                    "CREATE DATABASE mysql;\nUSE mysql;\n\
                     SET @auth_root_socket=NULL;\nSET @skip_auth_anonymous=1;\n",
                );
                for part in ["tables", "tables_data"] {
                    let file = format!("usr/share/mariadb/mariadb_system_{part}.sql");
                    sql += &std::fs::read_to_string(tree().join(file)).unwrap();
                }
                self.mariadbd()
                    .arg("--bootstrap")
                    .args(folders)
                    .args(account())
                    .stdin(sql)
                    .run()
            }
        }
        .unwrap();
        if let Err(error) = std::fs::rename(&data, seed) {
            assert!(seed.is_dir(), "{}: {error}", seed.display());
        }
    }
}

/// Debian 13's MariaDB, unpacked.
fn tree() -> PathBuf {
    let tree = cache_folder().join("mariadb-11.8");
    assert!(
        tree.is_dir(),
        "these tests need MariaDB 11.8 in {}; run tests/mariadb-11.8.sh",
        tree.display()
    );
    tree
}

/// mariadbd refuses to run as root unless told so.
pub(crate) fn account() -> Vec<String> {
    if rustix::process::geteuid().is_root() {
        vec!["--user=root".to_owned()]
    } else {
        Vec::new()
    }
}

pub(crate) fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("SF_CACHE_DIR").filter(|value| !value.is_empty()) {
        return folder.into();
    }
    let home = std::env::var_os("HOME").expect("HOME or SF_CACHE_DIR");
    PathBuf::from(home).join(".cache/sf-image")
}
