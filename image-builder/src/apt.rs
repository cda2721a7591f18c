//! The host's apt: which mirrors it uses, and a private state to fetch from
//! another suite without touching the host's own.
//!
//! Owns: reading `apt-get indextargets`, rendering deb822 sources, the private
//! configuration. Refuses: a mirror's name in the source code (it comes from the
//! host or from `--mirror`), and unsigned repositories.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use sf_command::{Cmd, Failure, Tool};

use crate::explain::{self, Explanation};

/// Debian's archive keys, as the host's package `debian-archive-keyring` has
/// them.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What can go wrong with the host's apt.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// The host's configuration could not be read.
    #[error("could not ask apt for the host's mirrors")]
    Ask(#[source] Failure),
    /// The host has no Debian archive among its sources.
    #[error(
        "the host's apt sources name no Debian archive, so there is no mirror to build from; \
         give one with --mirror URL"
    )]
    NoMirror,
    /// The archive keys are not there.
    #[error("{} is missing: install the package debian-archive-keyring", path.display())]
    NoKeyring {
        /// Where they were looked for.
        path: PathBuf,
    },
    /// The private state could not be written.
    #[error("could not write apt's private state")]
    State(#[source] io::Error),
    /// apt failed while it did something.
    #[error("could not {doing}{}", explained(explanation.as_deref()))]
    Fetch {
        /// What was being done.
        doing: String,
        /// The line that explains, when there is one.
        explanation: Option<Box<Explanation>>,
        /// The command that failed.
        source: Box<Failure>,
    },
}

fn explained(explanation: Option<&Explanation>) -> String {
    explanation.map(|e| format!(": {e}")).unwrap_or_default()
}

impl AptError {
    /// What to do, when that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Fetch {
                explanation: Some(explanation),
                ..
            } => explanation.hint,
            _ => None,
        }
    }
}

/// Where Debian packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// The main archive, `https://…/debian`.
    pub main: String,
    /// The security archive, when the host uses one.
    pub security: Option<String>,
}

impl Mirrors {
    /// The host's own mirrors, or `mirror` for the main archive when the
    /// operator names one.
    pub fn of_host(mirror: Option<&str>) -> Result<Self, AptError> {
        let host = index_targets()
            .run()
            .map_err(AptError::Ask)
            .map(|out| Self::parse(&out.text()));
        match (mirror, host) {
            (Some(main), host) => {
                let security = host.ok().flatten().and_then(|host| host.security);
                Ok(Self {
                    main: main.trim_end_matches('/').to_owned(),
                    security,
                })
            }
            (None, host) => host?.ok_or(AptError::NoMirror),
        }
    }

    /// The mirrors in the answer to [`index_targets`]; `None` when no line names
    /// Debian's main archive.
    pub fn parse(text: &str) -> Option<Self> {
        let find = |label: &str| {
            text.lines().find_map(|line| {
                let mut fields = line.split('|');
                let (name, uri, component) = (fields.next()?, fields.next()?, fields.next()?);
                // file: and copy: archives are the host's own and not visible
                // in mkosi's sandbox.
                let remote = uri.starts_with("http://") || uri.starts_with("https://");
                (name == label && component == "main" && remote)
                    .then(|| uri.trim_end_matches('/').to_owned())
            })
        };
        Some(Self {
            main: find("Debian")?,
            security: find("Debian-Security"),
        })
    }

    /// A deb822 file for `suite`: its archive, updates and security.
    pub fn sources(&self, suite: &str) -> String {
        let mut text = stanza(&self.main, &format!("{suite} {suite}-updates"));
        if let Some(security) = &self.security {
            let _ = write!(text, "\n{}", stanza(security, &format!("{suite}-security")));
        }
        text
    }
}

fn stanza(uri: &str, suites: &str) -> String {
    format!("Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n")
}

/// Asks apt for every package index the host uses.
pub fn index_targets() -> Cmd {
    Cmd::new(Tool::AptGet)
        .args([
            "indextargets",
            "--format",
            "$(LABEL)|$(REPO_URI)|$(COMPONENT)",
            "Created-By: Packages",
        ])
        .env("LC_ALL", "C")
}

