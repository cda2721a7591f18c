//! Files that are either the old ones or the new ones, never half of one.

use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use fs_err as fs;

/// Who may read a file. Owners and groups are only set by root; a test that
/// runs as somebody else keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Numeric group; the owner is always root.
    pub group: u32,
}

impl Access {
    /// Everybody may read.
    pub const PUBLIC: Self = Self {
        mode: 0o644,
        group: 0,
    };
    /// Only root may read.
    pub const PRIVATE: Self = Self {
        mode: 0o600,
        group: 0,
    };
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The file was there with these bytes and this access.
    Unchanged,
    /// It was not there.
    Created,
    /// It was there and differed.
    Updated,
}

/// Makes `path` hold `content`: a temporary file beside it, fsync, rename,
/// fsync of the folder. Missing folders are made. A file that has this
/// content and access already is not touched.
pub fn atomically(path: &Path, content: &[u8], access: Access) -> io::Result<Change> {
    let change = match fs::symlink_metadata(path) {
        Ok(meta)
            if meta.is_file()
                && same_access(&meta, access)
                && meta.len() == content.len() as u64
                && fs::read(path)? == content =>
        {
            return Ok(Change::Unchanged);
        }
        Ok(_) => Change::Updated,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Change::Created,
        Err(error) => return Err(error),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.sf-new"));
    let mut file = match new_file(&temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            new_file(&temporary)
        }
        // Left over from a killed run; it may have wider access than this one gets.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary)?;
            new_file(&temporary)
        }
        first => first,
    }?;
    file.write_all(content)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(file.file(), Some(0), Some(access.group))?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(access.mode))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(folder)?.sync_all()?;
    Ok(change)
}

/// An fs-err file: its errors name the path.
fn new_file(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    fs_err::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(path)
}

/// Removes a file; `false` when it was not there.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn same_access(meta: &std::fs::Metadata, access: Access) -> bool {
    meta.mode() & 0o7777 == access.mode
        && (!rustix::process::geteuid().is_root()
            || (meta.uid() == 0 && meta.gid() == access.group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_once_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(
            atomically(&path, b"x", Access::PRIVATE).unwrap(),
            Change::Created
        );
        let before = fs::metadata(&path).unwrap();
        assert_eq!(before.mode() & 0o777, 0o600);
        assert_eq!(
            atomically(&path, b"x", Access::PRIVATE).unwrap(),
            Change::Unchanged
        );
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
        assert_eq!(
            atomically(&path, b"y", Access::PRIVATE).unwrap(),
            Change::Updated
        );
        assert_eq!(
            atomically(&path, b"y", Access::PUBLIC).unwrap(),
            Change::Updated
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }

    #[test]
    fn a_left_over_temporary_file_is_no_obstacle_and_a_link_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(dir.path().join(".config.sf-new"), "half").unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(
            atomically(&path, b"ours", Access::PRIVATE).unwrap(),
            Change::Updated
        );
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
    }
}
