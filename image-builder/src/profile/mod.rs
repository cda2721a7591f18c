//! Profiles: what an image of one role consists of.
//!
//! Owns: the format of `profiles/*.toml` ([`Profile`], one file as read) and
//! what a chain of `extends` comes to ([`ResolvedProfile`]). Refuses: unknown
//! keys, roles and daemons, cycles, and two files that contradict each other;
//! every such mistake is a [`Problem`](sf_contract::problem::Problem) with its
//! place, all of them in one run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use sf_contract::document::Field;
use sf_contract::role::Role;

mod read;
mod resolve;
mod size;

pub use read::read;
pub use resolve::resolve;
pub use size::Size;

/// One file under `profiles/`, as read.
#[derive(Clone, Debug)]
pub struct Profile {
    /// File name without `.toml`.
    pub name: String,
    /// How problems name the file: its path below the checkout.
    pub source: String,
    /// One line for `sf-image list`.
    pub summary: String,
    /// The profile that this one adds to.
    pub extends: Option<Field<String>>,
    /// What the nodes are for. A profile that has none, and inherits none, is
    /// there to be extended and cannot be built.
    pub role: Option<Field<Role>>,
    /// Debian packages on top of `mkosi.conf.d/` and of the release's own.
    pub packages: Vec<Field<String>>,
    /// Kernel modules that are loaded at every start.
    pub kernel_modules: Vec<Field<String>>,
    /// Kernel command line, on top of `mkosi.conf.d/`.
    pub kernel_command_line: Vec<Field<String>>,
    /// Kernel parameters; a child's value replaces its parent's.
    pub sysctl: Vec<(Field<String>, Field<String>)>,
    /// Daemon names, which the release turns into units.
    pub daemons: Vec<Field<String>>,
    /// Files of the image.
    pub files: Vec<FileSpec>,
    /// Absolute paths, with `*` and `?`, of files of packages that the image
    /// does not keep.
    pub remove_files: Vec<Field<String>>,
    /// Absolute paths that may carry a set-uid or set-gid bit.
    pub set_uid: Vec<Field<String>>,
    /// Upper limits; a child's value replaces its parent's.
    pub size_budgets: BTreeMap<Budget, Size>,
    /// What is published; a child's list replaces its parent's.
    pub outputs: Option<BTreeSet<Output>>,
}

/// A file of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Absolute path in the image, below /etc or /usr.
    pub path: Field<String>,
    /// Permission bits.
    pub mode: u32,
    /// The text, or where it is.
    pub content: Content,
}

/// Where a file's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// From the profile itself.
    Inline(String),
    /// From a file; the path is relative to the folder of the profiles.
    Source(Field<String>),
}

/// What a size budget is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Blocks of the disk image that hold data: what a sparse copy takes.
    Raw,
    /// The file system of /usr, compressed, without the free space of its slot.
    Usr,
    /// The unified kernel image.
    Uki,
    /// The initrd, without the kernel modules that mkosi appends to it.
    Initrd,
}

impl Budget {
    /// All of them, in the order of the manual.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Usr, Self::Uki, Self::Initrd];

    /// The key in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Usr => "usr",
            Self::Uki => "uki",
            Self::Initrd => "initrd",
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind of file that a build publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// The whole disk.
    Raw,
    /// The unified kernel image.
    Uki,
    /// /usr and its hash tree, for updates.
    Partitions,
}

impl Output {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Uki, Self::Partitions];

    /// The name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Uki => "uki",
            Self::Partitions => "partitions",
        }
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|output| output.name() == text)
            .ok_or_else(|| {
                format!("\"{text}\" is not an output; outputs are raw, uki and partitions")
            })
    }
}

/// What a chain of profiles comes to. Equal profiles serialize to equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolvedProfile {
    /// Name of the profile asked for.
    pub name: String,
    /// Its one line.
    pub summary: String,
    /// From the root of the chain to the profile itself.
    pub chain: Vec<String>,
    /// What the nodes are for.
    pub role: Role,
    /// Debian packages, sorted.
    pub packages: BTreeSet<String>,
    /// Kernel modules, sorted.
    pub kernel_modules: BTreeSet<String>,
    /// Kernel command line, in the order of the chain.
    pub kernel_command_line: Vec<String>,
    /// Kernel parameters.
    pub sysctl: BTreeMap<String, String>,
    /// Daemon names, in the order of the chain.
    pub daemons: Vec<String>,
    /// Absolute path in the image to content.
    pub files: BTreeMap<String, ResolvedFile>,
    /// Absolute paths, with `*` and `?`, of files that the image does not keep.
    pub remove_files: BTreeSet<String>,
    /// Absolute paths that may carry a set-uid or set-gid bit.
    pub set_uid: BTreeSet<String>,
    /// Upper limits, in bytes.
    pub size_budgets: BTreeMap<Budget, u64>,
    /// What is published.
    pub outputs: BTreeSet<Output>,
}

/// A file of the image, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolvedFile {
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub content: Vec<u8>,
}

impl ResolvedProfile {
    /// Is this a product, which deploys Shaken Fist and nothing else? The
    /// example that has everything on one machine is none.
    pub fn is_product(&self) -> bool {
        self.role != Role::SingleNode
    }

    /// SHA-256 over everything that this profile says, lower-case hex.
    pub fn digest(&self) -> String {
        // A struct of maps and strings always serializes.
        let json = serde_json::to_vec(self).unwrap_or_default();
        crate::digest::of_bytes(&json)
    }
}