/// An apt that has its own configuration, lists and cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    /// Prepares one in `folder` for `suite`. The host's proxy and certificate
    /// settings apply to it as well.
    pub fn prepare(folder: &Path, mirrors: &Mirrors, suite: &str) -> Result<Self, AptError> {
        if !Path::new(KEYRING).exists() {
            return Err(AptError::NoKeyring {
                path: KEYRING.into(),
            });
        }
        let dump = Cmd::new(Tool::AptConfig)
            .arg("dump")
            .run()
            .map_err(AptError::Ask)?;
        let write = || {
            for sub in [
                "etc/apt.conf.d",
                "etc/preferences.d",
                "etc/sources.list.d",
                "etc/trusted.gpg.d",
                "state/lists/partial",
                "cache/archives/partial",
            ] {
                fs::create_dir_all(folder.join(sub))?;
            }
            fs::write(folder.join("state/status"), "")?;
            fs::write(
                folder.join("etc/sources.list.d/suite.sources"),
                mirrors.sources(suite),
            )?;
            fs::write(
                folder.join("apt.conf"),
                private_config(folder, &dump.text()),
            )
        };
        write().map_err(AptError::State)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn apt_get(&self) -> Cmd {
        Cmd::new(Tool::AptGet)
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C")
            .arg("-q")
    }

    /// Fetches the suite's package lists. Any index that cannot be had is an
    /// error, where apt itself would only warn.
    pub fn update(&self) -> Result<(), AptError> {
        let cmd = self
            .apt_get()
            .args(["-o", "APT::Update::Error-Mode=any", "update"]);
        fetch(&cmd, "read Debian's package lists")
    }

    /// Downloads a package into `into`.
    pub fn download(&self, package: &str, into: &Path) -> Result<(), AptError> {
        let cmd = self.apt_get().args(["download", package]).cwd(into);
        fetch(&cmd, &format!("download the Debian package {package}"))
    }
}

/// Runs an apt command; its failure is explained from all that it wrote.
pub fn fetch(cmd: &Cmd, doing: &str) -> Result<(), AptError> {
    let mut log = String::new();
    let result = cmd.run_streaming(|line| {
        log.push_str(line);
        log.push('\n');
    });
    result.map(drop).map_err(|source| AptError::Fetch {
        doing: doing.to_owned(),
        explanation: explain::explain(&log).map(Box::new),
        source: Box::new(source),
    })
}

fn private_config(folder: &Path, host_dump: &str) -> String {
    let folder = folder.display();
    let mut text = format!(
        "Dir::Etc \"{folder}/etc\";\nDir::State \"{folder}/state\";\n\
         Dir::State::status \"{folder}/state/status\";\nDir::Cache \"{folder}/cache\";\n\
         APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
         APT::Get::AllowUnauthenticated \"false\";\n"
    );
    // How the host reaches its mirrors; its hooks and pins stay out.
    for line in host_dump.lines() {
        let lower = line.to_ascii_lowercase();
        if ["acquire::http::", "acquire::https::"]
            .iter()
            .any(|prefix| lower.starts_with(prefix))
        {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "Google|https://packages.example/apt/|main\n\
        Debian|file:/srv/local/|main\n\
        Debian|http://mirror.example/debian/|contrib\n\
        Debian|http://mirror.example/debian/|main\n\
        Debian-Security|http://mirror.example/debian-security/|main\n";

    #[test]
    fn finds_the_hosts_mirrors() {
        let mirrors = Mirrors::parse(TARGETS).expect("mirrors");
        assert_eq!(mirrors.main, "http://mirror.example/debian");
        assert_eq!(
            mirrors.security.as_deref(),
            Some("http://mirror.example/debian-security")
        );
        assert_eq!(
            Mirrors::parse("Ubuntu|http://u.example/ubuntu/|main\n"),
            None
        );
    }

    #[test]
    fn renders_signed_sources() {
        let mirrors = Mirrors::parse(TARGETS).expect("mirrors");
        insta::assert_snapshot!(mirrors.sources("trixie"), @"
        Types: deb
        URIs: http://mirror.example/debian
        Suites: trixie trixie-updates
        Components: main
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

        Types: deb
        URIs: http://mirror.example/debian-security
        Suites: trixie-security
        Components: main
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
        ");
    }

    #[test]
    fn takes_the_hosts_way_out_but_not_its_hooks() {
        let dump = "Acquire::http::Proxy \"http://proxy.example:3128\";\n\
            DPkg::Post-Invoke:: \"rm -f /x\";\nAPT::Update::Post-Invoke:: \"y\";\n";
        let config = private_config(Path::new("/c"), dump);
        assert!(config.contains("proxy.example"), "{config}");
        assert!(!config.contains("Invoke"), "{config}");
        assert!(config.starts_with("Dir::Etc \"/c/etc\";\n"), "{config}");
    }

    #[test]
    fn a_failure_shows_apts_own_line() {
        let script = "echo 'E: Unable to locate package nope'; exit 100";
        let cmd = Cmd::path("/bin/sh").args(["-c", script]);
        let error = fetch(&cmd, "download the Debian package nope").expect_err("fails");
        assert_eq!(
            error.to_string(),
            "could not download the Debian package nope: E: Unable to locate package nope"
        );
        assert!(error.hint().is_some());
    }
}
