//! Whether this machine can build images.
//!
//! Owns: the checks before a build and what installing the missing packages
//! would do. Refuses: changing anything while checking, and stopping at the
//! first problem: all are reported in one run, each with its remedy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use sf_command::{Cmd, Missing, Tool, missing};

/// `CAP_SYS_ADMIN`, as a bit of `CapEff`: mounts and namespaces.
const CAP_SYS_ADMIN: u32 = 21;
/// `CAP_MKNOD`: device nodes of packages.
const CAP_MKNOD: u32 = 27;
/// `CAP_CHOWN`: files of other owners in the image.
const CAP_CHOWN: u32 = 0;

/// One thing that stands in the way, with its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, a sentence without a full stop.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// The machine does not do. Shows every problem with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this machine cannot build images{}", list(.0))]
pub struct Unfit(pub Vec<Problem>);

fn list(problems: &[Problem]) -> String {
    let each = |p: &Problem| format!("\n  - {}\n    {}", p.what, p.remedy);
    problems.iter().map(each).collect::<Vec<_>>().concat()
}

/// What was found out about the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `linux`.
    pub os: &'static str,
    /// `x86_64`.
    pub arch: &'static str,
    /// Effective user id.
    pub uid: u32,
    /// Effective capabilities, as in `/proc/self/status`.
    pub capabilities: u64,
    /// `None` when a namespace could be made, else why not.
    pub namespaces: Option<String>,
    /// Folders, and the bytes that are free where each is or will be.
    pub space: Vec<(PathBuf, u64)>,
}

/// Bytes that a folder needs free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The folder; it need not exist yet.
    pub folder: PathBuf,
    /// Bytes.
    pub need: u64,
    /// What for, `the build cache`.
    pub purpose: &'static str,
}

/// What a first build of one image puts into the cache: the tools tree (0.4
/// GiB), packages (0.5), wheels and environments (0.3), base trees (1.5), and
/// mkosi's work (2).
pub const CACHE_NEED: u64 = 5 << 30;

/// What one image and its parts need beside the destination while it is made:
/// the files are sparse, and written once as a whole and once split.
pub const OUTPUT_NEED: u64 = 3 << 30;

/// Programs that a build runs on the host itself; all others come from the
/// tools tree.
pub const BUILD_TOOLS: &[Tool] = &[
    Tool::AptGet,
    Tool::AptConfig,
    Tool::Cargo,
    Tool::DpkgDeb,
    Tool::Git,
    Tool::Python3,
    Tool::Unshare,
];

impl Facts {
    /// Reads them. `folders` are those whose free space matters.
    pub fn gather(folders: &[PathBuf]) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            uid,
            capabilities: effective_capabilities(&status),
            // Without root it cannot work, and that is said by itself.
            namespaces: if uid == 0 { try_namespaces() } else { None },
            space: folders
                .iter()
                .map(|folder| (folder.clone(), free_bytes(folder)))
                .collect(),
        }
    }

    /// What stands in the way of a build.
    pub fn problems(&self, needs: &[Space]) -> Vec<Problem> {
        let mut problems = Vec::new();
        if (self.os, self.arch) != ("linux", "x86_64") {
            problems.push(Problem::new(
                format!("this is {} on {}", self.os, self.arch),
                "images are built on Linux on x86_64",
            ));
        }
        if self.uid != 0 {
            problems.push(Problem::new(
                "root is needed: the image's files have many owners, and mkosi mounts file systems",
                "run the same command with sudo; nothing outside the cache and the output folder \
                 is written",
            ));
        } else {
            self.capability_problems(&mut problems);
        }
        for need in needs {
            let free = self.space.iter().find(|(folder, _)| *folder == need.folder);
            let Some((folder, free)) = free else { continue };
            if *free < need.need {
                problems.push(Problem::new(
                    format!(
                        "{} needs {} free in {}, but {} are",
                        need.purpose,
                        gib(need.need),
                        folder.display(),
                        gib(*free)
                    ),
                    crate::explain::FREE_SOME_SPACE,
                ));
            }
        }
        problems
    }

    fn capability_problems(&self, problems: &mut Vec<Problem>) {
        let lacks: Vec<&str> = [
            (CAP_SYS_ADMIN, "CAP_SYS_ADMIN (mounts, namespaces)"),
            (CAP_MKNOD, "CAP_MKNOD (device nodes)"),
            (CAP_CHOWN, "CAP_CHOWN (owners of files)"),
        ]
        .into_iter()
        .filter(|(bit, _)| self.capabilities & (1 << bit) == 0)
        .map(|(_, name)| name)
        .collect();
        if !lacks.is_empty() {
            problems.push(Problem::new(
                format!("this root lacks {}", lacks.join(", ")),
                "in a container, run it privileged (docker: --privileged; systemd-nspawn: \
                 --capability=all)",
            ));
        } else if let Some(why) = &self.namespaces {
            problems.push(Problem::new(
                format!("a mount and process namespace cannot be made: {why}"),
                "allow unshare(2) and mount(2) (seccomp, AppArmor or an LSM forbids them here)",
            ));
        }
    }
}

