//! Which mkosi builds the images.
//!
//! Owns: the pinned version, the range that is accepted, and getting Debian's
//! package into the cache when the host's own does not do. Refuses: installing
//! anything on the host (another suite's mkosi would bring its systemd), and
//! package files by pool path (they vanish with the next point release).

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use sf_command::{Cmd, Failure, Tool};

use crate::apt::{AptError, Mirrors, PrivateApt};
use crate::cache::{Cache, CacheLock, PARTIAL, remove_tree};

/// The version this builder is tested with.
pub const PINNED: &str = "25.3-7";

/// The major version that is accepted: settings and output names change with it.
pub const ACCEPTED_MAJOR: u32 = 25;

/// The Debian suite whose package is used.
pub const SUITE: &str = "trixie";

/// What can go wrong while getting mkosi.
#[derive(Debug, thiserror::Error)]
pub enum MkosiError {
    /// The package could not be fetched.
    #[error("could not get mkosi {PINNED} from Debian {SUITE}")]
    Fetch(#[from] AptError),
    /// The package could not be put into the cache.
    #[error("could not put mkosi into the build cache")]
    Cache(#[from] io::Error),
    /// The package could not be unpacked or asked.
    #[error("could not unpack the mkosi package")]
    Unpack(#[source] Failure),
    /// apt said it downloaded, but there is no package.
    #[error("apt downloaded no mkosi package into {}", folder.display())]
    NoPackage {
        /// Where it was expected.
        folder: PathBuf,
    },
    /// The suite has another major version now.
    #[error(
        "Debian {SUITE} has mkosi {found}, but this builder needs {ACCEPTED_MAJOR}.x \
         (tested with {PINNED}); use a newer sf-image"
    )]
    Version {
        /// The version that was found.
        found: String,
    },
    /// It does not run on this host.
    #[error("mkosi {version} does not run with this host's python3")]
    Run {
        /// Its version.
        version: String,
        /// What happened.
        source: Failure,
    },
}

/// A mkosi that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mkosi {
    version: String,
    /// The folder that holds the Python package `mkosi`.
    modules: PathBuf,
}

impl Mkosi {
    /// The host's own when it is in the accepted range, else the one in the
    /// cache, else Debian's package, fetched through `mirrors`. The flag is true
    /// when nothing had to be fetched.
    pub fn acquire(
        cache: &Cache,
        _lock: &CacheLock,
        mirrors: impl FnOnce() -> Result<Mirrors, AptError>,
    ) -> Result<(Self, bool), MkosiError> {
        if let Some(host) = Self::of_host() {
            return Ok((host, true));
        }
        let folder = cache.mkosi();
        if let Some(version) = newest_accepted(&folder)? {
            let mkosi = Self::unpacked(&version, &folder.join(&version));
            return mkosi.tried().map(|mkosi| (mkosi, true));
        }
        let apt = PrivateApt::prepare(&cache.apt().join(SUITE), &mirrors()?, SUITE)?;
        apt.update()?;
        // Not a cache entry by a known name: the version is known only afterwards.
        let partial = folder.join(format!("{PARTIAL}fetched"));
        remove_tree(&partial)?;
        fs::create_dir_all(&partial)?;
        apt.download("mkosi", &partial)?;
        let package = the_package(&partial)?;
        let field = Cmd::new(Tool::DpkgDeb)
            .arg("--field")
            .arg(&package)
            .arg("Version");
        let version = field.run().map_err(MkosiError::Unpack)?.text();
        if !accepted(&version) {
            return Err(MkosiError::Version { found: version });
        }
        let root = partial.join("root");
        let unpack = Cmd::new(Tool::DpkgDeb)
            .arg("--extract")
            .arg(&package)
            .arg(&root);
        unpack.run().map_err(MkosiError::Unpack)?;
        let path = folder.join(&version);
        fs::rename(root, &path)?;
        remove_tree(&partial)?;
        // Package lists of 140 MB that nothing reads again.
        remove_tree(&cache.apt().join(SUITE))?;
        Self::unpacked(&version, &path)
            .tried()
            .map(|mkosi| (mkosi, false))
    }

