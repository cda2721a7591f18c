//! From a checkout to published images.
//!
//! Owns: the order of things: the machine, what is brought, rendering, mkosi,
//! collecting, the hygiene gate, the manifest, publishing. Refuses: knowing how
//! any of these is done, and building what is there already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sf_contract::failure::Kind;
use sf_contract::release::Release;
use sf_contract::series::Version;

use crate::cache::{Cache, CacheLock};
use crate::check::Checked;
use crate::checkout::Checkout;
use crate::error::Report;
use crate::host::{self, Install, Space};
use crate::prepare::{self, Prepared, Wanted};
use crate::profile::ResolvedProfile;
use crate::progress::{Progress, Timing};
use crate::publish::PublishError;
use crate::render::{self, Host, Image, Inputs};
use crate::tree::Tree;
use crate::version::{self, ImageVersion};

mod answer;
mod contract;
mod one;
mod quick;
mod source;

use quick::Question;
use source::Commit;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of the release.
    pub release: String,
    /// The operator's wheel.
    pub wheel: Option<PathBuf>,
    /// The image's version; derived when absent.
    pub image_version: Option<String>,
    /// A debug image.
    pub debug: bool,
    /// A Debian mirror.
    pub mirror: Option<String>,
    /// A finished agent.
    pub agent: Option<PathBuf>,
}

/// A checkout without problems, and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The checkout.
    pub checkout: &'a Checkout,
    /// Its documents.
    pub checked: &'a Checked,
    /// The command line.
    pub options: &'a Options,
}

/// What came of a build.
#[derive(Debug, serde::Serialize)]
pub struct Outcome {
    /// Each image, in the order asked for.
    pub images: Vec<Built>,
    /// What was in the cache already: `mkosi`, `tools`, `python`, `agent`.
    pub cached: BTreeMap<&'static str, bool>,
    /// Seconds per phase, over all images.
    pub timings: Vec<Timing>,
    /// Seconds in all.
    pub seconds: f64,
}

/// One image.
#[derive(Debug, serde::Serialize)]
pub struct Built {
    /// The profile.
    pub profile: String,
    /// The image's version.
    pub image_version: String,
    /// The output folder, absolute.
    pub folder: PathBuf,
    /// The manifest, absolute.
    pub manifest: PathBuf,
    /// The disk image, when the profile publishes one.
    pub raw: Option<PathBuf>,
    /// Nothing had changed: the image was there.
    pub cached: bool,
    /// Digest of everything that the image depends on.
    pub input_digest: String,
    /// Seconds of this image's own phases.
    pub timings: Vec<Timing>,
}

impl<'a> Request<'a> {
    fn profile(&self, name: &str) -> Result<&'a ResolvedProfile, Report> {
        self.checkout.require_profile(name)?;
        self.checked.resolved.get(name).ok_or_else(|| {
            let users: Vec<&str> = self.checked.resolved.keys().map(String::as_str).collect();
            Report::text(
                Kind::Usage,
                format!("profile \"{name}\" has no role: it is there to be extended, not built"),
            )
            .hint(Some(format!("profiles to build: {}", users.join(", "))))
        })
    }

    fn release(&self) -> Result<&'a Release, Report> {
        let name = &self.options.release;
        self.checkout.require_release(name)?;
        self.checked.releases.get(name).ok_or_else(|| {
            Report::text(
                Kind::Configuration,
                format!("release \"{name}\" cannot be used"),
            )
        })
    }

    fn wanted(&self) -> Result<Wanted<'a>, Report> {
        Ok(Wanted {
            root: &self.checkout.root,
            release: self.release()?,
            wheel: self.options.wheel.as_deref(),
            mirror: self.options.mirror.as_deref(),
            agent: self.options.agent.as_deref(),
        })
    }

    fn version(
        &self,
        profile: &str,
        shakenfist: &Version,
        commit: &Commit,
    ) -> Result<ImageVersion, Report> {
        let text = self
            .options
            .image_version
            .clone()
            .unwrap_or_else(|| version::derived(shakenfist, commit.number));
        Ok(ImageVersion::new(&text, &render::image_id(profile))?)
    }

    fn image(
        &self,
        profile: &str,
        known: &'a Known,
        version: &'a ImageVersion,
    ) -> Result<Image<'a>, Report> {
        Ok(Image {
            profile: self.profile(profile)?,
            release: self.release()?,
            folder: self.checkout.require_release(&self.options.release)?,
            statics: &self.checkout.statics,
            version,
            shakenfist: &known.shakenfist,
            debug: self.options.debug,
            tools: &known.tools,
            commit: known.commit.id.as_deref(),
        })
    }
}

