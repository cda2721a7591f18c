//! A tree of files as a value.
//!
//! Owns: reading a folder into memory, putting trees together, writing one out.
//! Refuses: modes that come from somebody's umask (a file is executable or it
//! is not), empty folders (git does not keep them), and special files.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use fs_err as fs;

use crate::digest::Key;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file and its permission bits.
    File {
        /// Permission bits.
        mode: u32,
        /// Content.
        content: Vec<u8>,
    },
    /// A symbolic link and its target.
    Link(String),
}

impl Node {
    /// A plain file, 0644.
    pub fn text(content: impl Into<Vec<u8>>) -> Self {
        Self::File {
            mode: 0o644,
            content: content.into(),
        }
    }
}

/// Relative path (no leading slash) to what stands there; folders are implied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Reads a folder, or a single file, which gets the name `at` itself.
    /// Absent is empty. `at` is the path of the result.
    pub fn read(from: &Path, at: &str) -> io::Result<Self> {
        let mut tree = Self::default();
        match fs::symlink_metadata(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => tree.read_into(from, at)?,
        }
        Ok(tree)
    }

    fn read_into(&mut self, from: &Path, at: &str) -> io::Result<()> {
        let meta = fs::symlink_metadata(from)?;
        if meta.is_dir() {
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                let name = entry.file_name().into_string().map_err(|name| {
                    io::Error::other(format!(
                        "{}: the name {} is not UTF-8",
                        from.display(),
                        name.display()
                    ))
                })?;
                let at = if at.is_empty() {
                    name
                } else {
                    format!("{at}/{name}")
                };
                self.read_into(&entry.path(), &at)?;
            }
        } else if meta.is_symlink() {
            let target = fs::read_link(from)?
                .into_os_string()
                .into_string()
                .map_err(|_| {
                    io::Error::other(format!("{}: the target is not UTF-8", from.display()))
                })?;
            self.0.insert(at.to_owned(), Node::Link(target));
        } else if meta.is_file() {
            let mode = if meta.permissions().mode() & 0o100 == 0 {
                0o644
            } else {
                0o755
            };
            self.0.insert(
                at.to_owned(),
                Node::File {
                    mode,
                    content: fs::read(from)?,
                },
            );
        } else {
            return Err(io::Error::other(format!(
                "{}: neither file, folder nor link",
                from.display()
            )));
        }
        Ok(())
    }

    /// Puts something at a path. What stood there is returned.
    pub fn insert(&mut self, path: impl Into<String>, node: Node) -> Option<Node> {
        self.0.insert(path.into(), node)
    }

    /// Adds all of `other` below `prefix`.
    pub fn graft(&mut self, prefix: &str, other: &Self) {
        for (path, node) in &other.0 {
            self.0.insert(format!("{prefix}/{path}"), node.clone());
        }
    }

    /// What stands at a path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// The text at a path, when a file of UTF-8 stands there.
    pub fn text(&self, path: &str) -> Option<&str> {
        match self.0.get(path)? {
            Node::File { content, .. } => std::str::from_utf8(content).ok(),
            Node::Link(_) => None,
        }
    }

    /// All paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Everything, in the order of the paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Writes everything into `folder`, which should be empty.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for (path, node) in &self.0 {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                make_folders(parent)?;
            }
            match node {
                Node::Link(target) => symlink(target, &path)
                    .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?,
                Node::File { mode, content } => {
                    fs::write(&path, content)?;
                    fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))?;
                }
            }
        }
        Ok(())
    }

    /// Adds all names, modes and contents to a key, less the paths in `without`.
    #[must_use]
    pub fn add_to(&self, mut key: Key, without: &[&str]) -> Key {
        for (path, node) in &self.0 {
            if without.contains(&path.as_str()) {
                continue;
            }
            key = match node {
                Node::Link(target) => key.field(path, "link").field("target", target),
                Node::File { mode, content } => key
                    .field(path, format!("{mode:o}"))
                    .field("content", content),
            };
        }
        key
    }
}

/// Makes a folder and those above it, readable whatever the umask: mkosi copies
/// the folders' modes into the image.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(parent)?;
    }
    fs::create_dir(folder)?;
    fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.insert("usr/lib/a.conf", Node::text("a\n"));
        tree.insert(
            "usr/lib/run",
            Node::File {
                mode: 0o755,
                content: b"#!/bin/sh\n".to_vec(),
            },
        );
        tree.insert("usr/lib/wants/a", Node::Link("../nowhere".into()));
        tree
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        sample().write(dir.path()).expect("write");
        fs::create_dir(dir.path().join("empty")).expect("mkdir");
        assert_eq!(Tree::read(dir.path(), "").expect("read"), sample());
        let below = Tree::read(&dir.path().join("usr/lib"), "x").expect("read");
        assert_eq!(
            below.paths().collect::<Vec<_>>(),
            ["x/a.conf", "x/run", "x/wants/a"]
        );
        assert_eq!(
            Tree::read(&dir.path().join("nope"), "").expect("absent"),
            Tree::default()
        );
    }

    #[test]
    fn modes_do_not_come_from_the_umask() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("f");
        fs::write(&file, "x").expect("write");
        for (on_disk, read) in [
            (0o600, 0o644),
            (0o664, 0o644),
            (0o711, 0o755),
            (0o755, 0o755),
        ] {
            fs::set_permissions(&file, std::fs::Permissions::from_mode(on_disk)).expect("chmod");
            let tree = Tree::read(&file, "f").expect("read");
            assert_eq!(
                tree.get("f"),
                Some(&Node::File {
                    mode: read,
                    content: b"x".to_vec()
                })
            );
        }
    }

    #[test]
    fn the_key_sees_everything_but_what_is_left_out() {
        let key = |tree: &Tree| tree.add_to(Key::new("t"), &["host"]).finish();
        let base = key(&sample());
        let mut with_host = sample();
        with_host.insert("host", Node::text("here"));
        assert_eq!(key(&with_host), base);
        for (path, node) in [
            ("usr/lib/a.conf", Node::text("b\n")),
            (
                "usr/lib/a.conf",
                Node::File {
                    mode: 0o755,
                    content: b"a\n".to_vec(),
                },
            ),
            ("usr/lib/wants/a", Node::Link("../elsewhere".into())),
            ("usr/lib/new", Node::text("")),
        ] {
            let mut changed = sample();
            changed.insert(path, node);
            assert_ne!(key(&changed), base, "{path}");
        }
    }
}
