//! The tools tree: the programs of the image's own suite that mkosi builds with,
//! so that the host's versions do not matter.
//!
//! Owns: its configuration, its key, and the sandbox tree (apt sources) that it
//! and the images share. Refuses: mkosi's own default tree, which is five times
//! as large and adds repositories that not every mirror has.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::apt::Mirrors;
use crate::cache::{Cache, CacheLock};
use crate::digest::Key;
use crate::mkosi::Mkosi;
use crate::mkosi_run::{MkosiRun, MkosiRunError};
use crate::progress::Phase;

/// What is in it. mkosi asks for the first part; the second makes the Python
/// environment, the third reads and checks what was built.
const PACKAGES: &[&str] = &[
    // mkosi and the package manager
    "acl",
    "apt",
    "attr",
    "bash",
    "ca-certificates",
    "coreutils",
    "cpio",
    "cryptsetup-bin",
    "debian-archive-keyring",
    "diffutils",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "fdisk",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "jq",
    "keyutils",
    "kmod",
    "less",
    "libarchive-tools",
    "libcryptsetup12",
    "libseccomp2",
    "libtss2-dev",
    "mtools",
    "openssl",
    "python3",
    "python3-cryptography",
    "python3-pefile",
    "sbsigntool",
    "sed",
    "systemd",
    "systemd-boot",
    "systemd-boot-efi",
    "systemd-boot-tools",
    "systemd-container",
    "systemd-repart",
    "systemd-ukify",
    "tar",
    "udev",
    "uidmap",
    "util-linux",
    "xz-utils",
    "zstd",
    // the Python environment
    "python3-pip",
    "python3-setuptools",
    "python3-venv",
    "python3-wheel",
    // what is made of the raw image
    "qemu-utils",
];

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// The cache could not be read or written.
    #[error("could not put the tools tree into the build cache")]
    Cache(#[from] io::Error),
    /// mkosi failed to build it.
    #[error("could not build the tools tree")]
    Build(#[from] MkosiRunError),
}

/// The tree and the sandbox tree, both ready to be named to mkosi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// `ToolsTree=`.
    pub tree: PathBuf,
    /// `SandboxTrees=`: where packages come from.
    pub sandbox: PathBuf,
    /// What it was built of; a part of the key of everything made with it.
    pub key: String,
    /// The installed packages as mkosi reports them (JSON), for the manifest.
    pub manifest: PathBuf,
    /// Whether it was there already.
    pub cached: bool,
}

/// What a tools tree is made of.
#[derive(Debug, Clone)]
pub struct ToolsSpec<'a> {
    /// Debian suite of the image, `trixie`.
    pub suite: &'a str,
    /// Where packages come from.
    pub mirrors: &'a Mirrors,
    /// Packages that a release needs while its Python code is installed.
    pub extra_packages: &'a [String],
}

