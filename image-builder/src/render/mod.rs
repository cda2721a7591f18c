//! The complete mkosi folder of one image, as a value.
//!
//! Owns: what of it depends on profile, release and version. Refuses: reading
//! or writing anything; equal inputs give equal trees. Plain `mkosi build` in
//! the written folder makes the same image as `sf-image build`.
//!
//! | path | from |
//! |---|---|
//! | `mkosi.conf` | rendered: what makes the image |
//! | `mkosi.local.conf` | rendered: where this machine keeps things; the image does not depend on it |
//! | `mkosi.conf.d/`, `mkosi.extra/`, `mkosi.repart/`, `mkosi.images/`, `mkosi.finalize` | the checkout |
//! | `profile.extra/` | rendered: units, drop-ins, kernel parameters, the profile's files, the manifest |
//! | `release.extra/` | `releases/<release>/extra/` |
//! | `venv`, `agent` | links to the Python environment and the agent's binary |

use std::collections::BTreeMap;
use std::path::Path;

use sf_contract::release::{Daemon, Release};
use sf_contract::series::Version;
use sf_contract::{manifest, release};

use crate::checkout::ReleaseFolder;
use crate::digest;
use crate::profile::ResolvedProfile;
use crate::settings::{Conf, Setting, literal};
use crate::tree::{Node, Tree};
use crate::version::ImageVersion;

mod debug;
mod description;
mod units;

pub use description::describe;

/// The time of every file in every image, seconds since 1970. A constant, since
/// an image depends on its content alone and not on when it was made.
pub const EPOCH: u64 = 1_760_000_000;

/// What one image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// What it consists of.
    pub profile: &'a ResolvedProfile,
    /// The release of Shaken Fist in it.
    pub release: &'a Release,
    /// The release's folder.
    pub folder: &'a ReleaseFolder,
    /// mkosi's static files.
    pub statics: &'a Tree,
    /// Its version.
    pub version: &'a ImageVersion,
    /// Shaken Fist's version: the release's, or that of the operator's wheel.
    pub shakenfist: &'a Version,
    /// Root can log in on the console.
    pub debug: bool,
    /// Versions of what builds it, by name.
    pub tools: &'a BTreeMap<String, String>,
    /// The checkout's commit.
    pub commit: Option<&'a str>,
}

/// What is copied into the image and not rendered.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The Python environment, a folder.
    pub venv: &'a Path,
    /// The agent's binary.
    pub agent: &'a Path,
}

/// Where a machine keeps what mkosi works with.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Tools tree.
    pub tools: &'a Path,
    /// Sandbox tree.
    pub sandbox: &'a Path,
    /// Base trees.
    pub base: &'a Path,
    /// Downloaded packages.
    pub packages: &'a Path,
    /// mkosi's working folder.
    pub workspace: &'a Path,
    /// Where plain mkosi puts what it makes.
    pub output: &'a Path,
}

impl Image<'_> {
    /// `sf-hypervisor`.
    pub fn id(&self) -> String {
        image_id(&self.profile.name)
    }

    /// Stem of the output files, `sf-hypervisor_0.7.2-1`.
    pub fn stem(&self) -> String {
        format!("{}_{}", self.id(), self.version)
    }

    /// The units that the image runs, in the order of the release.
    pub fn units(&self) -> Vec<&Daemon> {
        self.release
            .units_for(self.profile.role, &self.profile.daemons)
    }
}

/// The image's name for a profile.
pub fn image_id(profile: &str) -> String {
    format!("sf-{profile}")
}

/// Files that every rendered image gets from the builder itself, as paths in
/// the image without the leading slash.
pub fn own_paths() -> [&'static str; 4] {
    [
        manifest::IN_IMAGE.trim_start_matches('/'),
        release::IN_IMAGE.trim_start_matches('/'),
        SYSCTL,
        MODULES,
    ]
}

const SYSCTL: &str = "usr/lib/sysctl.d/60-sf-profile.conf";
const MODULES: &str = "usr/lib/modules-load.d/sf-profile.conf";

