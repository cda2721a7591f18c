//! Finds the line of a tool's log that explains why it failed.
//!
//! Owns: the table of what apt, dpkg, pip, systemd-repart, mkfs and mkosi write
//! when something goes wrong, in the order in which one hides another. Refuses:
//! to answer with mkosi's last line ("returned non-zero exit code"), which only
//! says that something did.

use std::fmt;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A name does not resolve, or nothing answers.
    Network,
    /// A package or version does not exist.
    NoSuchPackage,
    /// Downloaded bytes are not those that were pinned or signed.
    Untrusted,
    /// No space left on a disk.
    DiskFull,
    /// The operating system said no.
    Permission,
    /// Another program holds a lock.
    Locked,
    /// The process was killed: out of memory, or by hand.
    Killed,
    /// Content is larger than its partition.
    TooBig,
    /// A package's own scripts failed.
    PackageScript,
    /// mkosi's configuration is wrong.
    Configuration,
    /// Nothing in the table: the last line that was no echo of the failure.
    Unknown,
}

/// The line that explains, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What kind of thing it is.
    pub cause: Cause,
    /// The line, as written, without markers at its start.
    pub line: String,
    /// What to do, when that can be said.
    pub hint: Option<&'static str>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// How much of a log's end is read for causes whose texts also appear in builds
/// that go well, in lines.
const END: usize = 12;

/// Which lines can tell a cause.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Any: nothing goes well after it.
    Anywhere,
    /// The last [`END`] lines: packages' own scripts write such things too.
    AtTheEnd,
}
use Where::{Anywhere, AtTheEnd};

/// What to do when a disk is full.
pub(crate) const FREE_SOME_SPACE: &str =
    "free some space, or name another place (SF_CACHE_DIR, --output-dir; boot-test's --work-dir)";

const DISK_FULL: &[&str] = &[
    "No space left on device",
    "You don't have enough free space",
    "Disk quota exceeded",
];

/// Whether a line of a log says that a disk is full.
pub(crate) fn disk_is_full(line: &str) -> bool {
    let line = bare(line);
    is_candidate(line) && DISK_FULL.iter().any(|text| line.contains(text))
}

/// A cause, the texts that tell it, and the remedy. The first cause that any
/// line tells wins: without a network, apt goes on to say that packages do not
/// exist, and a full disk makes everything else fail as well.
const TABLE: &[(Cause, Where, &[&str], &str)] = &[
    (Cause::DiskFull, Anywhere, DISK_FULL, FREE_SOME_SPACE),
    (
        Cause::Network,
        Anywhere,
        &[
            "Temporary failure resolving",
            "Could not resolve",
            "Temporary failure in name resolution",
            "Name or service not known",
            "Could not connect to",
            "Unable to connect to",
            "Connection timed out",
            "Failed to establish a new connection",
            "Network is unreachable",
            "Connection refused",
            "Connection failed",
            "No route to host",
            "Read timed out",
            "ProxyError",
        ],
        "check the network, the proxy settings and the mirror in the host's apt sources",
    ),
    (
        Cause::Untrusted,
        Anywhere,
        &[
            "THESE PACKAGES DO NOT MATCH THE HASHES",
            "Hashes are required in --require-hashes mode",
            "NO_PUBKEY",
            "is not signed",
            "Hash Sum mismatch",
            "The following signatures were invalid",
            "The following signatures couldn't be verified",
            "CERTIFICATE_VERIFY_FAILED",
            "Certificate verification failed",
            "is not valid yet",
            "is not a trusted or secure host",
        ],
        "what was fetched is not what was signed or pinned: check the mirror, the clock and \
         debian-archive-keyring",
    ),
    (
        Cause::NoSuchPackage,
        Anywhere,
        &[
            "Unable to locate package",
            "has no installation candidate",
            "Couldn't find any package by",
            "No matching distribution found for",
            "Could not find a version that satisfies",
            "Unmet dependencies",
            "unmet dependencies",
            "but it is not installable",
            "but it is not going to be installed",
            "does not have a Release file",
        ],
        "check the name in the profile or the release",
    ),
    (
        Cause::Locked,
        Anywhere,
        &[
            "Could not get lock",
            "Unable to acquire the dpkg frontend lock",
            "is another process using it",
        ],
        "another package manager is running: wait for it to end",
    ),
    (
        Cause::TooBig,
        Anywhere,
        &[
            "don't fit in the partition",
            "Can't fit requested partitions",
            "File too large",
        ],
        "the content does not fit its partition: remove packages, or raise the size in mkosi.repart \
         and in the image's repart.d alike",
    ),
    (
        Cause::Killed,
        AtTheEnd,
        &[
            "Killed",
            "was killed by SIGKILL",
            "Out of memory",
            "MemoryError",
            "Cannot allocate memory",
        ],
        "the machine ran out of memory, or someone killed it: see `journalctl -k`",
    ),
    (
        Cause::PackageScript,
        Anywhere,
        &[
            "dpkg: error processing",
            "installed post-installation script subprocess returned error",
            "pre-installation script subprocess returned error",
            "Sub-process /usr/bin/dpkg returned an error code",
            "Failed building wheel for",
            "subprocess-exited-with-error",
            "error: command ",
        ],
        "the package's own script failed: the lines above in the log say why",
    ),
    (
        Cause::Permission,
        AtTheEnd,
        &[
            "Permission denied",
            "Operation not permitted",
            "was forbidden to unshare namespaces",
            "Read-only file system",
        ],
        "builds run as root, with the capabilities to mount and to make namespaces",
    ),
    (
        Cause::Configuration,
        AtTheEnd,
        &[
            "Unknown setting",
            "Unknown section",
            "is not a valid",
            "does not exist",
            "unrecognized arguments",
            "was requested but no",
            "but no kernel was found",
            "not found.",
            "No such file or directory",
        ],
        "the rendered mkosi folder does not fit this mkosi or this tools tree",
    ),
];