impl ToolsSpec<'_> {
    /// The tree's configuration, but for the folders that mkosi is told on its
    /// command line.
    pub fn config(&self) -> String {
        let mut packages: Vec<&str> = PACKAGES.to_vec();
        packages.extend(self.extra_packages.iter().map(String::as_str));
        packages.sort_unstable();
        packages.dedup();
        format!(
            "# Programs that images are built with.\n\
             [Distribution]\nDistribution=debian\nRelease={}\n\n\
             [Output]\nFormat=directory\nOutput=tools\nManifestFormat=json\n\n\
             [Build]\nBuildSources=\nIncremental=no\n\n\
             [Content]\nBootable=no\nSELinuxRelabel=no\nWithRecommends=no\nWithDocs=no\n\
             Packages=\n        {}\n",
            self.suite,
            packages.join("\n        ")
        )
    }

    /// The key of the cache's entry.
    pub fn key(&self, mkosi: &Mkosi) -> String {
        Key::new("tools tree 1")
            .field("config", self.config())
            .field("mkosi", mkosi.version())
            .finish()
    }

    /// Makes the sandbox tree: mkosi writes its own apt sources unless a file of
    /// this exact name is there.
    pub fn sandbox_tree(&self, cache: &Cache, lock: &CacheLock) -> io::Result<PathBuf> {
        let sources = self.mirrors.sources(self.suite);
        let key = Key::new("sandbox tree 1")
            .field("sources", &sources)
            .finish();
        let made = lock.entry(&cache.sandbox(), &key, |partial| {
            let folder = partial.join("etc/apt/sources.list.d");
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("mkosi.sources"), &sources)
        });
        made.map(|(path, _)| path)
    }

    /// The tools tree, from the cache or built. mkosi's output goes to `log`.
    pub fn build(
        &self,
        cache: &Cache,
        lock: &CacheLock,
        mkosi: &Mkosi,
        log: &Path,
        phase: &Phase<'_>,
    ) -> Result<Tools, ToolsError> {
        let sandbox = self.sandbox_tree(cache, lock)?;
        let key = self.key(mkosi);
        let (entry, cached) = lock.entry::<ToolsError>(&cache.tools(), &key, |partial| {
            let config = partial.join("config");
            fs::create_dir_all(&config)?;
            fs::write(config.join("mkosi.conf"), self.config())?;
            let run = MkosiRun {
                mkosi,
                folder: config,
                output: partial.to_owned(),
                workspace: cache.work(),
                packages: cache.packages(),
                base: None,
                tools: None,
                sandbox: sandbox.clone(),
                extra: Vec::new(),
            };
            run.run(log, phase)?;
            Ok(())
        })?;
        Ok(Tools {
            tree: entry.join("tools"),
            manifest: entry.join("tools.manifest"),
            sandbox,
            key,
            cached,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec<'a>(mirrors: &'a Mirrors, extra: &'a [String]) -> ToolsSpec<'a> {
        ToolsSpec {
            suite: "trixie",
            mirrors,
            extra_packages: extra,
        }
    }

    #[test]
    fn the_key_follows_the_packages_and_mkosi_but_not_the_mirror() {
        let one = Mirrors {
            main: "http://a.example/debian".into(),
            security: None,
        };
        let two = Mirrors {
            main: "http://b.example/debian".into(),
            security: None,
        };
        let old = Mkosi::unpacked("25.3-7", Path::new("/m"));
        let new = Mkosi::unpacked("25.4-1", Path::new("/m"));
        let extra = ["python3-netifaces".to_owned()];
        let key = spec(&one, &[]).key(&old);
        assert_eq!(key, spec(&two, &[]).key(&old));
        assert_ne!(key, spec(&one, &[]).key(&new));
        assert_ne!(key, spec(&one, &extra).key(&old));
    }

    #[test]
    fn the_config_lists_each_package_once_in_order() {
        let mirrors = Mirrors {
            main: "http://a.example/debian".into(),
            security: None,
        };
        let config = spec(&mirrors, &["python3".to_owned()]).config();
        let packages: Vec<_> = config
            .lines()
            .filter(|l| l.starts_with("        "))
            .collect();
        assert!(packages.is_sorted());
        assert_eq!(packages.iter().filter(|p| p.trim() == "python3").count(), 1);
        assert!(!config.contains("example"), "{config}");
    }

    #[test]
    fn the_sandbox_tree_holds_the_sources_under_mkosis_name() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cache = Cache::at(dir.path());
        let lock = cache.lock(|_| ()).expect("lock");
        let mirrors = Mirrors {
            main: "http://a.example/debian".into(),
            security: None,
        };
        let tree = spec(&mirrors, &[])
            .sandbox_tree(&cache, &lock)
            .expect("tree");
        let sources = fs::read_to_string(tree.join("etc/apt/sources.list.d/mkosi.sources"));
        assert!(
            sources
                .expect("sources")
                .contains("URIs: http://a.example/debian\n")
        );
    }
}