/// Checks the machine for a build.
pub fn check(needs: &[Space]) -> Result<(), Unfit> {
    let folders: Vec<_> = needs.iter().map(|need| need.folder.clone()).collect();
    let problems = Facts::gather(&folders).problems(needs);
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Unfit(problems))
    }
}

/// What would be installed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Packages in order, each with what needs it.
    pub packages: Vec<(&'static str, Vec<String>)>,
    /// What no package of the distribution does well enough.
    pub by_hand: Vec<Problem>,
}

impl Install {
    /// What this machine lacks of `tools`, and Debian's archive keys.
    pub fn needed(tools: &[Tool]) -> Self {
        let keys = Path::new(crate::apt::KEYRING).exists();
        Self::of(&missing(tools), keys)
    }

    fn of(missing: &[Missing], keys: bool) -> Self {
        let mut install = Self {
            packages: Vec::new(),
            by_hand: Vec::new(),
        };
        for Missing { tool, package } in missing {
            match tool {
                Tool::Cargo => install.by_hand.push(Problem::new(
                    "cargo is not on this machine, and Debian's is too old for this project",
                    "install Rust from https://rustup.rs; rust-toolchain.toml names the version",
                )),
                Tool::AptGet | Tool::AptConfig | Tool::DpkgDeb => {
                    install.by_hand.push(Problem::new(
                        format!("{} is not on this machine", tool.program()),
                        "build on Debian or Ubuntu: their apt fetches mkosi and every package",
                    ));
                }
                _ => install.add(package, format!("{} {}", tool.program(), tool.about())),
            }
        }
        if !keys {
            let why = "the keys that Debian's archive is signed with".to_owned();
            install.add("debian-archive-keyring", why);
        }
        install.by_hand.dedup();
        install
    }

    fn add(&mut self, package: &'static str, why: String) {
        match self.packages.iter_mut().find(|(name, _)| *name == package) {
            Some((_, reasons)) => reasons.push(why),
            None => self.packages.push((package, vec![why])),
        }
        self.packages.sort();
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.by_hand.is_empty()
    }

    /// The commands: the package lists are read anew because a fresh machine
    /// has none.
    pub fn cmds(&self) -> Vec<Cmd> {
        if self.packages.is_empty() {
            return Vec::new();
        }
        let apt = || {
            Cmd::new(Tool::AptGet)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("LC_ALL", "C")
                .args(["-q", "--yes", "-o", "DPkg::Lock::Timeout=60"])
        };
        let names = self.packages.iter().map(|(name, _)| *name);
        vec![
            apt().args(["-o", "APT::Update::Error-Mode=any", "update"]),
            apt()
                .args(["install", "--no-install-recommends"])
                .args(names),
        ]
    }

    /// Installs the packages. Show [`Install`] first: it says what and why.
    pub fn run(&self) -> Result<(), InstallError> {
        if !self.by_hand.is_empty() {
            return Err(InstallError::ByHand(Unfit(self.by_hand.clone())));
        }
        for cmd in self.cmds() {
            crate::apt::fetch(&cmd, "install what this machine lacks")?;
        }
        Ok(())
    }
}

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this machine lacks what a build needs; apt will install:"
        )?;
        for (package, reasons) in &self.packages {
            write!(f, "\n  {package}: {}", reasons.join("; "))?;
        }
        Ok(())
    }
}