/// The whole folder. Without `inputs` and `host` it is the configuration alone,
/// which cannot be built by itself.
pub fn render(image: &Image<'_>, inputs: Option<Inputs<'_>>, host: Option<Host<'_>>) -> Tree {
    let mut tree = image.statics.clone();
    let comment = format!(
        "Rendered by sf-image from profile {} and release {}; mkosi.conf.d/ is read after it.",
        image.profile.name, image.release.name
    );
    tree.insert("mkosi.conf", Node::text(conf(image).text(&comment)));
    if let Some(host) = host {
        tree.insert("mkosi.local.conf", Node::text(local_conf(host)));
    }
    tree.graft("profile.extra", &profile_tree(image));
    for (path, node) in image.folder.files.iter() {
        if let Some(path) = path.strip_prefix("extra/") {
            tree.insert(format!("release.extra/{path}"), node.clone());
        }
    }
    if let Some(inputs) = inputs {
        tree.insert("venv", Node::Link(inputs.venv.display().to_string()));
        tree.insert("agent", Node::Link(inputs.agent.display().to_string()));
    }
    tree
}

/// What of a rendered folder does not count for the image: where things are.
pub const NOT_CONTENT: [&str; 3] = ["mkosi.local.conf", "venv", "agent"];

/// What makes the image.
pub fn conf(image: &Image<'_>) -> Conf {
    let prefix = &image.release.python.prefix;
    let mut trees = vec!["profile.extra".to_owned()];
    if image
        .folder
        .files
        .paths()
        .any(|path| path.starts_with("extra/"))
    {
        trees.push("release.extra".to_owned());
    }
    // What changes most often comes last.
    trees.push(format!("venv:{}", literal(prefix)));
    trees.push("agent:/usr/bin/sf-firstboot".to_owned());
    let packages = image.profile.packages.iter().chain(&image.release.packages);
    let mut packages: Vec<String> = packages.cloned().collect();
    packages.sort();
    packages.dedup();
    Conf::default()
        .set(Setting::ImageId, image.id())
        .set(Setting::ImageVersion, image.version.as_str())
        .set(Setting::Output, "%i_%v")
        .set(Setting::Seed, seed(&image.id()))
        .list(Setting::Packages, packages)
        .list(
            Setting::RemoveFiles,
            image.profile.remove_files.iter().cloned(),
        )
        .list(Setting::ExtraTrees, trees)
        .list(
            Setting::KernelCommandLine,
            image
                .profile
                .kernel_command_line
                .iter()
                .map(|word| literal(word)),
        )
        .set(Setting::SourceDateEpoch, EPOCH.to_string())
}

fn local_conf(host: Host<'_>) -> String {
    let path = |path: &Path| literal(&path.display().to_string());
    Conf::default()
        .set(Setting::OutputDirectory, path(host.output))
        .set(Setting::ToolsTree, path(host.tools))
        .set(Setting::SandboxTrees, path(host.sandbox))
        .set(Setting::CacheDirectory, path(host.base))
        .set(Setting::PackageCacheDirectory, path(host.packages))
        .set(Setting::WorkspaceDirectory, path(host.workspace))
        .text("Where this machine keeps what mkosi works with. The image does not depend on it.")
}

/// A UUID that belongs to the image's name: partitions keep their identifiers
/// from version to version as far as their content allows.
fn seed(image_id: &str) -> String {
    let hex = digest::of_bytes(format!("sf-image seed {image_id}").as_bytes());
    // Version 8, "custom" (RFC 9562).
    format!(
        "{}-{}-8{}-8{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

/// `profile.extra/`.
fn profile_tree(image: &Image<'_>) -> Tree {
    let mut tree = Tree::default();
    for (path, file) in &image.profile.files {
        let node = Node::File {
            mode: file.mode,
            content: file.content.clone(),
        };
        tree.insert(path.trim_start_matches('/'), node);
    }
    if !image.profile.sysctl.is_empty() {
        let lines = image
            .profile
            .sysctl
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"));
        tree.insert(SYSCTL, Node::text(lines.collect::<String>()));
    }
    if !image.profile.kernel_modules.is_empty() {
        let lines = image
            .profile
            .kernel_modules
            .iter()
            .map(|module| format!("{module}\n"));
        tree.insert(MODULES, Node::text(lines.collect::<String>()));
    }
    for daemon in image.units() {
        units::insert(&mut tree, daemon);
    }
    if image.debug {
        debug::insert(&mut tree);
    }
    let manifest = describe(image).without_digests();
    let [manifest_path, release_path, ..] = own_paths();
    tree.insert(manifest_path, Node::text(manifest.to_canonical_json()));
    tree.insert(
        release_path,
        Node::text(image.folder.descriptor.text.clone()),
    );
    tree
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