    /// The host's own mkosi when it is in the accepted range.
    pub fn of_host() -> Option<Self> {
        let script = "import mkosi.sandbox as s; print(s.__version__); print(s.__file__)";
        let output = Cmd::new(Tool::Python3)
            .args(["-P", "-c", script])
            .run()
            .or_else(|_| {
                // Python before 3.11 has no -P; -I is the nearest.
                Cmd::new(Tool::Python3).args(["-I", "-c", script]).run()
            });
        let text = output.ok()?.text();
        let (version, file) = text.split_once('\n')?;
        let modules = Path::new(file).parent()?.parent()?;
        accepted(version).then(|| Self {
            version: version.to_owned(),
            modules: modules.to_owned(),
        })
    }

    /// The one unpacked from Debian's package in `root`.
    pub fn unpacked(version: &str, root: &Path) -> Self {
        Self {
            version: version.to_owned(),
            modules: root.join("usr/lib/python3/dist-packages"),
        }
    }

    /// Its version, `25.3-7` for Debian's package.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The command to which mkosi's arguments are added. The caller's
    /// environment is not passed on, but for the way to the network.
    pub fn cmd(&self) -> Cmd {
        let mut cmd = Cmd::new(Tool::Python3).env_clear();
        for (name, value) in crate::sandbox::passed_environment(std::env::vars()) {
            if let Some(password) = crate::sandbox::password_of(&value) {
                cmd = cmd.secret(password);
            }
            cmd = cmd.env(name, value);
        }
        self.with_modules(cmd)
            .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "dumb")
            .args(["-m", "mkosi"])
    }

    /// The command to which the arguments of mkosi's sandbox are added.
    pub fn sandbox(&self) -> Cmd {
        // By path: as a module it would import all of mkosi first.
        Cmd::new(Tool::Python3)
            .args(["-I", "-B"])
            .arg(self.modules.join("mkosi/sandbox.py"))
    }

    fn with_modules(&self, cmd: Cmd) -> Cmd {
        // Byte code beside the sources would change what the cache's key names.
        cmd.env("PYTHONPATH", &self.modules)
            .env("PYTHONDONTWRITEBYTECODE", "1")
    }

    fn tried(self) -> Result<Self, MkosiError> {
        let result = self.cmd().arg("--version").run();
        match result {
            Ok(_) => Ok(self),
            Err(source) => Err(MkosiError::Run {
                version: self.version,
                source,
            }),
        }
    }
}

/// Whether a version is in the accepted range.
pub fn accepted(version: &str) -> bool {
    let digits = version
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    digits.parse() == Ok(ACCEPTED_MAJOR)
}

/// The pinned version when `folder` has it, else the greatest accepted name.
fn newest_accepted(folder: &Path) -> io::Result<Option<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if accepted(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| (name == PINNED, name.clone()));
    Ok(names.pop())
}

fn the_package(folder: &Path) -> Result<PathBuf, MkosiError> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    Err(MkosiError::NoPackage {
        folder: folder.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_one_major_version() {
        for (version, want) in [
            ("25.3-7", true),
            ("25", true),
            ("25~devel", true),
            ("250.1", false),
            ("24.3", false),
        ] {
            assert_eq!(accepted(version), want, "{version}");
        }
        assert!(accepted(PINNED));
        assert!(!accepted("") && !accepted("fetched") && !accepted(".partial-x"));
    }

    #[test]
    fn prefers_the_pinned_version() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(newest_accepted(dir.path()).expect("read"), None);
        for name in ["25.2-1", "25.4-1", "26.1-1", ".partial-fetched"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        assert_eq!(
            newest_accepted(dir.path()).expect("read").as_deref(),
            Some("25.4-1")
        );
        fs::create_dir(dir.path().join(PINNED)).expect("mkdir");
        assert_eq!(
            newest_accepted(dir.path()).expect("read").as_deref(),
            Some(PINNED)
        );
    }

    #[test]
    fn runs_by_module_without_the_callers_environment() {
        let mkosi = Mkosi::unpacked("25.3-7", Path::new("/c/mkosi/25.3-7"));
        let shown = mkosi.cmd().arg("build").to_string();
        assert!(shown.starts_with("env -i "), "{shown}");
        assert!(shown.ends_with("python3 -m mkosi build"), "{shown}");
        let modules = "PYTHONPATH=/c/mkosi/25.3-7/usr/lib/python3/dist-packages";
        assert!(shown.contains(modules), "{shown}");
    }
}
