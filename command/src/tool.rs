//! The closed list of external programs, where they are looked for, and which
//! Debian package brings each.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where Debian puts programs. `sbin` counts: an operator's PATH often lacks it.
const SYSTEM_DIRS: [&str; 6] = [
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
];

/// How a tool is searched for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// The system's folders, then PATH: programs whose meaning must not change
    /// with a version manager's shims (python3, apt-get).
    System,
    /// PATH, then the system's folders: a developer's own tools.
    Path,
}

macro_rules! tools {
    ($($variant:ident, $program:literal, $package:literal, $search:ident, $about:literal;)+) => {
        /// An external program that this project may run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Tool {
            $(#[doc = $about] $variant,)+
        }

        impl Tool {
            /// Every tool, in the order of the enum.
            pub const ALL: &'static [Tool] = &[$(Tool::$variant,)+];

            /// The file name looked for.
            pub fn program(self) -> &'static str {
                match self { $(Tool::$variant => $program,)+ }
            }

            /// The Debian package that brings it.
            pub fn package(self) -> &'static str {
                match self { $(Tool::$variant => $package,)+ }
            }

            /// What the project uses it for, a phrase without a full stop.
            pub fn about(self) -> &'static str {
                match self { $(Tool::$variant => $about,)+ }
            }

            fn search(self) -> Search {
                match self { $(Tool::$variant => Search::$search,)+ }
            }
        }
    };
}

tools! {
    AptCache, "apt-cache", "apt", System, "asks which packages a suite has";
    AptConfig, "apt-config", "apt", System, "reads the host's apt settings";
    AptGet, "apt-get", "apt", System, "installs host packages and fetches mkosi";
    Arping, "arping", "arping", System, "looks for an address that is in use";
    Blkid, "blkid", "util-linux", System, "finds config drives by label";
    Cargo, "cargo", "cargo", Path, "compiles the agent";
    Cp, "cp", "coreutils", System, "copies sparse files by extent";
    Debugfs, "debugfs", "e2fsprogs", System, "reads ext4 images without mounting";
    Dpkg, "dpkg", "dpkg", System, "compares package versions";
    DpkgDeb, "dpkg-deb", "dpkg", System, "unpacks packages";
    DpkgQuery, "dpkg-query", "dpkg", System, "asks which packages are installed";
    DumpErofs, "dump.erofs", "erofs-utils", System, "lists what /usr holds";
    E2fsck, "e2fsck", "e2fsprogs", System, "checks ext4 images";
    Etcd, "etcd", "etcd-server", System, "is the store of Shaken Fist 0.7 in boot tests";
    Etcdctl, "etcdctl", "etcd-client", System, "reads etcd in boot tests";
    FsckErofs, "fsck.erofs", "erofs-utils", System, "extracts /usr from an image";
    Git, "git", "git", Path, "names the source commit";
    Ip, "ip", "iproute2", System, "reads addresses and routes";
    Journalctl, "journalctl", "systemd", System, "reads and writes the journal";
    Losetup, "losetup", "util-linux", System, "finds loop devices left over";
    MariadbInstallDb, "mariadb-install-db", "mariadb-server", System, "makes a database folder for tests";
    Mariadb, "mariadb", "mariadb-client", System, "is the SQL client of tests";
    Mariadbd, "mariadbd", "mariadb-server", System, "is the database of tests";
    Mcopy, "mcopy", "mtools", System, "writes into FAT images";
    Mdir, "mdir", "mtools", System, "lists FAT images";
    Mformat, "mformat", "mtools", System, "formats FAT images";
    MkfsExt4, "mkfs.ext4", "e2fsprogs", System, "formats data disks of boot tests";
    MkfsFat, "mkfs.fat", "dosfstools", System, "formats FAT images";
    Mkosi, "mkosi", "mkosi", System, "builds the image, where the host's is new enough";
    Modprobe, "modprobe", "kmod", System, "loads kernel modules";
    Mount, "mount", "mount", System, "mounts config drives";
    Openssl, "openssl", "openssl", System, "reads certificates in tests";
    Objdump, "objdump", "binutils", System, "reads sections of a UKI";
    Python3, "python3", "python3", System, "runs mkosi";
    QemuImg, "qemu-img", "qemu-utils", System, "makes overlay disks";
    QemuSystemX86, "qemu-system-x86_64", "qemu-system-x86", System, "boots images";
    Sfdisk, "sfdisk", "fdisk", System, "reads partition tables";
    Swtpm, "swtpm", "swtpm", System, "is the TPM of a test VM";
    Sysctl, "sysctl", "procps", System, "sets kernel parameters";
    Systemctl, "systemctl", "systemd", System, "starts and asks units";
    SystemdAnalyze, "systemd-analyze", "systemd", System, "verifies units";
    SystemdCat, "systemd-cat", "systemd", System, "writes to the journal";
    SystemdCreds, "systemd-creds", "systemd", System, "reads credentials";
    SystemdDissect, "systemd-dissect", "systemd-container", System, "describes a disk image";
    SystemdSysusers, "systemd-sysusers", "systemd", System, "creates users";
    SystemdTmpfiles, "systemd-tmpfiles", "systemd", System, "creates files and folders";
    Truncate, "truncate", "coreutils", System, "makes sparse files";
    Ukify, "ukify", "systemd-ukify", System, "reads a UKI";
    Umount, "umount", "mount", System, "unmounts what a killed build left";
    Unshare, "unshare", "util-linux", System, "contains mkosi's processes and mounts";
    Udevadm, "udevadm", "udev", System, "waits for devices";
    Veritysetup, "veritysetup", "cryptsetup-bin", System, "verifies /usr";
    Zstd, "zstd", "zstd", System, "compresses artefacts";
    Xorriso, "xorriso", "xorriso", System, "makes ISO 9660 config drives in tests";
}

