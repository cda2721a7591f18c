//! The folder of a node: whole or not at all, and nobody's but its owner's.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::cache::{PARTIAL, remove_tree};
use crate::publish::{put_in_place, sweep_dead};

/// A folder that becomes `destination` when it is committed; dropped before
/// that, it is gone.
#[derive(Debug)]
pub struct PrivateFolder {
    destination: PathBuf,
    partial: PathBuf,
}

impl PrivateFolder {
    /// Begins the folder `name` in `parent`, and clears away what a killed run
    /// left there.
    pub fn begin(parent: &Path, name: &str) -> io::Result<Self> {
        let parent = std::path::absolute(parent)?;
        fs::create_dir_all(&parent)?;
        sweep_dead(&parent, name)?;
        let partial = parent.join(format!("{PARTIAL}{name}-{}", std::process::id()));
        make(&partial)?;
        Ok(Self {
            destination: parent.join(name),
            partial,
        })
    }

    /// Where it will be.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Writes a file below it, mode 0600.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.partial.join(name);
        if let Some(folder) = path.parent()
            && !folder.exists()
        {
            make(folder)?;
        }
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(bytes)
    }

    /// Flushes everything to disk and puts it in its place in one step; what
    /// was there is removed.
    pub fn commit(self) -> io::Result<PathBuf> {
        put_in_place(&self.partial, &self.destination)?;
        Ok(self.destination.clone())
    }
}

fn make(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // After a commit nothing has this name.
        let _ = remove_tree(&self.partial);
    }
}
