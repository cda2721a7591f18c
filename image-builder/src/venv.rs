//! The Python environment of a release.
//!
//! Owns: fetching wheels by hash (source packages are built into wheels once),
//! installing them at the environment's final path, shims, byte code, times and
//! modes. Refuses: an index that answers with other bytes than the lock names,
//! and anything that makes two builds differ.
//!
//! The environment is made inside mkosi's sandbox with the image's own Python,
//! standing at the path that it has in the image, so that nothing has to be
//! relocated afterwards.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use sf_command::{Cmd, Failure};

use crate::cache::{Cache, CacheLock, remove_tree};
use crate::digest::{self, Key};
use crate::explain::{Explanation, explain};
use crate::lockfile;
use crate::mkosi::Mkosi;
use crate::progress::Phase;
use crate::sandbox::Sandbox;
use crate::tools_tree::Tools;

/// What can go wrong while the environment is made.
#[derive(Debug, thiserror::Error)]
pub enum VenvError {
    /// The cache or an input could not be read or written.
    #[error("could not prepare the Python environment")]
    Files(#[from] io::Error),
    /// The operator's wheel is no wheel.
    #[error("{} is not a wheel: its name must be NAME-VERSION-….whl", path.display())]
    NotAWheel {
        /// The file.
        path: PathBuf,
    },
    /// A step failed.
    #[error("could not {doing}{}", said(explanation.as_deref()))]
    Step {
        /// What was being done.
        doing: &'static str,
        /// The line that explains, when there is one.
        explanation: Option<Box<Explanation>>,
        /// The command that failed.
        source: Box<Failure>,
    },
}

fn said(explanation: Option<&Explanation>) -> String {
    explanation.map(|e| format!(": {e}")).unwrap_or_default()
}

impl VenvError {
    /// What to do, when that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Step {
                explanation: Some(explanation),
                ..
            } => explanation.hint,
            _ => None,
        }
    }
}

/// Where the code comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A requirements file that pins every package by hash.
    Lock(PathBuf),
    /// The operator's wheel; what it depends on comes from the package index,
    /// as its own metadata and the overrides say.
    Wheel(PathBuf),
}

/// What an environment is made of.
#[derive(Debug, Clone)]
pub struct VenvSpec<'a> {
    /// Where the code comes from.
    pub source: Source,
    /// Packages that the distribution provides instead.
    pub from_distribution: &'a [String],
    /// Requirements that differ from upstream's; constraints for a wheel's
    /// dependencies. A lock has them in it.
    pub overrides: &'a [String],
    /// Folders whose content is copied into site-packages.
    pub shims: &'a [PathBuf],
    /// Where it stands in the image, `/usr/lib/shakenfist`.
    pub prefix: &'a str,
    /// Python's version in the image, `3.13`.
    pub python: &'a str,
    /// The distribution whose import proves that the environment works.
    pub package: &'a str,
    /// Time stamp of every file, seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub epoch: u64,
}

/// An environment in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Venv {
    /// The folder whose content belongs at the prefix.
    pub path: PathBuf,
    /// Its key: two environments with the same key are the same.
    pub key: String,
    /// Version of the package that was installed.
    pub version: String,
    /// Whether it was there already.
    pub cached: bool,
}

impl Venv {
    /// The Python packages in it: normal name and version, in the order of names.
    pub fn packages(&self) -> io::Result<Vec<(String, String)>> {
        let mut packages = Vec::new();
        for python in fs::read_dir(self.path.join("lib"))? {
            let site = python?.path().join("site-packages");
            for entry in fs::read_dir(site)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let pair = name
                    .strip_suffix(".dist-info")
                    .and_then(|stem| stem.split_once('-'));
                packages.extend(pair.map(|(n, version)| (lockfile::normal(n), version.to_owned())));
            }
        }
        packages.sort();
        Ok(packages)
    }
}

/// The tools that make it.
#[derive(Debug, Clone, Copy)]
pub struct VenvTools<'a> {
    /// Brings the sandbox.
    pub mkosi: &'a Mkosi,
    /// Brings Python and pip.
    pub tools: &'a Tools,
}

