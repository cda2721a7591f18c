//! Everything that an image is made with, brought into the cache.
//!
//! Owns: the order in which mkosi, the tools tree, the Python environment and
//! the agent are brought. Each comes from the cache when it is there. Refuses:
//! knowing how any of them is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use sf_contract::failure::Kind;
use sf_contract::release::{Install, Release};
use sf_contract::series::Version;

use crate::agent_binary::{self, Agent};
use crate::apt::Mirrors;
use crate::cache::{Cache, CacheLock};
use crate::error::Report;
use crate::mkosi::Mkosi;
use crate::progress::{Phase, Progress};
use crate::render::EPOCH;
use crate::tools_tree::{Tools, ToolsSpec};
use crate::venv::{Source, Venv, VenvSpec, VenvTools};

/// What is brought, in order.
pub const PHASES: [&str; 4] = ["mkosi", "tools", "python", "agent"];

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The checkout's folder: the agent's source, and the releases.
    pub root: &'a Path,
    /// The release of Shaken Fist.
    pub release: &'a Release,
    /// The operator's wheel, for a release that takes one.
    pub wheel: Option<&'a Path>,
    /// A Debian mirror instead of the host's.
    pub mirror: Option<&'a str>,
    /// A finished agent instead of one compiled here.
    pub agent: Option<&'a Path>,
}

/// What was brought.
#[derive(Debug)]
pub struct Prepared {
    /// mkosi.
    pub mkosi: Mkosi,
    /// Its tools, and apt's sources.
    pub tools: Tools,
    /// The release's Python code.
    pub venv: Venv,
    /// Its version of Shaken Fist.
    pub shakenfist: Version,
    /// The agent.
    pub agent: Agent,
    /// What was in the cache already, by phase.
    pub cached: BTreeMap<&'static str, bool>,
}

impl Prepared {
    /// Versions of what builds an image, for its manifest.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::from([("mkosi".to_owned(), self.mkosi.version().to_owned())]);
        let packages = fs::read(&self.tools.manifest)
            .ok()
            .and_then(|bytes| packages_of(&bytes))
            .unwrap_or_default();
        for name in [
            "erofs-utils",
            "python3",
            "systemd-boot-efi",
            "systemd-repart",
            "systemd-ukify",
        ] {
            if let Some(version) = packages.get(name) {
                versions.insert(name.to_owned(), version.clone());
            }
        }
        versions
    }
}

/// Names and versions in mkosi's JSON list of packages.
pub fn packages_of(manifest: &[u8]) -> Option<BTreeMap<String, String>> {
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    #[derive(serde::Deserialize)]
    struct List {
        packages: Vec<Package>,
    }
    let list: List = serde_json::from_slice(manifest).ok()?;
    Some(
        list.packages
            .into_iter()
            .map(|package| (package.name, package.version))
            .collect(),
    )
}

impl Wanted<'_> {
    /// What of it cannot work, known before anything is brought.
    pub fn judge(self) -> Result<(), Report> {
        if let Some(agent) = self.agent
            && !agent.is_file()
        {
            return Err(Report::text(
                Kind::Usage,
                format!("there is no agent {}", agent.display()),
            ));
        }
        source(self).map(drop)
    }
}

