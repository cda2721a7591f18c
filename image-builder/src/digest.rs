//! SHA-256 over bytes, files and trees.
//!
//! Owns: content digests and the keys of the build cache. Refuses: anything
//! that depends on the clock, on inode order or on where a tree stands.

use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err as fs;
use sha2::{Digest as _, Sha256};

/// The lower-case hex SHA-256 of `bytes`.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The lower-case hex SHA-256 of a file. Errors name the file.
pub fn of_file(path: &Path) -> io::Result<String> {
    copy_hashing(path, &mut io::sink()).map(|(_, digest)| digest)
}

/// Copies a file into `to` and returns its length in bytes and its digest: what
/// was hashed is what was written.
pub fn copy_hashing(from: &Path, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut file = fs::File::open(from)?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((length, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
        length += n as u64;
    }
}

/// A key over named values: each name and value is framed by its length, so
/// that no two different lists give the same bytes.
#[derive(Clone)]
pub struct Key(Sha256);

impl Key {
    /// A key for one purpose. Change `purpose` when the code that makes what is
    /// cached under it changes its result.
    pub fn new(purpose: &str) -> Self {
        Self(Sha256::new()).field("purpose", purpose)
    }

    /// Adds a named value.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds the names, modes and contents of everything below `root`, in the
    /// order of the names. A file stands for itself.
    pub fn tree(mut self, name: &str, root: &Path) -> io::Result<Self> {
        let meta = fs::symlink_metadata(root)?;
        let kind = if meta.is_symlink() {
            let target = fs::read_link(root)?;
            format!("link {}", target.display())
        } else if meta.is_dir() {
            format!("folder {:o}", meta.permissions().mode() & 0o7777)
        } else {
            format!(
                "file {:o} {}",
                meta.permissions().mode() & 0o7777,
                of_file(root)?
            )
        };
        self = self.field(name, kind);
        if meta.is_dir() {
            let mut entries = fs::read_dir(root)?.collect::<Result<Vec<_>, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = format!("{name}/{}", entry.file_name().to_string_lossy());
                self = self.tree(&name, &entry.path())?;
            }
        }
        Ok(self)
    }

    /// The key: 24 hex digits, enough to tell a cache's entries apart.
    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())[..24].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_bytes_and_files_alike() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("f");
        fs::write(&file, "abc").expect("write");
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_bytes(b"abc"), want);
        let mut copy = Vec::new();
        assert_eq!(
            copy_hashing(&file, &mut copy).expect("copy"),
            (3, want.to_owned())
        );
        assert_eq!(copy, b"abc");
    }

    #[test]
    fn a_key_tells_framing_apart() {
        let key = |a: &str, b: &str| Key::new("t").field("a", a).field("b", b).finish();
        assert_eq!(key("x", "y"), key("x", "y"));
        assert_ne!(key("x", "y"), key("xy", ""));
        assert_ne!(Key::new("t").finish(), Key::new("u").finish());
    }

    #[test]
    fn a_tree_key_sees_content_modes_and_names_but_not_the_place() {
        let tree = |content: &str, mode: u32, name: &str| {
            let dir = tempfile::tempdir().expect("tempdir");
            fs::create_dir(dir.path().join("sub")).expect("mkdir");
            let file = dir.path().join("sub").join(name);
            fs::write(&file, content).expect("write");
            fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
            let root = dir.path();
            std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).expect("chmod");
            Key::new("t").tree("tree", root).expect("tree").finish()
        };
        let base = tree("x", 0o644, "f");
        assert_eq!(base, tree("x", 0o644, "f"));
        for other in [
            tree("y", 0o644, "f"),
            tree("x", 0o755, "f"),
            tree("x", 0o644, "g"),
        ] {
            assert_ne!(base, other);
        }
    }
}
