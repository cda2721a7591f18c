//! Reading a file that belongs to this node. Whatever stands in its place, the
//! agent goes on: a pipe without a writer would hold it up for ever, and a
//! device or a file without an end would take its memory.

use std::io::{self, Read as _};
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;

/// Bytes that a file of the agent's, the image's or the system's may have: far
/// more than any of them has.
pub const LIMIT: u64 = 16 << 20;

/// The bytes of a regular file, which has at most `limit` of them.
pub fn bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer; what it is, is only known of
    // what is open.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)?;
    let refused = |kind, what: String| Err(io::Error::new(kind, what));
    let meta = file.metadata()?;
    let shown = path.display();
    if meta.is_dir() {
        return refused(
            io::ErrorKind::IsADirectory,
            format!("{shown} is a folder, not a file"),
        );
    }
    if !meta.is_file() {
        return refused(
            io::ErrorKind::InvalidInput,
            format!("{shown} is not a regular file"),
        );
    }
    let mut bytes = Vec::new();
    // Files of the kernel say that they have no bytes.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return refused(
            io::ErrorKind::FileTooLarge,
            format!("{shown} is larger than {} KiB", limit >> 10),
        );
    }
    Ok(bytes)
}

/// The text of a regular file, which has at most [`LIMIT`] bytes.
pub fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(bytes(path, LIMIT)?).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is not UTF-8 text", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sf_contract::role::Role;
    use sf_contract::secret::Secret;

    use crate::card::console;
    use crate::configure::{self, ledger::Ledger};
    use crate::image::{Given, Image};
    use crate::paths::Paths;
    use crate::status::Status;
    use crate::{engine, identity, state, testing};

    /// Without a bound this test would not end.
    #[test]
    fn a_pipe_in_place_of_a_file_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        for name in ["done.json", "begun.json", "files.json", "cluster.json"] {
            testing::fifo(&paths.state(name));
        }
        testing::fifo(&paths.state("status.json"));
        for name in ["status.json", "clearance.json", "refused.json"] {
            testing::fifo(&paths.runtime(name));
        }
        for path in ["/etc/hosts", "/etc/machine-id", "/proc/consoles"] {
            testing::fifo(&paths.at(path));
        }
        testing::fifo(&paths.manifest());
        assert!(state::membership(&paths).is_err());
        assert_eq!(Status::read(&paths), None);
        assert!(engine::kept(&paths).is_none());
        assert!(engine::refused::kept(&paths).is_none());
        assert_eq!(identity::instance_id(&paths).len(), 32);
        console::say(&paths, "the card");
        let ledger = Ledger::open(&paths, Vec::new()).unwrap();
        ledger.close(&paths).unwrap();
        let release = dir.path().join("release.toml");
        std::fs::write(&release, testing::RELEASE).unwrap();
        let given = Given {
            release: Some(&release),
            ..Given::default()
        };
        let failure = Image::read(&paths, &given).unwrap_err();
        assert_eq!(failure.code.id, "SF-IMAGE-MANIFEST");
        let image = testing::image(Role::Hypervisor);
        let written = configure::write_all(
            &paths,
            &image,
            &testing::metadata(""),
            &configure::FromCluster {
                auth_secret_seed: Some(Secret::new("seed")),
                ..Default::default()
            },
        );
        let failure = written.unwrap_err();
        let causes = failure.causes.join(" ");
        assert!(
            causes.ends_with("/etc/hosts is not a regular file"),
            "{failure:?}"
        );
    }

    #[test]
    fn only_regular_files_of_a_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        assert_eq!(bytes(&at("file"), 5).unwrap(), b"12345");
        assert_eq!(text(&at("file")).unwrap(), "12345");
        std::fs::write(at("latin"), b"\xfc").unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("link")).unwrap();
        testing::fifo(&at("pipe"));
        for (name, limit, kind, said) in [
            ("file", 4, io::ErrorKind::FileTooLarge, "larger than"),
            ("link", 4, io::ErrorKind::InvalidInput, "not a regular file"),
            ("pipe", 4, io::ErrorKind::InvalidInput, "not a regular file"),
            ("", 4, io::ErrorKind::IsADirectory, "is a folder"),
            ("none", 4, io::ErrorKind::NotFound, "none"),
        ] {
            let error = bytes(&at(name), limit).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        let latin = text(&at("latin")).unwrap_err();
        assert_eq!(latin.kind(), io::ErrorKind::InvalidData);
        // The kernel's have a size of zero.
        assert!(
            text(Path::new("/proc/self/status"))
                .unwrap()
                .contains("Name:")
        );
    }
}