/// Lines that report a failure without explaining it.
const ECHOES: &[&str] = &[
    "returned non-zero exit code",
    "Build failed",
    "Traceback (most recent call last)",
    "subprocess.CalledProcessError",
    "[notice]",
    "Interrupted",
];

/// The line of `log` that tells the strongest cause; else its last line that is
/// no echo. `None` for a log without any.
pub fn explain(log: &str) -> Option<Explanation> {
    let lines: Vec<&str> = log
        .lines()
        .map(bare)
        .filter(|line| is_candidate(line))
        .collect();
    let end = &lines[lines.len().saturating_sub(END)..];
    for (cause, place, texts, hint) in TABLE {
        let tells = |line: &&str| texts.iter().any(|text| line.contains(text));
        let place = if *place == Anywhere { &lines[..] } else { end };
        if let Some(at) = place.iter().position(tells) {
            return Some(Explanation {
                cause: *cause,
                line: whole(place, at),
                hint: Some(hint),
            });
        }
    }
    let echo = |line: &str| ECHOES.iter().any(|echo| line.contains(echo));
    let last = lines.iter().rev().find(|line| !echo(line))?;
    Some(Explanation {
        cause: Cause::Unknown,
        line: (*last).to_owned(),
        hint: None,
    })
}

/// The line at `at`, shortened to what it says: pip names the package of a wrong
/// hash on the line after, and wraps a failed connection in its own objects.
fn whole(lines: &[&str], at: usize) -> String {
    let line = lines[at];
    if let (Some(next), true) = (lines.get(at + 1), line.contains("DO NOT MATCH THE HASHES")) {
        let package = next.split(" (from ").next().unwrap_or(next);
        return format!("wrong hash: {package}");
    }
    if let (Some(start), Some(end)) = (line.find("Failed to establish"), line.rfind("')': "))
        && start < end
    {
        return format!("{} (for {})", &line[start..end], &line[end + 5..]);
    }
    line.to_owned()
}

/// A line without mkosi's marker and colours.
fn bare(line: &str) -> &str {
    line.trim().trim_start_matches('‣').trim()
}

/// Commands that are echoed hold package names and options that look like
/// anything; they and steps in brackets explain nothing. Neither does a warning
/// that apt recovers from by itself.
fn is_candidate(line: &str) -> bool {
    let command = line.starts_with("$ ") || line.starts_with("+ ") || line.starts_with("/usr/bin/");
    let step = line.starts_with('(') && line.ends_with(')');
    // What mkosi says of a failed command holds the whole command.
    let echo = line.starts_with('"') && line.contains("returned non-zero exit code");
    !line.is_empty() && !command && !step && !echo && !line.starts_with("Ign:")
}

#[cfg(test)]
mod tests;
