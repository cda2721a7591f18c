//! The build cache: where it is, who may write to it, and how an entry gets in.
//!
//! Owns: the folder (`SF_CACHE_DIR`, else `$XDG_CACHE_HOME/sf-image`, else
//! `~/.cache/sf-image`), its lock, and the atomic making of entries. Refuses: a
//! half-made entry. One is built under `.partial-*` and renamed last, so that
//! what has an entry's name is complete.

use std::env;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Prefix of everything that is not finished.
pub const PARTIAL: &str = ".partial-";

/// What can go wrong with the cache folder itself.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Neither of the variables that say where it is has a value.
    #[error("no place for the build cache: SF_CACHE_DIR, XDG_CACHE_HOME and HOME are all unset")]
    NoPlace,
    /// `SF_CACHE_DIR` or `XDG_CACHE_HOME` is not absolute.
    #[error("the build cache must be an absolute path, but {variable} is `{value}`")]
    Relative {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// A folder could not be made or cleaned.
    #[error("could not prepare the build cache {}", path.display())]
    Prepare {
        /// The cache's folder.
        path: PathBuf,
        /// What failed, with the path.
        source: io::Error,
    },
    /// The lock file could not be opened or locked.
    #[error("could not lock the build cache with {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// The folders of the build cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

/// The right to write to the cache, until it is dropped. The kernel takes it
/// back when the process ends, however it ends.
#[derive(Debug)]
pub struct CacheLock {
    _file: fs::File,
}

impl Cache {
    /// The cache that this process's environment names. Touches no disk.
    pub fn from_env() -> Result<Self, CacheError> {
        Self::locate(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// The cache that the variables name.
    pub fn locate(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CacheError> {
        for (name, below) in [
            ("SF_CACHE_DIR", ""),
            ("XDG_CACHE_HOME", "sf-image"),
            ("HOME", ".cache/sf-image"),
        ] {
            let Some(value) = variable(name) else {
                continue;
            };
            if !value.starts_with('/') {
                return Err(CacheError::Relative {
                    variable: name,
                    value,
                });
            }
            let mut root = PathBuf::from(value);
            if !below.is_empty() {
                root.push(below);
            }
            return Ok(Self { root });
        }
        Err(CacheError::NoPlace)
    }

    /// The cache in `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Unpacked mkosi packages, one folder per version.
    pub fn mkosi(&self) -> PathBuf {
        self.root.join("mkosi")
    }

    /// apt's private state, one folder per suite and mirror.
    pub fn apt(&self) -> PathBuf {
        self.root.join("apt")
    }

    /// Tools trees, one folder per key.
    pub fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    /// Sandbox trees, one folder per key.
    pub fn sandbox(&self) -> PathBuf {
        self.root.join("sandbox")
    }

    /// Debian packages that mkosi fetched (`PackageCacheDirectory=`), shared by
    /// every build.
    pub fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    /// Python wheels, one folder per key.
    pub fn wheels(&self) -> PathBuf {
        self.root.join("wheels")
    }

    /// Virtual environments, one folder per key.
    pub fn venv(&self) -> PathBuf {
        self.root.join("venv")
    }

    /// Base trees of one profile (mkosi's `CacheDirectory=`): two profiles in
    /// one folder would throw out each other's.
    pub fn base(&self, profile: &str) -> PathBuf {
        self.root.join("base").join(profile)
    }

    /// Where mkosi works (`WorkspaceDirectory=`); emptied with every lock.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Answers to builds that changed nothing, one file per input digest.
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// Makes the folders, takes the lock (calling `on_wait` with the holder's
    /// process id if there is one to wait for), and clears away what builds
    /// that were killed left behind.
    pub fn lock(&self, on_wait: impl FnOnce(&str)) -> Result<CacheLock, CacheError> {
        let prepare = |source| CacheError::Prepare {
            path: self.root.clone(),
            source,
        };
        self.make_folders().map_err(prepare)?;
        let path = self.root.join("lock");
        let failed = |source| CacheError::Lock {
            path: path.clone(),
            source,
        };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match flock(file.file(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                on_wait(holder.trim());
                retry(|| flock(file.file(), FlockOperation::LockExclusive)).map_err(failed)?;
            }
            other => other.map_err(|errno| failed(errno.into()))?,
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        self.sweep().map_err(prepare)?;
        Ok(CacheLock { _file: file })
    }

    fn make_folders(&self) -> io::Result<()> {
        // The root holds apt's settings, which may name a proxy's password.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.root.display())))?;
        for folder in [
            self.mkosi(),
            self.apt(),
            self.tools(),
            self.sandbox(),
            self.packages(),
            self.wheels(),
            self.venv(),
            self.root.join("base"),
            self.work(),
            self.builds(),
        ] {
            fs::create_dir_all(folder)?;
        }
        Ok(())
    }

    /// Removes every unfinished entry. Only under the lock: nobody else can be
    /// working on one then.
    fn sweep(&self) -> io::Result<()> {
        for folder in [
            self.mkosi(),
            self.tools(),
            self.sandbox(),
            self.wheels(),
            self.venv(),
        ] {
            sweep_partials(&folder)?;
        }
        for entry in fs::read_dir(self.work())? {
            remove_tree(&entry?.path())?;
        }
        Ok(())
    }
}

impl CacheLock {
    /// The entry `name` of `folder`: as it is when it is there, else made by
    /// `build` in a folder beside it and renamed when that returned. The flag is
    /// true when it was there.
    pub fn entry<E: From<io::Error>>(
        &self,
        folder: &Path,
        name: &str,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(PathBuf, bool), E> {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            return Ok((path, true));
        }
        let partial = folder.join(format!("{PARTIAL}{name}"));
        remove_tree(&partial)?;
        fs::create_dir_all(&partial)?;
        // What `build` leaves when it fails is swept with the next lock: until
        // then it can be looked at.
        build(&partial)?;
        fs::rename(&partial, &path)?;
        Ok((path, false))
    }
}

/// Removes what is named `.partial-*` in `folder`.
pub fn sweep_partials(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file or a whole tree; absent is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_first_variable_that_has_a_value_says_where() {
        let located = |pairs: &'static [(&str, &str)]| {
            Cache::locate(|name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        let all = [
            ("SF_CACHE_DIR", "/a"),
            ("XDG_CACHE_HOME", "/b"),
            ("HOME", "/c"),
        ];
        let all: &'static [_] = Box::leak(Box::new(all));
        for (from, want) in [(0, "/a"), (1, "/b/sf-image"), (2, "/c/.cache/sf-image")] {
            assert_eq!(
                located(&all[from..]).expect("located").root(),
                Path::new(want)
            );
        }
        assert!(matches!(located(&[]), Err(CacheError::NoPlace)));
        let relative = located(&[("SF_CACHE_DIR", "cache")]).expect_err("relative");
        assert!(
            relative.to_string().contains("SF_CACHE_DIR is `cache`"),
            "{relative}"
        );
    }

    #[test]
    fn an_entry_is_made_once_and_never_half() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = Cache::at(dir.path().join("c"));
        let lock = cache.lock(|_| panic!("nobody to wait for")).expect("lock");
        let failed = lock.entry(&cache.venv(), "k", |partial| {
            fs::write(partial.join("half"), "")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert!(!cache.venv().join("k").exists());
        let made = lock.entry(&cache.venv(), "k", |partial| {
            assert!(!partial.join("half").exists());
            fs::write(partial.join("whole"), "")
        });
        assert!(!made.expect("made").1);
        let (path, cached) = lock
            .entry(&cache.venv(), "k", |_| {
                Err::<(), _>(io::Error::other("never called"))
            })
            .expect("cached");
        assert!(cached && path.join("whole").exists());
    }

    #[test]
    fn a_second_build_waits_and_clears_what_a_killed_one_left() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = Cache::at(dir.path());
        let first = cache.lock(|_| ()).expect("lock");
        fs::create_dir(cache.tools().join(".partial-x")).expect("mkdir");
        fs::create_dir(cache.work().join("mkosi-workspace-1")).expect("mkdir");
        let (sender, waiting) = mpsc::channel();
        let other = cache.clone();
        let second = std::thread::spawn(move || {
            let lock = other.lock(|holder| sender.send(holder.to_owned()).expect("send"));
            lock.map(|_| ()).expect("lock");
        });
        let holder = waiting.recv_timeout(Duration::from_secs(5)).expect("waits");
        assert_eq!(holder, std::process::id().to_string());
        assert!(cache.tools().join(".partial-x").exists());
        drop(first);
        second.join().expect("join");
        assert!(!cache.tools().join(".partial-x").exists());
        assert!(!cache.work().join("mkosi-workspace-1").exists());
    }

    #[test]
    fn a_cache_that_cannot_be_made_names_its_path() {
        let error = Cache::at("/proc/nope").lock(|_| ()).expect_err("proc");
        assert!(error.to_string().contains("/proc/nope"), "{error}");
    }
}
