//! What must not be in an image.
//!
//! Owns: the rules, as a pure function over the files of an image. Refuses: an
//! exception that is not data (a profile's `set_uid`) or a fact about the file
//! itself (a placeholder for a password). A finding fails the build, and names
//! the file and the package that it belongs to.
//!
//! The gate reads what is really in the image: the files of its /usr partition,
//! in which /etc and /var stand under `usr/share/factory`.

use std::collections::BTreeSet;
use std::fmt;

use libraries::Libraries;
use owners::Owners;

pub mod budgets;
pub mod cpio;
pub mod extract;
mod libraries;
pub mod owners;
pub mod packages;
mod secrets;

/// One file, folder or link of an image.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Path below the root, without a leading slash: `usr/bin/su`.
    pub path: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id bits included.
    pub mode: u32,
    /// Content of a file; empty for anything else.
    pub content: &'a [u8],
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// What an image may have.
#[derive(Clone, Debug)]
pub struct Policy {
    /// A product image: it carries no infrastructure.
    pub product: bool,
    /// Absolute paths that may have a set-id bit.
    pub set_uid: BTreeSet<String>,
}

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A key that identifies a host.
    HostKey,
    /// Somebody may log in with a key.
    LoginKey,
    /// Something that makes one machine that machine.
    Identity,
    /// Configuration or metadata of a node.
    NodeConfig,
    /// A private key.
    PrivateKey,
    /// A password in a URL or a setting.
    Password,
    /// A user with a password, or without needing one.
    Login,
    /// Package lists and archives.
    AptList,
    /// A log.
    Log,
    /// A set-id bit that nobody allowed.
    SetUid,
    /// A package that no product carries.
    Infrastructure,
    /// A shared library that a program of ours needs is not in the image.
    Library,
    /// Larger than its budget.
    Size,
}

impl Rule {
    /// The name in messages and in the manual.
    pub fn name(self) -> &'static str {
        match self {
            Self::HostKey => "host-key",
            Self::LoginKey => "login-key",
            Self::Identity => "identity",
            Self::NodeConfig => "node-config",
            Self::PrivateKey => "private-key",
            Self::Password => "password",
            Self::Login => "login",
            Self::AptList => "apt-list",
            Self::Log => "log",
            Self::SetUid => "set-uid",
            Self::Infrastructure => "infrastructure",
            Self::Library => "library",
            Self::Size => "size",
        }
    }
}

/// Something that must not be in an image. What it says never quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Absolute path in the image as a node sees it; a partition's file for sizes.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// What it belongs to: a package, the Python environment, this build.
    pub owner: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.rule.name(), self.path, self.what)?;
        if !self.owner.is_empty() {
            write!(f, " (from {})", self.owner)?;
        }
        Ok(())
    }
}

/// Judges the files of an image. Findings come in the order of their paths.
pub fn inspect<'a>(entries: impl IntoIterator<Item = Entry<'a>>, policy: &Policy) -> Vec<Finding> {
    let mut gate = Gate::default();
    for entry in entries {
        gate.look(&entry, policy);
    }
    gate.findings()
}

/// Judges the files of an initrd. Its programs run before anybody can log in,
/// so set-id bits mean nothing there, and it has no package database by which
/// to tell the distribution's programs from ours (there are none).
pub fn inspect_initrd(archive: &[u8]) -> Result<Vec<Finding>, cpio::NotCpio> {
    let entries = cpio::entries(archive)?;
    let policy = Policy {
        product: false,
        set_uid: BTreeSet::new(),
    };
    let findings = inspect(entries, &policy)
        .into_iter()
        .filter(|f| !matches!(f.rule, Rule::SetUid | Rule::Library));
    Ok(findings
        .map(|finding| Finding {
            path: format!("initrd:{}", finding.path),
            ..finding
        })
        .collect())
}

/// A gate under way: entries may come in any order and in parts.
#[derive(Debug, Default)]
pub struct Gate {
    found: Vec<(Rule, String, String)>,
    /// Programs and libraries with a private key in them.
    elf: BTreeSet<String>,
    owners: Owners,
    libraries: Libraries,
}