/// What images have in common once everything is brought.
struct Known {
    shakenfist: Version,
    tools: BTreeMap<String, String>,
    commit: Commit,
}

/// The configuration alone, as far as it is known without bringing anything:
/// no tools' versions, and for a release that the operator's wheel brings, the
/// first version of its series.
pub fn render_config(request: &Request<'_>, profile: &str) -> Result<Tree, Report> {
    request.profile(profile)?;
    let release = request.release()?;
    let placeholder = || format!("{}.0.dev0", release.series).parse();
    let shakenfist = release
        .version
        .clone()
        .map_or_else(placeholder, Ok)
        .map_err(|error| Report::text(Kind::Internal, error))?;
    let known = Known {
        shakenfist,
        tools: BTreeMap::new(),
        commit: Commit::of(&request.checkout.root),
    };
    let version = request.version(profile, &known.shakenfist, &known.commit)?;
    let image = request.image(profile, &known, &version)?;
    Ok(render::render(&image, None, None))
}

/// The whole folder, and the command that builds it with plain mkosi.
pub fn render_complete(
    request: &Request<'_>,
    profile: &str,
    folder: &Path,
) -> Result<(Tree, String), Report> {
    request.profile(profile)?;
    let progress = Progress::stderr();
    let brought = bring(request, folder, &progress)?;
    let version = request.version(profile, &brought.known.shakenfist, &brought.known.commit)?;
    let image = request.image(profile, &brought.known, &version)?;
    let base = brought.cache.base(profile);
    let output = folder.join("mkosi.output");
    let (packages, workspace) = (brought.cache.packages(), brought.cache.work());
    for made in [&base, &packages, &workspace] {
        fs_err::create_dir_all(made).map_err(|error| Report::new(Kind::Environment, &error))?;
    }
    let host = Host {
        tools: &brought.prepared.tools.tree,
        sandbox: &brought.prepared.tools.sandbox,
        base: &base,
        packages: &packages,
        workspace: &workspace,
        output: &output,
    };
    let tree = render::render(&image, Some(brought.inputs()), Some(host));
    let command = brought
        .prepared
        .mkosi
        .cmd()
        .args(["--directory".as_ref(), folder.as_os_str()])
        .arg("build");
    Ok((tree, command.to_string()))
}

