//! Reading one file or credential: bounded, and with a reason when it fails.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;
use sf_contract::secret::Secret;
use zeroize::Zeroizing;

use crate::codes;
use crate::failure::Failure;

/// The most that is read of one source. Metadata is a few KiB; what is larger
/// is not metadata.
pub(super) const LIMIT: u64 = 1024 * 1024;

/// What is no text: it may be a key.
pub(super) type Bytes = Zeroizing<Vec<u8>>;

/// The bytes of what could not be read as a text.
pub(super) fn bytes(path: &Path) -> Option<Bytes> {
    crate::read::bytes(path, LIMIT).ok().map(Bytes::new)
}

/// What a file holds.
pub(super) struct Text {
    pub(super) text: Secret,
    /// Can every user of the machine read it?
    pub(super) exposed: bool,
}

/// Which files are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// Regular files: anything else could block or never end.
    Regular,
    /// Pipes too, for `--metadata <(…)` and `/dev/stdin`.
    AlsoPipes,
}

/// Reads a text; `Ok(None)` when there is no such file. `shown` is its path
/// for people.
pub(super) fn text(path: &Path, shown: &str, files: Files) -> Result<Option<Text>, Box<Failure>> {
    named(path, shown, shown, files)
}

/// The same of what has a name beside its path, which is then what commands are
/// given.
pub(super) fn named(
    path: &Path,
    shown: &str,
    at: &str,
    files: Files,
) -> Result<Option<Text>, Box<Failure>> {
    let broken = |what: String, remedy: String| broken(shown, what, remedy);
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match std::fs::symlink_metadata(path) {
                Err(_) => Ok(None),
                Ok(_) => Err(broken(
                    format!("{shown} is a link to a file that does not exist"),
                    format!("mend or remove the link: ls -l {at}"),
                )),
            };
        }
        Err(error) => return Err(cannot_be_read(shown, at, &error)),
    };
    if meta.is_dir() {
        return Err(broken(
            format!("{shown} is a folder, not a file"),
            "put a file in its place".into(),
        ));
    }
    if !meta.is_file() && files == Files::Regular {
        return Err(broken(
            format!("{shown} is not a regular file"),
            "replace it by one".into(),
        ));
    }
    let mut bytes = Vec::new();
    let too_large = || {
        broken(
            format!("{shown} is larger than 1 MiB, which no metadata is"),
            "check that it is the file that was meant".into(),
        )
    };
    if files == Files::Regular {
        bytes = crate::read::bytes(path, LIMIT).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => too_large(),
            _ => cannot_be_read(shown, at, &error),
        })?;
    } else {
        fs::File::open(path)
            .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
            .map_err(|error| cannot_be_read(shown, at, &error))?;
        if bytes.len() as u64 > LIMIT {
            return Err(too_large());
        }
    }
    let exposed = meta.is_file() && meta.mode() & 0o004 != 0;
    as_text(bytes, shown).map(|text| Some(Text { exposed, ..text }))
}

fn broken(shown: &str, what: String, remedy: String) -> Box<Failure> {
    Box::new(
        Failure::new(&codes::META_UNREADABLE, what)
            .source(shown)
            .remedy(remedy),
    )
}

/// Bytes as a text that not every user can read.
pub(super) fn as_text(bytes: Vec<u8>, shown: &str) -> Result<Text, Box<Failure>> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Text {
            text: Secret::new(text),
            exposed: false,
        }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid]
                .split(|byte| *byte == b'\n')
                .count();
            Err(broken(
                shown,
                format!(
                    "{shown} is not UTF-8 text: the first byte that is wrong is in line {line}"
                ),
                "save it as UTF-8, without compression or encryption".into(),
            ))
        }
    }
}

/// Why a file or folder could not be read. `shown` is its path for people.
pub(super) fn unreadable(shown: &str, error: &io::Error) -> Box<Failure> {
    cannot_be_read(shown, shown, error)
}

fn cannot_be_read(shown: &str, at: &str, error: &io::Error) -> Box<Failure> {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("run as root, or allow this user to read it: ls -ld {at}")
        }
        io::ErrorKind::NotADirectory => {
            format!(
                "it, or a folder on the way to it, is a file where a folder belongs: ls -ld {at}"
            )
        }
        _ => {
            format!("try to read it by hand (cat {at}) and look at `dmesg` for errors of the disk")
        }
    };
    Box::new(
        Failure::new(&codes::META_UNREADABLE, format!("{shown} cannot be read"))
            .source(shown)
            .remedy(remedy)
            .cause(error),
    )
}

/// A warning: everybody on this machine can read a secret.
pub(super) fn exposed(shown: &str, what: &str) -> Failure {
    Failure::new(
        &codes::META_EXPOSED,
        format!("{shown} can be read by every user, and {what}"),
    )
    .source(shown)
    .remedy(format!("chmod 0600 {shown}"))
}