/// A tool that is not on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The tool that was looked for.
    pub tool: Tool,
    /// The Debian package that brings it.
    pub package: &'static str,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tool, package } = self;
        write!(
            f,
            "{} ({}): package {package}",
            tool.program(),
            tool.about()
        )
    }
}

impl Tool {
    /// The absolute path of the program on this machine.
    pub fn resolve(self) -> Result<PathBuf, Missing> {
        self.resolve_in(&self.folders()).ok_or(Missing {
            tool: self,
            package: self.package(),
        })
    }

    /// The first executable file of that name in `folders`.
    pub fn resolve_in(self, folders: &[PathBuf]) -> Option<PathBuf> {
        folders
            .iter()
            .map(|dir| dir.join(self.program()))
            .find(|path| is_executable(path))
    }

    /// The folders searched, in order.
    fn folders(self) -> Vec<PathBuf> {
        let system = SYSTEM_DIRS.iter().map(PathBuf::from);
        let path: Vec<PathBuf> = env::var_os("PATH")
            .map(|p| env::split_paths(&p).filter(|d| d.is_absolute()).collect())
            .unwrap_or_default();
        match self.search() {
            Search::System => system.chain(path).collect(),
            // rustup's folder is on the PATH of login shells only, and make and
            // CI often run without one.
            Search::Path => path
                .into_iter()
                .chain(cargo_home_bin())
                .chain(system)
                .collect(),
        }
    }
}

fn cargo_home_bin() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .map(|dir| dir.join("bin"))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// All of `tools` that this machine lacks, each once, so that they can be
/// reported and installed together.
pub fn missing(tools: &[Tool]) -> Vec<Missing> {
    let mut sorted = tools.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
        .into_iter()
        .filter_map(|tool| tool.resolve().err())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn finds_what_every_machine_has() {
        assert!(Tool::Cp.resolve().expect("cp").is_absolute());
        assert!(missing(&[Tool::Cp, Tool::Truncate]).is_empty());
    }

    #[test]
    fn reports_each_missing_tool_once_with_its_package() {
        let absent: Vec<_> = Tool::ALL
            .iter()
            .copied()
            .filter(|t| t.resolve().is_err())
            .collect();
        let twice: Vec<_> = absent
            .iter()
            .chain(&absent)
            .chain(&[Tool::Cp])
            .copied()
            .collect();
        let found: Vec<_> = missing(&twice).iter().map(|m| m.tool).collect();
        assert_eq!(found, absent);
        let missing = Missing {
            tool: Tool::Mcopy,
            package: "mtools",
        };
        assert_eq!(
            missing.to_string(),
            "mcopy (writes into FAT images): package mtools"
        );
    }

    #[test]
    fn takes_only_executable_files_and_the_first_folder() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (a, b, c) = (
            dir.path().join("a"),
            dir.path().join("b"),
            dir.path().join("c"),
        );
        for d in [&a, &b, &c] {
            fs::create_dir(d).expect("mkdir");
        }
        fs::write(a.join("git"), "").expect("write");
        fs::create_dir(b.join("git")).expect("mkdir");
        fs::write(c.join("git"), "").expect("write");
        fs::set_permissions(c.join("git"), fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_eq!(
            Tool::Git.resolve_in(&[a, b, c.clone()]),
            Some(c.join("git"))
        );
    }

    #[test]
    fn no_two_tools_have_the_same_program() {
        let mut names: Vec<_> = Tool::ALL.iter().map(|t| t.program()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Tool::ALL.len());
    }
}