/// What can go wrong while installing.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Something that apt does not bring.
    #[error(transparent)]
    ByHand(Unfit),
    /// apt failed.
    #[error(transparent)]
    Apt(#[from] crate::apt::AptError),
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// Makes the namespaces that a build is contained in, and a mount in them.
fn try_namespaces() -> Option<String> {
    let cmd = Cmd::new(Tool::Unshare)
        .args(["--fork", "--pid", "--mount-proc", "--kill-child=KILL", "--"])
        .args(["mount", "-t", "tmpfs", "tmpfs", "/tmp"])
        .timeout(Duration::from_secs(10));
    match cmd.run() {
        // A missing `unshare` is reported among the packages.
        Ok(_) | Err(sf_command::Failure::NotFound { .. }) => None,
        Err(failure) if failure.stderr().is_empty() => Some(failure.to_string()),
        Err(failure) => Some(failure.stderr().to_owned()),
    }
}

/// Bytes free for root where `folder` is, or will be made.
fn free_bytes(folder: &Path) -> u64 {
    let there = folder
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    rustix::fs::statvfs(there).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// `1.5 GiB`.
pub fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 30;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            os: "linux",
            arch: "x86_64",
            uid: 0,
            capabilities: u64::MAX,
            namespaces: None,
            space: vec![("/c".into(), 6 << 30), ("/o".into(), 6 << 30)],
        }
    }

    fn needs() -> Vec<Space> {
        let space = |folder: &str, need, purpose| Space {
            folder: folder.into(),
            need,
            purpose,
        };
        vec![
            space("/c", CACHE_NEED, "the build cache"),
            space("/o", OUTPUT_NEED, "the output"),
        ]
    }

    #[test]
    fn a_good_machine_has_no_problem() {
        assert_eq!(good().problems(&needs()), []);
    }

    #[test]
    fn all_problems_are_reported_at_once_with_remedies() {
        let bad = Facts {
            arch: "aarch64",
            uid: 1000,
            space: vec![("/c".into(), 3 << 29), ("/o".into(), 0)],
            ..good()
        };
        let shown = Unfit(bad.problems(&needs())).to_string();
        for want in [
            "aarch64",
            "root is needed",
            "with sudo",
            "the build cache needs 5.0 GiB free in /c, but 1.5 GiB are",
            "the output needs 3.0 GiB free in /o, but 0.0 GiB are",
            "SF_CACHE_DIR",
        ] {
            assert!(shown.contains(want), "{want}: {shown}");
        }
    }

    #[test]
    fn names_the_capability_and_the_namespace_that_are_lacking() {
        let container = Facts {
            capabilities: !(1 << CAP_SYS_ADMIN),
            ..good()
        };
        let problems = container.problems(&[]);
        assert!(
            problems[0].what.contains("lacks CAP_SYS_ADMIN (mounts"),
            "{problems:?}"
        );
        let why = Some("unshare: Operation not permitted".to_owned());
        let problems = Facts {
            namespaces: why,
            ..good()
        }
        .problems(&[]);
        assert!(
            problems[0].what.contains("Operation not permitted"),
            "{problems:?}"
        );
    }

    #[test]
    fn reads_capabilities_of_the_kernels_text() {
        assert_eq!(
            effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            0x1ff_ffff_ffff
        );
        assert_eq!(effective_capabilities(""), 0);
    }

    #[test]
    fn says_what_would_be_installed_and_why() {
        let miss = |tool: Tool| Missing {
            tool,
            package: tool.package(),
        };
        let install = Install::of(
            &[miss(Tool::Unshare), miss(Tool::Python3), miss(Tool::Blkid)],
            false,
        );
        insta::assert_snapshot!(install, @"
        this machine lacks what a build needs; apt will install:
          debian-archive-keyring: the keys that Debian's archive is signed with
          python3: python3 runs mkosi
          util-linux: unshare contains mkosi's processes and mounts; blkid finds config drives by label
        ");
        let cmds: Vec<_> = install.cmds().iter().map(ToString::to_string).collect();
        assert_eq!(cmds.len(), 2);
        let end = "install --no-install-recommends debian-archive-keyring python3 util-linux";
        assert!(cmds[1].ends_with(end), "{cmds:?}");
        assert!(Install::of(&[], true).cmds().is_empty());
    }

    #[test]
    fn what_apt_cannot_bring_is_said_and_not_tried() {
        let miss = |tool: Tool| Missing {
            tool,
            package: tool.package(),
        };
        let install = Install::of(&[miss(Tool::Cargo), miss(Tool::AptGet)], true);
        assert!(!install.is_empty() && install.packages.is_empty());
        let error = install.run().expect_err("by hand").to_string();
        assert!(
            error.contains("rustup") && error.contains("apt-get is not"),
            "{error}"
        );
    }

    #[test]
    fn finds_the_free_space_of_folders_that_are_not_there_yet() {
        let dir = tempfile::tempdir().expect("tempdir");
        let facts = Facts::gather(&[dir.path().join("a/b/c")]);
        assert!(facts.space[0].1 > 0);
    }
}