impl VenvSpec<'_> {
    /// The environment, from the cache or built. What pip and Python say goes to
    /// `log`.
    pub fn build(
        &self,
        cache: &Cache,
        lock: &CacheLock,
        with: VenvTools<'_>,
        log: &Path,
        phase: &Phase<'_>,
    ) -> Result<Venv, VenvError> {
        let requirements = self.requirements()?;
        let wheels_key = self.wheels_key(&requirements, with.tools)?;
        let key = self.key(&wheels_key)?;
        let job = Job {
            spec: self,
            with,
            log,
        };
        // The wheels are an entry of their own: a changed shim needs no network.
        if !cache.venv().join(&key).exists() {
            phase.detail("fetching wheels");
            lock.entry(&cache.wheels(), &wheels_key, |p| {
                job.fetch(&requirements, p)
            })?;
        }
        let wheels = cache.wheels().join(&wheels_key);
        let (entry, cached) = lock.entry(&cache.venv(), &key, |partial| {
            phase.detail("installing");
            job.install(&wheels, partial)
        })?;
        let version = fs::read_to_string(entry.join("version"))?.trim().to_owned();
        Ok(Venv {
            path: entry.join("root"),
            key,
            version,
            cached,
        })
    }

    /// The requirements file that pip gets.
    fn requirements(&self) -> Result<String, VenvError> {
        match &self.source {
            Source::Lock(path) => Ok(lockfile::without(
                &fs::read_to_string(path)?,
                self.from_distribution,
            )),
            Source::Wheel(path) => {
                wheel_name(path)?;
                Ok(String::new())
            }
        }
    }

    fn wheels_key(&self, requirements: &str, tools: &Tools) -> Result<String, VenvError> {
        let mut key = Key::new("wheels 1")
            .field("requirements", requirements)
            .field("overrides", self.overrides.join("\n"))
            .field("python", self.python)
            .field("tools", &tools.key);
        if let Source::Wheel(path) = &self.source {
            key = key.field("wheel", digest::of_file(path)?);
        }
        Ok(key.finish())
    }

    fn key(&self, wheels: &str) -> Result<String, VenvError> {
        let mut key = Key::new("venv 1")
            .field("wheels", wheels)
            .field("from-distribution", self.from_distribution.join("\n"))
            .field("prefix", self.prefix)
            .field("package", self.package)
            .field("epoch", self.epoch.to_le_bytes());
        for shim in self.shims {
            key = key.tree("shim", shim)?;
        }
        Ok(key.finish())
    }
}

/// The distribution's name in a wheel's file name.
fn wheel_name(path: &Path) -> Result<String, VenvError> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.as_deref()
        .and_then(|name| name.strip_suffix(".whl"))
        .filter(|stem| stem.split('-').count() >= 5)
        .and_then(|stem| stem.split('-').next())
        .map(lockfile::normal)
        .ok_or_else(|| VenvError::NotAWheel {
            path: path.to_owned(),
        })
}

struct Job<'a> {
    spec: &'a VenvSpec<'a>,
    with: VenvTools<'a>,
    log: &'a Path,
}

