//! The agent's binary: compiled on the host, run in the image.
//!
//! Owns: running cargo, and the check that the image's C library has every
//! symbol version that the binary needs. Refuses: a binary that would start on
//! the builder and not in the image.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use object::read::elf::{ElfFile64, FileHeader as _};
use object::{Endianness, elf};
use sf_command::{Cmd, Failure, Tool};

/// What can go wrong with the agent's binary.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// cargo failed.
    #[error("could not compile the agent: {explanation}")]
    Compile {
        /// The compiler's first error, or what cargo said last.
        explanation: String,
        /// The command that failed.
        source: Box<Failure>,
    },
    /// It is not where cargo puts it, or cannot be read.
    #[error("could not read the agent's binary {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// It is no program for this machine.
    #[error("{} is no ELF program for x86-64: {why}", path.display())]
    NotElf {
        /// The path.
        path: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// It needs a newer C library than the image has.
    #[error(
        "the agent needs GLIBC_{needs} ({}), but the image has glibc {has}: it would not start",
        symbols.join(", ")
    )]
    TooNew {
        /// The greatest version that it needs.
        needs: String,
        /// The image's.
        has: String,
        /// The symbol versions that the image lacks.
        symbols: Vec<String>,
    },
}

impl AgentError {
    /// What to do, when that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooNew { .. } => Some(
                "compile on the image's distribution or an older one, or give a binary made there \
                 with --agent FILE",
            ),
            _ => None,
        }
    }
}

/// A binary that runs in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// The greatest GLIBC version it needs, `2.34`; `None` when it is static.
    pub glibc: Option<String>,
}

/// The command that compiles it. `cargo_home` and `checkout` are taken out of
/// the binary: panics carry source paths, and where the builder keeps its files
/// must neither show in an image nor change one.
pub fn compile_cmd(checkout: &Path, cargo_home: &Path, target: &Path) -> Cmd {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [remap(cargo_home, "/cargo"), remap(checkout, "/sf-image")];
    let mut cmd = Cmd::new(Tool::Cargo);
    for variable in FROM_CARGO_RUN {
        cmd = cmd.env_remove(variable);
    }
    cmd.args([
        "build",
        "--profile",
        "agent",
        "--locked",
        "--package",
        "sf-firstboot",
    ])
    .args(["--bin", "sf-firstboot", "--message-format=short"])
    // Flags of the caller's own would change the binary.
    .env_remove("RUSTFLAGS")
    .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
    .env("CARGO_TARGET_DIR", target)
    .env("CARGO_TERM_COLOR", "never")
    .cwd(checkout)
}

/// What `cargo run` puts into the builder's environment. Build scripts of
/// dependencies ask cargo to watch these, so with them every change between
/// `make image` and the bare builder would compile half of the agent again.
const FROM_CARGO_RUN: [&str; 9] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
];

/// Where cargo keeps the sources of dependencies.
fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

/// Compiles the agent of `checkout` and checks it against `glibc`, the version
/// of the image's C library. `target` is cargo's target folder.
pub fn compile(
    checkout: &Path,
    target: &Path,
    glibc: &str,
    on_line: impl FnMut(&str),
) -> Result<Agent, AgentError> {
    run(&compile_cmd(checkout, &cargo_home(), target), on_line)?;
    check(&target.join("agent/sf-firstboot"), glibc)
}

fn run(cmd: &Cmd, mut on_line: impl FnMut(&str)) -> Result<(), AgentError> {
    let mut error = None;
    let mut last = String::new();
    let result = cmd.run_streaming(|line| {
        let is_error = line.starts_with("error") || line.contains(": error");
        if is_error && error.is_none() {
            error = Some(line.to_owned());
        }
        if !line.trim().is_empty() {
            line.trim().clone_into(&mut last);
        }
        on_line(line);
    });
    result.map(drop).map_err(|source| AgentError::Compile {
        explanation: error.unwrap_or_else(|| {
            if last.is_empty() {
                source.to_string()
            } else {
                last
            }
        }),
        source: Box::new(source),
    })
}