/// Brings everything. `log` gets what the tools say.
pub fn prepare(
    wanted: Wanted<'_>,
    cache: &Cache,
    lock: &CacheLock,
    progress: &Progress,
    log: &Path,
) -> Result<Prepared, Report> {
    let release = wanted.release;
    let source = source(wanted)?;
    let mut cached = BTreeMap::new();

    let phase = progress.phase("mkosi");
    let mirrors = Mirrors::of_host(wanted.mirror)?;
    let (mkosi, had) = Mkosi::acquire(cache, lock, || Ok(mirrors.clone()))?;
    done(phase, "mkosi", had, &mut cached);

    let phase = progress.phase("tools");
    let spec = ToolsSpec {
        suite: &release.base.release,
        mirrors: &mirrors,
        extra_packages: &release.python.build_packages,
    };
    let tools = spec.build(cache, lock, &mkosi, log, &phase)?;
    done(phase, "tools", tools.cached, &mut cached);

    let phase = progress.phase("python");
    let folder = wanted.root.join("releases").join(&release.name);
    let shims: Vec<PathBuf> = release
        .python
        .shims
        .iter()
        .map(|shim| folder.join(&shim.path))
        .collect();
    let from_distribution: Vec<String> = release.python.from_distribution.keys().cloned().collect();
    let overrides: Vec<String> = release
        .python
        .overrides
        .iter()
        .map(|o| o.requirement.clone())
        .collect();
    let spec = VenvSpec {
        source,
        from_distribution: &from_distribution,
        overrides: &overrides,
        shims: &shims,
        prefix: &release.python.prefix,
        python: &release.base.python,
        package: "shakenfist",
        epoch: EPOCH,
    };
    let with = VenvTools {
        mkosi: &mkosi,
        tools: &tools,
    };
    let venv = spec.build(cache, lock, with, log, &phase)?;
    let shakenfist = shakenfist_version(release, &venv)?;
    done(phase, "python", venv.cached, &mut cached);

    let phase = progress.phase("agent");
    let glibc = &release.base.glibc;
    let mut compiled = false;
    let agent = if let Some(path) = wanted.agent {
        agent_binary::check(
            &std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            glibc,
        )?
    } else {
        let target = target_folder(wanted.root);
        agent_binary::compile(wanted.root, &target, glibc, |line| {
            compiled |= line.trim_start().starts_with("Compiling");
            phase.detail(line.trim());
        })?
    };
    done(phase, "agent", !compiled, &mut cached);

    Ok(Prepared {
        mkosi,
        tools,
        venv,
        shakenfist,
        agent,
        cached,
    })
}

fn done(
    phase: Phase<'_>,
    name: &'static str,
    was_cached: bool,
    cached: &mut BTreeMap<&'static str, bool>,
) {
    phase.done(was_cached);
    cached.insert(name, was_cached);
}

/// Where the release's code comes from, given what the command line says.
fn source(wanted: Wanted<'_>) -> Result<Source, Report> {
    let release = wanted.release;
    match (&release.python.install, wanted.wheel) {
        (Install::HashLock { lock }, None) => {
            Ok(Source::Lock(wanted.root.join("releases").join(&release.name).join(lock)))
        }
        (Install::HashLock { .. }, Some(_)) => Err(Report::text(
            Kind::Usage,
            format!("release {} comes from the package index and takes no wheel", release.name),
        )
        .hint(Some("leave --wheel out, or name a release that takes one"))),
        (Install::Wheel, Some(wheel)) if !wheel.is_file() => {
            Err(Report::text(Kind::Usage, format!("there is no wheel {}", wheel.display())))
        }
        (Install::Wheel, Some(wheel)) => {
            Ok(Source::Wheel(std::path::absolute(wheel).unwrap_or_else(|_| wheel.to_owned())))
        }
        (Install::Wheel, None) => Err(Report::text(
            Kind::Usage,
            format!("release {} is installed from your own wheel, and none is named", release.name),
        )
        .hint(Some("build one from Shaken Fist's source (`python3 -m build --wheel`) and name it with --wheel FILE"))),
    }
}

/// The version that was installed, which must be of the release's series.
fn shakenfist_version(release: &Release, venv: &Venv) -> Result<Version, Report> {
    let version: Version = venv.version.parse().map_err(|error: String| {
        Report::text(
            Kind::Configuration,
            format!("Shaken Fist's code says its version is odd: {error}"),
        )
    })?;
    if version.series() != release.series {
        return Err(Report::text(
            Kind::Configuration,
            format!(
                "Shaken Fist {version} was installed, which belongs to series {}, and release {} is of series {}",
                version.series(),
                release.name,
                release.series
            ),
        )
        .hint(Some("name a release of that series, or another wheel")));
    }
    Ok(version)
}

/// cargo's folder, as cargo itself would find it.
fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .filter(|path| !path.as_os_str().is_empty())
        .map_or_else(
            || root.join("target"),
            |path| std::path::absolute(&path).unwrap_or(path),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mkosis_list() {
        let text = br#"{"manifest_version":1,"config":{"name":"x"},"packages":[{"type":"deb","name":"bash","version":"5.2.37-2","architecture":"amd64"}]}"#;
        let packages = packages_of(text).expect("packages");
        assert_eq!(packages["bash"], "5.2.37-2");
        assert_eq!(packages_of(b"{}"), None);
    }
}