impl Job<'_> {
    fn sandbox(&self) -> Sandbox<'_> {
        Sandbox::new(self.with.mkosi, &self.with.tools.tree)
            .env("PYTHONHASHSEED", "0")
            .env("PYTHONNOUSERSITE", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SOURCE_DATE_EPOCH", self.spec.epoch.to_string())
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .env("PIP_NO_CACHE_DIR", "1")
            .env("PIP_NO_INPUT", "1")
            .env("PIP_NO_COLOR", "1")
    }

    /// Downloads every wheel, and builds those that exist as source only.
    fn fetch(&self, requirements: &str, into: &Path) -> Result<(), VenvError> {
        let inputs = tempfile::tempdir_in(into.parent().unwrap_or(into))?;
        let mut sandbox = self
            .sandbox()
            .bind(into, "/wheels")
            .show(inputs.path(), "/inputs");
        let mut args = vec![
            "-m",
            "pip",
            "wheel",
            "--no-build-isolation",
            "--progress-bar=off",
            "-w",
            "/wheels",
        ];
        let wheel;
        match &self.spec.source {
            Source::Lock(_) => {
                fs::write(inputs.path().join("requirements.txt"), requirements)?;
                args.extend([
                    "--no-deps",
                    "--require-hashes",
                    "-r",
                    "/inputs/requirements.txt",
                ]);
            }
            Source::Wheel(path) => {
                fs::write(
                    inputs.path().join("constraints.txt"),
                    self.spec.overrides.join("\n"),
                )?;
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                wheel = format!("/wheel/{name}");
                sandbox = sandbox.show(path, &wheel);
                args.extend(["-c", "/inputs/constraints.txt", &wheel]);
            }
        }
        self.step(
            "fetch the Python packages",
            &sandbox.cmd("/usr/bin/python3", args),
        )
    }

    /// Installs the wheels at the final path and makes the result independent of
    /// when and where that happened.
    fn install(&self, wheels: &Path, partial: &Path) -> Result<(), VenvError> {
        let prefix = self.spec.prefix;
        let root = partial.join("root");
        fs::create_dir(&root)?;
        let sandbox = self.sandbox().bind(&root, prefix).show(wheels, "/wheels");
        let python = format!("{prefix}/bin/python3");

        let make = [
            "-m",
            "venv",
            "--system-site-packages",
            "--without-pip",
            "--symlinks",
            prefix,
        ];
        self.step(
            "make the Python environment",
            &sandbox.cmd("/usr/bin/python3", make),
        )?;
        let mut names = Vec::new();
        for entry in fs::read_dir(wheels)? {
            names.push(format!("/wheels/{}", entry?.file_name().to_string_lossy()));
        }
        names.sort();
        let skipped = |path: &String| {
            let name = wheel_name(Path::new(path)).unwrap_or_default();
            self.spec
                .from_distribution
                .iter()
                .any(|other| lockfile::normal(other) == name)
        };
        names.retain(|path| !skipped(path));
        let mut pip: Vec<String> = [
            "-m",
            "pip",
            "--python",
            &python,
            "install",
            "--no-deps",
            "--no-index",
        ]
        .map(str::to_owned)
        .to_vec();
        pip.extend(["--no-compile", "--progress-bar=off"].map(str::to_owned));
        pip.extend(names);
        self.step(
            "install the Python packages",
            &sandbox.cmd("/usr/bin/python3", pip),
        )?;

        let site = root.join(format!("lib/python{}/site-packages", self.spec.python));
        for shim in self.spec.shims {
            copy_tree(shim, &site)?;
        }
        tidy(&root)?;
        let compile = "import compileall, py_compile, sys\n\
             mode = py_compile.PycInvalidationMode.UNCHECKED_HASH\n\
             compileall.compile_dir(sys.argv[1], quiet=2, workers=0, invalidation_mode=mode)\n";
        // /usr is verified as a whole and never written: byte code need not be
        // checked against its source. Files that are no valid Python (templates)
        // are left as they are.
        let lib = format!("{prefix}/lib");
        let compile = sandbox.cmd("/usr/bin/python3", ["-B", "-c", compile, &lib]);
        self.step("compile the Python packages", &compile)?;
        normalize(&root, self.spec.epoch)?;

        let proof = format!(
            "import importlib.metadata as m, {module}; print(m.version({package:?}))",
            module = lockfile::normal(self.spec.package).replace('-', "_"),
            package = self.spec.package,
        );
        let prove = sandbox.cmd(&python, ["-P", "-c", &proof]);
        let doing = "import the release with the image's Python";
        let version = prove
            .run()
            .map_err(|source| failed(doing, source.stderr().to_owned(), source))?;
        fs::write(partial.join("version"), version.text())?;
        Ok(())
    }

    fn step(&self, doing: &'static str, cmd: &Cmd) -> Result<(), VenvError> {
        let mut text = String::new();
        let result = cmd.run_logged(self.log, |line| {
            text.push_str(line);
            text.push('\n');
        });
        result
            .map(drop)
            .map_err(|source| failed(doing, text, source))
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the text is borrowed from the failure that is moved"
)]
fn failed(doing: &'static str, log: String, source: Failure) -> VenvError {
    let explanation = explain(&log).map(Box::new);
    VenvError::Step {
        doing,
        explanation,
        source: Box::new(source),
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Removes what a product does not need and what names the builder: packages'
/// tests, activation scripts, and byte code that pip's builds left.
fn tidy(root: &Path) -> io::Result<()> {
    for name in [
        "bin/activate",
        "bin/activate.csh",
        "bin/activate.fish",
        "bin/Activate.ps1",
        ".gitignore",
    ] {
        remove_tree(&root.join(name))?;
    }
    prune(root, false)
}

fn prune(folder: &Path, in_packages: bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let name = entry.file_name();
        let here = in_packages || name == "site-packages";
        if name == "__pycache__" || (in_packages && name == "tests") {
            fs::remove_dir_all(entry.path())?;
        } else {
            prune(&entry.path(), here)?;
        }
    }
    Ok(())
}

/// Gives every file one time and the modes that the umask of the builder's
/// shell must not decide.
fn normalize(path: &Path, epoch: u64) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            normalize(&entry?.path(), epoch)?;
        }
    }
    if !meta.is_symlink() {
        let executable = meta.is_dir() || meta.permissions().mode() & 0o100 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    let time = Timespec {
        tv_sec: epoch.cast_signed(),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

#[cfg(test)]
mod tests;