impl Gate {
    /// Looks at one entry.
    pub fn look(&mut self, entry: &Entry<'_>, policy: &Policy) {
        self.owners.learn(entry);
        let path = seen_by_node(entry.path);
        self.libraries.learn(entry, &path);
        let mut found = |rule, what: String| self.found.push((rule, path.clone(), what));
        if entry.mode & 0o6000 != 0 && entry.kind == Kind::File && !policy.set_uid.contains(&path) {
            let bit = if entry.mode & 0o4000 == 0 {
                "set-gid"
            } else {
                "set-uid"
            };
            found(
                Rule::SetUid,
                format!("is {bit} ({:o})", entry.mode & 0o7777),
            );
        }
        if entry.kind != Kind::File {
            return;
        }
        if let Some((rule, what)) = by_place(&path, entry.content) {
            found(rule, what.to_owned());
        }
        if path == "/etc/shadow" {
            for what in secrets::logins(entry.content) {
                found(Rule::Login, what);
            }
        }
        if entry.path.ends_with("lib/sysimage/dpkg/status") || path == "/var/lib/dpkg/status" {
            for package in owners::installed(entry.content)
                .iter()
                .filter(|_| policy.product)
            {
                if let Some(what) = packages::infrastructure(package) {
                    let what = format!("has {package}, {what}");
                    found(Rule::Infrastructure, what);
                }
            }
        }
        if let Some(what) = secrets::private_key(entry.content) {
            found(Rule::PrivateKey, what);
            if entry.content.starts_with(b"\x7fELF") {
                self.elf.insert(path.clone());
            }
        }
        for what in secrets::passwords(&path, entry.content) {
            found(Rule::Password, what);
        }
    }

    /// Takes over what another gate saw of the same image.
    pub fn merge(&mut self, other: Self) {
        self.found.extend(other.found);
        self.elf.extend(other.elf);
        self.owners.merge(other.owners);
        self.libraries.merge(other.libraries);
    }

    /// What was found, with owners.
    pub fn findings(self) -> Vec<Finding> {
        let Self {
            mut found,
            elf,
            owners,
            libraries,
        } = self;
        // A package's own dependencies are its own business: what it misses,
        // somebody took out on purpose.
        let ours = libraries
            .missing()
            .filter(|(path, _)| !owners.is_packaged(path));
        found.extend(ours.map(|(path, library)| {
            let what = format!("needs {library}, which is not in the image");
            (Rule::Library, path, what)
        }));
        // A library of the distribution that tests itself at start (gnutls) has
        // keys in it that the whole world has.
        let is_self_test = |path: &String| elf.contains(path) && owners.is_packaged(path);
        found.retain(|(rule, path, _)| *rule != Rule::PrivateKey || !is_self_test(path));
        found.sort_by(|a, b| (&a.1, a.0, &a.2).cmp(&(&b.1, b.0, &b.2)));
        found.dedup();
        found
            .into_iter()
            .map(|(rule, path, what)| {
                let owner = if rule == Rule::Infrastructure {
                    String::new()
                } else {
                    owners.of(&path)
                };
                Finding {
                    rule,
                    path,
                    what,
                    owner,
                }
            })
            .collect()
    }
}

/// The path under which a node sees a file of the image.
fn seen_by_node(path: &str) -> String {
    let path = path.trim_start_matches('/');
    format!(
        "/{}",
        path.strip_prefix("usr/share/factory/").unwrap_or(path)
    )
}

/// What a file is by where it stands.
fn by_place(path: &str, content: &[u8]) -> Option<(Rule, &'static str)> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let below = |folder: &str| path.starts_with(folder);
    if path.starts_with("/etc/ssh/ssh_host_") {
        return Some((
            Rule::HostKey,
            "is a host's SSH key: every node would have the same",
        ));
    }
    if [
        "authorized_keys",
        "authorized_keys2",
        "id_rsa",
        "id_ed25519",
        "id_ecdsa",
    ]
    .contains(&name)
    {
        return Some((Rule::LoginKey, "lets somebody log in, on every node alike"));
    }
    if ["/etc/machine-id", "/var/lib/dbus/machine-id"].contains(&path) {
        // "uninitialized" and an empty file are systemd's ways of saying "none yet".
        let id = content.trim_ascii();
        let none = id.is_empty() || id == b"uninitialized";
        return (!none).then_some((
            Rule::Identity,
            "identifies a machine: every node would be the same one",
        ));
    }
    if name == "node_uuid" {
        return Some((
            Rule::Identity,
            "identifies a node of Shaken Fist: every node would be the same one",
        ));
    }
    if ["random-seed", "credential.secret"].contains(&name) && below("/var/lib/systemd/") {
        return Some((
            Rule::Identity,
            "is a machine's own secret: every node would have the same",
        ));
    }
    if path == "/etc/sf/config"
        || path.starts_with("/etc/sf/metadata")
        || below("/var/lib/sf-firstboot/")
    {
        return Some((Rule::NodeConfig, "is a node's own configuration or state"));
    }
    if below("/etc/pki/")
        && [".key", ".pem", ".crt"]
            .iter()
            .any(|end| name.ends_with(end))
    {
        return Some((Rule::NodeConfig, "is a node's own certificate or key"));
    }
    if below("/var/lib/apt/lists/") || below("/var/cache/apt/") {
        return Some((
            Rule::AptList,
            "is of the package manager, which no node runs",
        ));
    }
    if below("/var/log/") || name.ends_with(".journal") || below("/var/backups/") {
        return Some((Rule::Log, "is left over from the build"));
    }
    None
}

#[cfg(test)]
mod tests;
