//! Takes the files out of a /usr partition, to be judged as they are in it.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use fs_err as fs;
use sf_command::{Cmd, Failure};

use super::{Entry, Gate, Kind, Policy};
use crate::sandbox::Sandbox;

/// The command that takes the files of the EROFS image at `partition` out into
/// `folder`, which must be empty. They stand there as they stand in /usr.
pub fn command(sandbox: Sandbox<'_>, partition: &Path, folder: &Path) -> Cmd {
    sandbox
        .show(partition, "/usr.raw")
        .bind(folder, "/files")
        .cmd(
            "/usr/bin/fsck.erofs",
            ["--extract=/files", "--overwrite", "--preserve", "/usr.raw"],
        )
}

/// The command that writes the archive in the compressed initrd at `initrd` to
/// standard output.
pub fn initrd_command(sandbox: Sandbox<'_>, initrd: &Path) -> Cmd {
    sandbox
        .show(initrd, "/initrd.zst")
        .cmd("/usr/bin/zstd", ["-dcq", "/initrd.zst"])
}

/// Bytes that the EROFS file system at `partition` takes of its slot.
pub fn file_system_size(sandbox: Sandbox<'_>, partition: &Path) -> Result<Option<u64>, Failure> {
    let output = sandbox
        .show(partition, "/usr.raw")
        .cmd("/usr/bin/dump.erofs", ["-s", "/usr.raw"])
        .run()?;
    Ok(parse_size(&output.text()))
}

fn parse_size(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    field("Filesystem blocksize:")?.checked_mul(field("Filesystem blocks:")?)
}

/// Judges everything below `folder`, whose root is `at` in the image (`usr`).
pub fn inspect(folder: &Path, at: &str, policy: &Policy) -> io::Result<Gate> {
    let mut paths = Vec::new();
    list(folder, &mut paths)?;
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(8);
    let gates: Vec<io::Result<Gate>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let paths = &paths;
                scope.spawn(move || {
                    let mut gate = Gate::default();
                    // One in turn, so that no worker has all the large files.
                    for path in paths.iter().skip(worker).step_by(threads) {
                        look(folder, at, path, policy, &mut gate)?;
                    }
                    Ok(gate)
                })
            })
            .collect();
        let panicked = |_| Err(io::Error::other("the hygiene gate panicked"));
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(panicked))
            .collect()
    });
    let mut all = Gate::default();
    for gate in gates {
        all.merge(gate?);
    }
    Ok(all)
}

fn list(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        into.push(entry.path());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), into)?;
        }
    }
    Ok(())
}

fn look(root: &Path, at: &str, path: &Path, policy: &Policy, gate: &mut Gate) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let kind = if meta.is_file() {
        Kind::File
    } else if meta.is_dir() {
        Kind::Folder
    } else if meta.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    };
    let content = if kind == Kind::File {
        fs::read(path)?
    } else {
        Vec::new()
    };
    let below = path.strip_prefix(root).unwrap_or(path).to_string_lossy();
    let name = format!("{at}/{below}");
    gate.look(
        &Entry {
            path: &name,
            kind,
            mode: meta.permissions().mode(),
            content: &content,
        },
        policy,
    );
    Ok(())
}

/// Bytes of a file's blocks that hold something: what a sparse copy of it takes.
/// File systems differ in what they leave out, so the blocks are looked at as
/// the file system reports them and not counted by content.
pub fn allocated(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_dump_erofs_says() {
        let text = "Filesystem magic number:                      0xE0F5E1E2\n\
            Filesystem blocksize:                         4096\n\
            Filesystem blocks:                            58424\n";
        assert_eq!(parse_size(text), Some(58424 * 4096));
        assert_eq!(parse_size("nothing"), None);
    }

    #[test]
    fn everything_below_a_folder_is_looked_at() {
        let dir = tempfile::tempdir().expect("tempdir");
        let deep = dir.path().join("share/factory/etc/sf");
        fs::create_dir_all(&deep).expect("mkdir");
        fs::write(deep.join("config"), "x").expect("write");
        fs::create_dir(dir.path().join("bin")).expect("mkdir");
        let program = dir.path().join("bin/x");
        fs::write(&program, "x").expect("write");
        fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
        let policy = Policy {
            product: true,
            set_uid: ["/usr/bin/y".to_owned()].into(),
        };
        let found = inspect(dir.path(), "usr", &policy)
            .expect("inspect")
            .findings();
        let paths: Vec<_> = found.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["/etc/sf/config", "/usr/bin/x"]);
    }
}