/// Builds images one after another.
pub fn build(
    request: &Request<'_>,
    profiles: &[String],
    output: &Path,
    force: bool,
    progress: &Progress,
) -> Result<Outcome, Report> {
    let start = Instant::now();
    for profile in profiles {
        request.profile(profile)?;
    }
    // A version that does not fit is known before an hour's work.
    if let Some(text) = &request.options.image_version {
        for profile in profiles {
            ImageVersion::new(text, &render::image_id(profile))?;
        }
    }
    let output = std::path::absolute(output).map_err(|error| Report::new(Kind::Usage, &error))?;
    request.wanted()?.judge()?;
    let commit = Commit::of(&request.checkout.root);
    let question = Question::of(request, &commit, &output, &Cache::from_env()?)
        .map_err(|error| Report::new(Kind::Environment, &error))?;
    let known: Option<Vec<Built>> = profiles
        .iter()
        .filter(|_| !force)
        .map(|profile| question.answer(request, profile))
        .collect();
    if let Some(images) = known.filter(|images| images.len() == profiles.len()) {
        for image in &images {
            progress.note(&unchanged(&image.profile, &image.folder));
        }
        let cached = prepare::PHASES.map(|phase| (phase, true)).into();
        return Ok(Outcome {
            images,
            cached,
            timings: Vec::new(),
            seconds: rounded(start),
        });
    }
    writable(&output)?;
    let brought = bring(request, &output, progress)?;
    let mut images = Vec::new();
    for profile in profiles {
        let version = request.version(profile, &brought.known.shakenfist, &brought.known.commit)?;
        let image = request.image(profile, &brought.known, &version)?;
        let built = one::build(&image, &brought, &output, force, progress)?;
        question.remember(request, &built);
        images.push(built);
    }
    let cached = brought.prepared.cached.clone();
    Ok(Outcome {
        images,
        cached,
        timings: progress.timings(),
        seconds: rounded(start),
    })
}

fn unchanged(profile: &str, folder: &Path) -> String {
    format!(
        "{profile}: nothing changed since {} was built",
        folder.display()
    )
}

fn rounded(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

/// Makes the output folder and writes to it: better now than after the work.
fn writable(output: &Path) -> Result<(), Report> {
    let written =
        fs_err::create_dir_all(output).and_then(|()| tempfile::tempfile_in(output).map(drop));
    written.map_err(|source| {
        PublishError::Unwritable {
            path: output.to_owned(),
            source,
        }
        .into()
    })
}

/// The cache with everything in it, locked.
struct Brought {
    cache: Cache,
    _lock: CacheLock,
    prepared: Prepared,
    known: Known,
}

impl Brought {
    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            venv: &self.prepared.venv.path,
            agent: &self.prepared.agent.path,
        }
    }
}

fn bring(request: &Request<'_>, output: &Path, progress: &Progress) -> Result<Brought, Report> {
    let cache = Cache::from_env()?;
    let wanted = request.wanted()?;
    wanted.judge()?;
    fit(&cache, output, progress)?;
    let lock = cache.lock(|holder| {
        progress.note(&format!(
            "waiting for another build (process {holder}) to release the cache"
        ));
    })?;
    let log = cache.root().join("prepare.log");
    fs_err::write(&log, "").map_err(|error| Report::new(Kind::Environment, &error))?;
    let prepared = prepare::prepare(wanted, &cache, &lock, progress, &log).map_err(|report| {
        let said = fs_err::metadata(&log).is_ok_and(|meta| meta.len() > 0);
        report.hint(said.then(|| format!("everything that the tools said is in {}", log.display())))
    })?;
    let known = Known {
        shakenfist: prepared.shakenfist.clone(),
        tools: prepared.versions(),
        commit: Commit::of(&request.checkout.root),
    };
    Ok(Brought {
        cache,
        _lock: lock,
        prepared,
        known,
    })
}

/// Checks the machine, and installs what it lacks after saying what and why.
fn fit(cache: &Cache, output: &Path, progress: &Progress) -> Result<(), Report> {
    // Once the tools tree and a base tree are there, a build takes little more.
    let warm = cache.root().join("base").exists();
    let cache_need = if warm {
        host::CACHE_NEED / 2
    } else {
        host::CACHE_NEED
    };
    host::check(&[
        Space {
            folder: cache.root().to_owned(),
            need: cache_need,
            purpose: "the build cache",
        },
        Space {
            folder: output.to_owned(),
            need: host::OUTPUT_NEED,
            purpose: "the output",
        },
    ])?;
    let install = Install::needed(host::BUILD_TOOLS);
    if !install.is_empty() {
        progress.note(&install.to_string());
        install.run()?;
    }
    Ok(())
}
