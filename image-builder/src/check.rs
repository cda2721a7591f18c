//! Judges all profiles and releases of a checkout in one run.
//!
//! Owns: what can only be seen with several documents at once (a daemon that
//! no release has, a file that two trees bring, a lock that is not there).
//! Refuses: stopping at the first mistake, and reporting one twice. Needs
//! neither root nor network, and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sf_contract::document::{Field, did_you_mean};
use sf_contract::problem::{Disclosure, Problem};
use sf_contract::release::{self, Install, Release};

use crate::checkout::{Checkout, ReleaseFolder};
use crate::hygiene::packages::infrastructure;
use crate::lockfile;
use crate::profile::{self, Profile, ResolvedProfile};

/// Everything that was understood, and everything that is wrong.
#[derive(Debug, Default)]
pub struct Checked {
    /// Profiles as read, also those with problems.
    pub profiles: BTreeMap<String, Profile>,
    /// Profiles that can be built, by name.
    pub resolved: BTreeMap<String, ResolvedProfile>,
    /// Releases without problems, by name.
    pub releases: BTreeMap<String, Release>,
    /// All findings, by document and place; each once.
    pub problems: Vec<Problem>,
}

/// Reads and judges everything.
pub fn check(checkout: &Checkout) -> Checked {
    let mut checked = Checked::default();
    for (name, text) in &checkout.profiles {
        let (profile, problems) = profile::read(name, &text.source, &text.text);
        checked.problems.extend(problems);
        checked.profiles.insert(name.clone(), profile);
    }
    for (name, folder) in &checkout.releases {
        let text = &folder.descriptor;
        match release::read(name, &text.source, &text.text) {
            Ok(release) => {
                checked.problems.extend(release_files(&release, folder));
                checked.problems.extend(base(&release, folder, checkout));
                checked.releases.insert(name.clone(), release);
            }
            Err(problems) => checked.problems.extend(problems),
        }
    }
    for name in checked.profiles.keys() {
        match profile::resolve(&checked.profiles, name, &checkout.profile_files) {
            Ok(Some(resolved)) => drop(checked.resolved.insert(name.clone(), resolved)),
            Ok(None) => {}
            Err(problems) => checked.problems.extend(problems),
        }
    }
    let found: Vec<Problem> = checked
        .profiles
        .values()
        .flat_map(|profile| {
            daemons(profile, &checked.releases)
                .into_iter()
                .chain(product(profile, &checked.resolved))
                .chain(files(profile, checkout))
        })
        .collect();
    checked.problems.extend(found);
    let place = |problem: &Problem| {
        let start = problem.span.as_ref().map_or(usize::MAX, |span| span.start);
        (problem.source.clone(), start, problem.message.clone())
    };
    checked.problems.sort_by_key(place);
    checked.problems.dedup();
    checked
}

/// All problems as source frames, with a count at the end.
pub fn report(problems: &[Problem], checkout: &Checkout) -> String {
    let mut text = String::new();
    for problem in problems {
        let source = checkout.text(&problem.source).unwrap_or_default();
        text.push_str(&problem.frame(source, Disclosure::Full));
        text.push_str("\n\n");
    }
    let sources: BTreeSet<&str> = problems
        .iter()
        .map(|problem| problem.source.as_str())
        .collect();
    let many =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (problems, files) = (many(problems.len(), "problem"), many(sources.len(), "file"));
    let _ = writeln!(text, "{problems} in {files}");
    text
}

fn at<T>(
    source: &str,
    field: &str,
    place: &Field<T>,
    message: String,
    hint: Option<String>,
) -> Problem {
    Problem {
        source: source.to_owned(),
        field: field.to_owned(),
        span: Some(place.span.clone()),
        message,
        hint,
    }
}

/// Every daemon that a profile names is one that each release has, or says it
/// does not have.
fn daemons(profile: &Profile, releases: &BTreeMap<String, Release>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for name in &profile.daemons {
        for release in releases.values() {
            if release.daemon_names().any(|known| known == name.value) {
                continue;
            }
            let message = format!("release {} has no daemon \"{}\"", release.name, name.value);
            let anywhere = releases
                .values()
                .any(|other| other.daemon_names().any(|known| known == name.value));
            let hint = if anywhere {
                format!(
                    "if that is meant, say why under [absent_daemons] in releases/{}/release.toml",
                    release.name
                )
            } else if let Some(near) = did_you_mean(&name.value, release.daemon_names()) {
                format!("did you mean \"{near}\"?")
            } else {
                let mut names: Vec<&str> = release.daemon_names().collect();
                names.sort_unstable();
                format!("it has {}", names.join(", "))
            };
            problems.push(at(&profile.source, "daemons", name, message, Some(hint)));
        }
    }
    problems
}