/// Checks a binary against the version of the image's C library.
pub fn check(path: &Path, glibc: &str) -> Result<Agent, AgentError> {
    let bytes = fs::read(path).map_err(|source| AgentError::Read {
        path: path.into(),
        source,
    })?;
    let not_elf = |why: String| AgentError::NotElf {
        path: path.to_owned(),
        why,
    };
    let needed = glibc_versions(&bytes).map_err(|error| not_elf(error.to_string()))?;
    let newer: Vec<String> = needed
        .iter()
        .filter(|(_, version)| parts(version) > parts(glibc))
        .map(|(library, version)| format!("{library}: GLIBC_{version}"))
        .collect();
    let greatest = needed
        .into_iter()
        .map(|(_, v)| v)
        .max_by_key(|version| parts(version));
    if let (false, Some(needs)) = (newer.is_empty(), &greatest) {
        let (needs, has) = (needs.clone(), glibc.to_owned());
        return Err(AgentError::TooNew {
            needs,
            has,
            symbols: newer,
        });
    }
    Ok(Agent {
        path: path.to_owned(),
        size: bytes.len() as u64,
        sha256: crate::digest::of_bytes(&bytes),
        glibc: greatest,
    })
}

/// The `GLIBC_*` versions that an ELF file asks of its libraries, each with the
/// library.
fn glibc_versions(bytes: &[u8]) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    let file = ElfFile64::<Endianness>::parse(bytes)?;
    let (header, endian) = (file.elf_header(), file.endian());
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err("it is made for another machine".into());
    }
    let sections = header.sections(endian, bytes)?;
    let Some((mut needs, strings)) = sections.gnu_verneed(endian, bytes)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, bytes, strings)?;
    let mut found = Vec::new();
    while let Some((need, mut versions)) = needs.next()? {
        let library = String::from_utf8_lossy(need.file(endian, strings)?).into_owned();
        while let Some(version) = versions.next()? {
            let name = String::from_utf8_lossy(version.name(endian, strings)?).into_owned();
            // GLIBC_PRIVATE and GLIBC_ABI_* have no number to compare.
            if let Some(number) = name.strip_prefix("GLIBC_")
                && number.starts_with(|c: char| c.is_ascii_digit())
            {
                found.push((library.clone(), number.to_owned()));
            }
        }
    }
    Ok(found)
}

fn parts(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test's own binary: a real ELF file that needs this host's glibc.
    fn own() -> PathBuf {
        std::env::current_exe().expect("exe")
    }

    #[test]
    fn reads_what_a_real_binary_needs() {
        let agent = check(&own(), "99.0").expect("check");
        let glibc = agent.glibc.expect("dynamic");
        assert!(
            parts(&glibc) >= parts("2.14") && parts(&glibc) < parts("3"),
            "{glibc}"
        );
        assert_eq!(agent.sha256.len(), 64);
        assert!(agent.size > 1000);
    }

    #[test]
    fn refuses_a_binary_that_the_image_cannot_run() {
        let error = check(&own(), "2.3").expect_err("too new");
        let shown = error.to_string();
        assert!(shown.contains("libc.so.6: GLIBC_2."), "{shown}");
        assert!(
            shown.contains("the image has glibc 2.3: it would not start"),
            "{shown}"
        );
        assert!(error.hint().expect("hint").contains("older"));
    }

    #[test]
    fn compares_versions_by_number() {
        assert!(parts("2.9") < parts("2.34"));
        assert!(parts("2.2.5") < parts("2.14"));
        assert!(parts("2.41") == parts("2.41"));
    }

    #[test]
    fn tells_no_file_from_no_program() {
        let error = check(Path::new("/nope"), "2.41").expect_err("missing");
        assert!(matches!(error, AgentError::Read { .. }), "{error}");
        let error = check(Path::new("/etc/passwd"), "2.41").expect_err("text");
        assert!(error.to_string().contains("no ELF program"), "{error}");
    }

    #[test]
    fn compiles_without_the_builders_paths_and_flags() {
        let paths = ["/src/sf", "/home/me/.cargo", "/src/sf/target"].map(Path::new);
        let shown = compile_cmd(paths[0], paths[1], paths[2]).to_string();
        assert!(
            shown.starts_with("cd /src/sf && env -u CARGO_MANIFEST_DIR "),
            "{shown}"
        );
        assert!(
            shown.contains(" -u CARGO_PKG_VERSION_PRE -u RUSTFLAGS "),
            "{shown}"
        );
        assert!(
            shown.contains("--remap-path-prefix=/home/me/.cargo=/cargo"),
            "{shown}"
        );
        assert!(
            shown.contains("cargo build --profile agent --locked --package sf-firstboot"),
            "{shown}"
        );
    }

    #[test]
    fn shows_the_compilers_first_error() {
        let script = "echo '   Compiling x'; echo 'src/a.rs:1:2: error[E0425]: no such name'; \
                      echo 'error: could not compile `x`'; exit 101";
        let cmd = Cmd::path("/bin/sh").args(["-c", script]);
        let error = run(&cmd, |_| ()).expect_err("fails").to_string();
        assert_eq!(
            error,
            "could not compile the agent: src/a.rs:1:2: error[E0425]: no such name"
        );
    }
}
