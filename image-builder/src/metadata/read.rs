//! Metadata files as fragments. Of several the last wins, as with the agent's
//! `--metadata` and its drop-ins.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use sf_contract::metadata::{Fragment, Layer, Origin};
use zeroize::Zeroizing;

/// The most that the agent reads of one source.
pub(super) const LIMIT: u64 = 1024 * 1024;

/// Why a file is no metadata.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than any metadata.
    #[error("{} is larger than 1 MiB, which no metadata is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("{} is not UTF-8 text: the first byte that is wrong is in line {line}", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
}

/// What was read.
#[derive(Debug, Default)]
pub struct Sources {
    /// One for each file, the last the strongest.
    pub fragments: Vec<Fragment>,
    /// Files that hold a secret and that every user of this machine can read.
    pub exposed: Vec<String>,
}

/// Reads metadata files; `-` is standard input. A node's name that is given
/// beside them is one more source, the strongest.
pub fn sources(files: &[PathBuf], node: Option<&str>) -> Result<Sources, ReadError> {
    let mut sources = Sources::default();
    let mut order = 0;
    for path in files {
        let (shown, text, mode) = text(path)?;
        let origin = Origin::new(Layer::CommandLine, order, shown.as_str());
        let fragment = Fragment::read(origin, &text);
        if mode & 0o004 != 0 && fragment.has_inline_secret() {
            sources.exposed.push(shown);
        }
        sources.fragments.push(fragment);
        order += 1;
    }
    if let Some(node) = node {
        let origin = Origin::new(Layer::CommandLine, order, "--node");
        sources
            .fragments
            .push(Fragment::single(origin, "node.name", node));
    }
    Ok(sources)
}

/// Name for people, text, and permission bits (0 for a pipe).
fn text(path: &Path) -> Result<(String, Zeroizing<String>, u32), ReadError> {
    let failed = |source| ReadError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let (shown, mode) = if path == Path::new("-") {
        io::stdin()
            .take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        ("standard input".to_owned(), 0)
    } else {
        let file = fs::File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        file.take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let mode = if meta.is_file() { meta.mode() } else { 0 };
        (path.display().to_string(), mode)
    };
    if bytes.len() as u64 > LIMIT {
        return Err(ReadError::TooLarge {
            path: path.to_owned(),
        });
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok((shown, Zeroizing::new(text.to_owned()), mode)),
        Err(error) => Err(ReadError::NotText {
            path: path.to_owned(),
            line: bytes[..error.valid_up_to()]
                .split(|byte| *byte == b'\n')
                .count(),
        }),
    }
}