/// A profile that is part of a product names no infrastructure.
fn product(profile: &Profile, resolved: &BTreeMap<String, ResolvedProfile>) -> Vec<Problem> {
    let in_product = resolved
        .values()
        .any(|user| user.is_product() && user.chain.contains(&profile.name));
    let named = profile.packages.iter().filter(|_| in_product);
    named
        .filter_map(|package| {
            let what = infrastructure(&package.value)?;
            let message = format!(
                "\"{}\" is {what}, which no product image carries",
                package.value
            );
            let hint =
                "infrastructure is the operator's: an image deploys Shaken Fist and nothing else"
                    .to_owned();
            Some(at(
                &profile.source,
                "packages",
                package,
                message,
                Some(hint),
            ))
        })
        .collect()
}

/// No file of a profile stands where another tree of the image puts one.
fn files(profile: &Profile, checkout: &Checkout) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in &profile.files {
        let path = file.path.value.trim_start_matches('/');
        let taken = checkout
            .statics
            .get(&format!("mkosi.extra/{path}"))
            .map(|_| format!("mkosi.extra/{path}"))
            .or_else(|| {
                checkout.releases.iter().find_map(|(name, folder)| {
                    let extra = format!("extra/{path}");
                    folder
                        .files
                        .get(&extra)
                        .map(|_| format!("releases/{name}/{extra}"))
                })
            })
            .or_else(|| {
                crate::render::own_paths()
                    .contains(&path)
                    .then(|| "the builder".to_owned())
            });
        if let Some(taken) = taken {
            let message = format!("{} comes from {taken} already", file.path.value);
            let hint = Some("change it there, or name another path, such as a drop-in".to_owned());
            problems.push(at(&profile.source, "file.path", &file.path, message, hint));
        }
    }
    problems
}

/// What a release refers to is in its folder.
fn release_files(release: &Release, folder: &ReleaseFolder) -> Vec<Problem> {
    let source = &folder.descriptor.source;
    let mut problems = Vec::new();
    if let Install::HashLock { lock } = &release.python.install {
        match folder.files.text(lock) {
            None => problems.push(Problem::whole(
                source,
                format!(
                    "python.lock: there is no file releases/{}/{lock}",
                    release.name
                ),
            )),
            Some(text) => {
                let pinned: Vec<String> = lockfile::entries(text)
                    .into_iter()
                    .map(|entry| entry.name)
                    .collect();
                let named = release
                    .python
                    .overrides
                    .iter()
                    .map(|o| o.requirement.as_str());
                for requirement in
                    named.chain(release.python.from_distribution.keys().map(String::as_str))
                {
                    let name = requirement
                        .split(['=', '<', '>', '!', '~', '[', ' '])
                        .next()
                        .unwrap_or_default();
                    if !pinned.contains(&lockfile::normal(name)) {
                        problems.push(
                            Problem::whole(
                                source,
                                format!(
                                    "python: {lock} does not pin {name}, which this file names"
                                ),
                            )
                            .hint("remove it here, or resolve the lock anew"),
                        );
                    }
                }
                if !release.version.as_ref().is_none_or(|version| {
                    lockfile::entries(text)
                        .iter()
                        .any(|e| e.name == "shakenfist" && e.version == version.as_str())
                }) {
                    problems.push(Problem::whole(source, format!("python.lock: {lock} does not pin shakenfist at the version of this file")));
                }
            }
        }
    }
    for shim in &release.python.shims {
        if !folder
            .files
            .paths()
            .any(|path| path.starts_with(&format!("{}/", shim.path)))
        {
            problems.push(Problem::whole(
                source,
                format!(
                    "python.shim: there is no folder releases/{}/{}",
                    release.name, shim.path
                ),
            ));
        }
    }
    if let Some(hook) = release
        .hooks
        .system_key
        .as_ref()
        .and_then(|hook| hook.first())
    {
        let path = format!("extra{hook}");
        match folder.files.get(&path) {
            Some(crate::tree::Node::File { mode: 0o755, .. }) => {}
            Some(_) => problems.push(Problem::whole(
                source,
                format!(
                    "hooks.system_key: releases/{}/{path} is not executable",
                    release.name
                ),
            )),
            None => problems.push(Problem::whole(
                source,
                format!(
                    "hooks.system_key: there is no file releases/{}/{path}",
                    release.name
                ),
            )),
        }
    }
    problems
}

/// The release is for the distribution that mkosi.conf.d/ builds.
fn base(release: &Release, folder: &ReleaseFolder, checkout: &Checkout) -> Option<Problem> {
    let setting = |key: &str| {
        checkout
            .statics
            .iter()
            .filter(|(path, _)| path.starts_with("mkosi.conf.d/"))
            .find_map(|(path, _)| {
                let text = checkout.statics.text(path)?;
                text.lines().find_map(|line| {
                    line.trim()
                        .strip_prefix(key)?
                        .strip_prefix('=')
                        .map(str::to_owned)
                })
            })
    };
    let (distribution, suite) = (setting("Distribution")?, setting("Release")?);
    let same = release.base.distribution == distribution && release.base.release == suite;
    (!same).then(|| {
        Problem::whole(
            &folder.descriptor.source,
            format!(
                "base: the release is for {} {}, mkosi.conf.d/ builds {distribution} {suite}",
                release.base.distribution, release.base.release
            ),
        )
    })
}

#[cfg(test)]
#[path = "check/tests.rs"]
mod tests;
