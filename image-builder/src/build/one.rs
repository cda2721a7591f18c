//! One image, from a rendered folder to a published one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use fs_err as fs;
use sf_contract::failure::Kind;
use sf_contract::manifest::{Artefact, Manifest};

use super::answer::{self, Answer};
use super::{Brought, Built};
use crate::collect::{self, Expect, Kind as FileKind};
use crate::error::Report;
use crate::hygiene::{self, Finding, Policy};
use crate::mkosi_run::MkosiRun;
use crate::prepare::packages_of;
use crate::profile::{Budget, Output};
use crate::progress::Progress;
use crate::publish::Publication;
use crate::render::{self, Host, Image};
use crate::sandbox::Sandbox;

/// Name of the manifest in a published folder.
pub(super) const MANIFEST: &str = "manifest.json";
/// Name of the timings.
const TIMINGS: &str = "timings.json";
/// The second name of the /usr partition while it is judged.
const JUDGED: &str = "usr-to-judge.raw";

/// Bytes that an initrd may have once it is unpacked; it has some hundred MiB.
const INITRD: usize = 1 << 30;

/// Builds one image, or finds it built.
pub(super) fn build(
    image: &Image<'_>,
    brought: &Brought,
    output: &Path,
    force: bool,
    progress: &Progress,
) -> Result<Built, Report> {
    let before = progress.timings().len();
    let profile = &image.profile.name;
    let destination = output.join(profile).join(image.version.as_str());
    let workspace = brought.cache.work();
    let folder = workspace.join(format!("rendered-{profile}"));
    let (base, packages) = (brought.cache.base(profile), brought.cache.packages());
    let plain_output = folder.join("mkosi.output");
    let host = Host {
        tools: &brought.prepared.tools.tree,
        sandbox: &brought.prepared.tools.sandbox,
        base: &base,
        packages: &packages,
        workspace: &workspace,
        output: &plain_output,
    };
    let tree = render::render(image, Some(brought.inputs()), Some(host));
    let answer = Answer::of(&tree, &brought.prepared);
    let built = |cached: bool, destination: PathBuf| Built {
        profile: profile.clone(),
        image_version: image.version.to_string(),
        manifest: destination.join(MANIFEST),
        raw: Some(destination.join(format!("{}.raw", image.stem()))).filter(|path| path.exists()),
        folder: destination,
        cached,
        input_digest: answer.digest.clone(),
        timings: progress.timings().split_off(before),
    };
    if !force && answer.is_at(&destination) {
        progress.note(&super::unchanged(profile, &destination));
        return Ok(built(true, destination));
    }

    let publication = Publication::begin(&destination)?;
    let job = Job {
        image,
        brought,
        publication: &publication,
        progress,
    };
    let environment = |error: std::io::Error| Report::new(Kind::Environment, &error);
    crate::cache::remove_tree(&folder).map_err(environment)?;
    fs::create_dir_all(&folder).map_err(environment)?;
    tree.write(&folder).map_err(environment)?;
    let made = publication.folder().join("mkosi");
    for needed in [&made, &base] {
        fs::create_dir_all(needed).map_err(environment)?;
    }
    job.mkosi(&folder, &made, &base)?;
    let manifest = job.take(&made)?;
    crate::cache::remove_tree(&folder).map_err(environment)?;

    let phase = progress.phase(&format!("{profile}: publish"));
    let text = manifest.to_canonical_json();
    let inputs = format!("{:#}\n", serde_json::to_value(&answer).unwrap_or_default());
    let timings = progress.timings().split_off(before);
    let timings = format!("{:#}\n", serde_json::to_value(&timings).unwrap_or_default());
    let mut sums: Vec<(String, String)> = manifest
        .artefacts
        .iter()
        .map(|(name, artefact)| (name.clone(), artefact.sha256.clone()))
        .collect();
    for (name, text, summed) in [
        (MANIFEST, &text, true),
        (answer::FILE, &inputs, true),
        (TIMINGS, &timings, false),
    ] {
        fs::write(publication.folder().join(name), text).map_err(environment)?;
        if summed {
            sums.push((name.to_owned(), crate::digest::of_bytes(text.as_bytes())));
        }
    }
    let destination = publication.commit(&sums)?;
    phase.done(false);
    Ok(built(false, destination))
}

struct Job<'a> {
    image: &'a Image<'a>,
    brought: &'a Brought,
    publication: &'a Publication,
    progress: &'a Progress,
}

impl Job<'_> {
    fn phase(&self, what: &str) -> crate::progress::Phase<'_> {
        self.progress
            .phase(&format!("{}: {what}", self.image.profile.name))
    }

    fn mkosi(&self, folder: &Path, made: &Path, base: &Path) -> Result<(), Report> {
        let phase = self.phase("image");
        let prepared = &self.brought.prepared;
        let run = MkosiRun {
            mkosi: &prepared.mkosi,
            folder: folder.to_owned(),
            output: made.to_owned(),
            workspace: self.brought.cache.work(),
            packages: self.brought.cache.packages(),
            base: Some(base.to_owned()),
            tools: Some(prepared.tools.tree.clone()),
            sandbox: prepared.tools.sandbox.clone(),
            extra: Vec::new(),
        };
        // Asked while the image is being made: the answer takes a second.
        let summary = prepared
            .mkosi
            .cmd()
            .arg("--directory")
            .arg(folder)
            .args(["--json", "summary"]);
        let (ran, summary) = thread::scope(|scope| {
            let asked = scope.spawn(|| summary.run());
            (run.run(self.publication.log(), &phase), asked.join())
        });
        ran?;
        let summary = match summary {
            Ok(Ok(output)) => output.text(),
            Ok(Err(failure)) => return Err(Report::new(Kind::Internal, &failure)),
            Err(_) => {
                return Err(Report::text(
                    Kind::Internal,
                    "asking mkosi what it read panicked",
                ));
            }
        };
        let conf = render::conf(self.image);
        let differences = super::contract::differences(&summary, &conf, &self.image.stem());
        if !differences.is_empty() {
            let message = "mkosi read something else than what was rendered";
            return Err(Report::text(Kind::Internal, message).detail(differences.join("\n")));
        }
        phase.done(false);
        Ok(())
    }

    /// Takes over and judges what mkosi made.
    fn take(&self, made: &Path) -> Result<Manifest, Report> {
        let environment = |error: std::io::Error| Report::new(Kind::Environment, &error);
        let stem = self.image.stem();
        let expected = Expect::disk(&stem);
        let phase = self.phase("collect");
        let folder = self.publication.folder();
        // Hashing and judging take seconds each, and neither waits for the other.
        let (taken, files) = thread::scope(|scope| {
            let gate = made_usr(made, &stem).map(|usr| scope.spawn(move || self.judge_files(&usr)));
            let start = Instant::now();
            let taken = collect::collect(made, folder, &expected);
            phase.step("hash", start.elapsed());
            let start = Instant::now();
            let files = gate.map_or(Ok(Vec::new()), |gate| {
                gate.join().unwrap_or_else(|_| {
                    Err(Report::text(Kind::Internal, "the hygiene gate panicked"))
                })
            });
            phase.step("wait for the hygiene gate", start.elapsed());
            (taken, files)
        });
        let taken = taken?;
        let root_hash = collect::usr_root_hash(folder, &taken)?;
        let mut findings = files?;
        findings.extend(self.judge_initrd(&taken)?);
        findings.extend(self.judge_sizes(&taken)?);
        if !findings.is_empty() {
            return Err(refused(&findings));
        }
        phase.done(false);

        let mut manifest = render::describe(self.image);
        manifest.usr_root_hash = Some(root_hash);
        let list = taken
            .iter()
            .find(|artefact| artefact.kind == FileKind::PackageList);
        let list = list.map_or_else(|| Ok(Vec::new()), |list| fs::read(folder.join(&list.name)));
        let list = list.map_err(environment)?;
        manifest.packages = packages_of(&list).ok_or_else(|| {
            Report::text(Kind::Internal, "mkosi's list of packages cannot be read")
        })?;
        let python = self.brought.prepared.venv.packages().map_err(environment)?;
        manifest.python_packages = python.into_iter().collect();
        for artefact in taken {
            if self.is_published(artefact.kind) {
                let entry = Artefact {
                    size: artefact.size,
                    sha256: artefact.sha256,
                };
                manifest.artefacts.insert(artefact.name, entry);
            } else {
                fs::remove_file(folder.join(artefact.name)).map_err(environment)?;
            }
        }
        crate::cache::remove_tree(made).map_err(environment)?;
        crate::cache::remove_tree(&made.with_file_name(JUDGED)).map_err(environment)?;
        Ok(manifest)
    }

    fn is_published(&self, kind: FileKind) -> bool {
        let output = match kind {
            FileKind::Raw => Output::Raw,
            FileKind::Uki => Output::Uki,
            FileKind::Usr | FileKind::UsrVerity => Output::Partitions,
            // What is in these is in the manifest and in the UKI.
            _ => return false,
        };
        self.image.profile.outputs.contains(&output)
    }

    fn sandbox(&self) -> Sandbox<'_> {
        Sandbox::new(
            &self.brought.prepared.mkosi,
            &self.brought.prepared.tools.tree,
        )
    }

    /// The hygiene gate over the files that are really in the image. `usr` is
    /// the partition's name where mkosi put it.
    fn judge_files(&self, usr: &Path) -> Result<Vec<Finding>, Report> {
        let environment = |error: std::io::Error| Report::new(Kind::Environment, &error);
        let profile = self.image.profile;
        let work = self
            .brought
            .cache
            .work()
            .join(format!("gate-{}", profile.name));
        crate::cache::remove_tree(&work).map_err(environment)?;
        fs::create_dir_all(&work).map_err(environment)?;
        hygiene::extract::command(self.sandbox(), usr, &work)
            .run()
            .map_err(|failure| Report::new(Kind::Internal, &failure))?;
        let policy = Policy {
            product: profile.is_product(),
            set_uid: profile.set_uid.clone(),
        };
        let gate = hygiene::extract::inspect(&work, "usr", &policy).map_err(environment)?;
        crate::cache::remove_tree(&work).map_err(environment)?;
        Ok(gate.findings())
    }

    /// The same over the initrd, which travels in the UKI.
    fn judge_initrd(&self, taken: &[collect::Artefact]) -> Result<Vec<Finding>, Report> {
        let Some(initrd) = taken
            .iter()
            .find(|artefact| artefact.kind == FileKind::Initrd)
        else {
            return Ok(Vec::new());
        };
        let path = self.publication.folder().join(&initrd.name);
        let archive = hygiene::extract::initrd_command(self.sandbox(), &path)
            .room(INITRD)
            .run()
            .map_err(|failure| Report::new(Kind::Internal, &failure))?;
        hygiene::inspect_initrd(&archive.stdout)
            .map_err(|error| Report::new(Kind::Internal, &error))
    }

    /// The profile's size budgets.
    fn judge_sizes(&self, taken: &[collect::Artefact]) -> Result<Vec<Finding>, Report> {
        let environment = |error: std::io::Error| Report::new(Kind::Environment, &error);
        let folder = self.publication.folder();
        let mut measured = BTreeMap::new();
        let mut files = BTreeMap::new();
        for artefact in taken {
            let path = folder.join(&artefact.name);
            let (budget, size) = match artefact.kind {
                FileKind::Usr => {
                    let size = hygiene::extract::file_system_size(self.sandbox(), &path)
                        .map_err(|failure| Report::new(Kind::Internal, &failure))?;
                    (Budget::Usr, size.unwrap_or(artefact.size))
                }
                FileKind::Raw => (
                    Budget::Raw,
                    hygiene::extract::allocated(&path).map_err(environment)?,
                ),
                FileKind::Uki => (Budget::Uki, artefact.size),
                FileKind::Initrd => (Budget::Initrd, artefact.size),
                _ => continue,
            };
            measured.insert(budget, size);
            files.insert(budget, artefact.name.clone());
        }
        Ok(hygiene::budgets::judge(
            &self.image.profile.size_budgets,
            &measured,
            &files,
        ))
    }
}

/// A second name for the /usr partition that mkosi made, under which it can be
/// read while the first one moves. `None` when there is none, which
/// [`collect`](collect::collect) reports.
fn made_usr(made: &Path, stem: &str) -> Option<PathBuf> {
    let start = format!("{stem}.usr-x86-64.");
    let entries = fs::read_dir(made).ok()?.flatten();
    let name = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| {
            name.strip_prefix(&start)
                .is_some_and(|rest| rest.split('.').nth(1) == Some("raw"))
        })?;
    let second = made.with_file_name(JUDGED);
    crate::cache::remove_tree(&second).ok()?;
    fs::hard_link(made.join(name), &second).ok()?;
    Some(second)
}

fn refused(findings: &[Finding]) -> Report {
    let list: Vec<String> = findings
        .iter()
        .map(|finding| format!("  {finding}"))
        .collect();
    let count = findings.len();
    let what = if count == 1 {
        "1 thing is".to_owned()
    } else {
        format!("{count} things are")
    };
    Report::text(Kind::Refused, format!("{what} in the image that must not be; it is not published"))
        .detail(format!("hygiene gate:\n{}", list.join("\n")))
        .hint(Some("docs/reference/sf-image.md#hygiene says what each rule is for and what may be allowed in a profile"))
}
