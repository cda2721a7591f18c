//! Publishes an image: everything or nothing.
//!
//! Owns: the `.partial-*` folder beside the destination, `SHA256SUMS`, what is
//! flushed to disk and in which order, and the log of a build that failed.
//! Refuses: touching the previous image before the new one is complete on disk.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::cache::{PARTIAL, remove_tree};

/// Name of the checksum file.
pub const SUMS: &str = "SHA256SUMS";

/// Name of the log in a published folder.
pub const LOG: &str = "build.log";

/// What can go wrong while publishing.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The destination's parent cannot be written.
    #[error("cannot write to the output folder {}", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The destination has no name, `/` for example.
    #[error("{} is no place for an image", path.display())]
    NoName {
        /// The destination.
        path: PathBuf,
    },
    /// Something failed while the files were completed; the previous image is
    /// untouched.
    #[error("could not publish {}; what was there before is unchanged", path.display())]
    Publish {
        /// The destination.
        path: PathBuf,
        /// What failed, with the path.
        source: io::Error,
    },
}

/// A folder that becomes `destination` when it is committed. Dropped before
/// that, it is removed; the log stays.
#[derive(Debug)]
pub struct Publication {
    destination: PathBuf,
    partial: PathBuf,
    log: PathBuf,
    committed: bool,
}

impl Publication {
    /// Begins one, and clears away what a killed build of the same image left.
    /// The caller holds the cache's lock; two builds with different caches and
    /// the same destination are told apart by their process ids.
    pub fn begin(destination: &Path) -> Result<Self, PublishError> {
        let no_name = || PublishError::NoName {
            path: destination.to_owned(),
        };
        let destination = std::path::absolute(destination).map_err(|_| no_name())?;
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Err(no_name());
        };
        let unwritable = |source| PublishError::Unwritable {
            path: parent.to_owned(),
            source,
        };
        fs::create_dir_all(parent).map_err(unwritable)?;
        let name = name.to_string_lossy();
        sweep_dead(parent, &name).map_err(unwritable)?;
        let partial = parent.join(format!("{PARTIAL}{name}-{}", std::process::id()));
        remove_tree(&partial).map_err(unwritable)?;
        fs::create_dir(&partial).map_err(unwritable)?;
        let log = parent.join(format!("{name}.log"));
        fs::File::create(&log).map_err(unwritable)?;
        Ok(Self {
            partial,
            log,
            committed: false,
            destination,
        })
    }

    /// The folder to fill.
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// Where the image will be.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// The log while the build runs, and after one that failed. It becomes
    /// `build.log` of a published folder.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Writes `SHA256SUMS` for `sums` (name, lower-case hex), flushes everything
    /// to disk, and puts the folder in its place in one step.
    pub fn commit(mut self, sums: &[(String, String)]) -> Result<PathBuf, PublishError> {
        self.complete(sums)
            .map_err(|source| PublishError::Publish {
                path: self.destination.clone(),
                source,
            })?;
        self.committed = true;
        Ok(self.destination.clone())
    }

    fn complete(&self, sums: &[(String, String)]) -> io::Result<()> {
        fs::write(self.partial.join(SUMS), sums_text(sums))?;
        fs::copy(&self.log, self.partial.join(LOG))?;
        put_in_place(&self.partial, &self.destination)?;
        fs::remove_file(&self.log)
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is swept by the next build.
            let _ = remove_tree(&self.partial);
        }
    }
}

/// Flushes the folder `partial` to disk and gives it the name `destination`, in
/// the same parent, in one step. What had the name is removed.
pub(crate) fn put_in_place(partial: &Path, destination: &Path) -> io::Result<()> {
    let parent = destination.parent().unwrap_or(Path::new("/"));
    sync_tree(partial)?;
    if destination.symlink_metadata().is_ok() {
        // In one step: at no time is there nothing.
        renameat_with(CWD, partial, CWD, destination, RenameFlags::EXCHANGE)
            .map_err(io::Error::from)?;
        sync(parent)?;
        // What is at the partial name now is what was there before.
        remove_tree(partial)
    } else {
        fs::rename(partial, destination)?;
        sync(parent)
    }
}

/// The text of `SHA256SUMS`, in the order of names, as `sha256sum --check` reads
/// it.
pub fn sums_text(sums: &[(String, String)]) -> String {
    let mut sums: Vec<_> = sums.iter().collect();
    sums.sort();
    sums.iter()
        .map(|(name, sum)| [sum.as_str(), "  ", name.as_str(), "\n"].concat())
        .collect()
}

/// Removes the partial folders of builds of `name` whose process is gone.
pub(crate) fn sweep_dead(parent: &Path, name: &str) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let rest = file_name
            .strip_prefix(PARTIAL)
            .and_then(|rest| rest.strip_prefix(name));
        let pid = rest.and_then(|rest| rest.strip_prefix('-'));
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists() {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            sync(&entry.path())?;
        }
    }
    sync(path)
}

fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Writes a file so that it is there whole or not at all, and on disk when this
/// returns.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!("{PARTIAL}{name}"));
    let mut file = fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    path.parent().map_or(Ok(()), sync)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(destination: &Path, content: &str) -> Publication {
        let publication = Publication::begin(destination).expect("begin");
        fs::write(publication.folder().join("x.raw"), content).expect("write");
        fs::write(publication.log(), "log\n").expect("write");
        publication
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("read");
        let name = |e: io::Result<fs::DirEntry>| e.expect("e").file_name().into_string();
        let mut names: Vec<_> = entries.map(|e| name(e).expect("utf-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn publishes_whole_folders_and_replaces_them_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let to = dir.path().join("out/hypervisor/1");
        let sums = [("x.raw".to_owned(), crate::digest::of_bytes(b"one"))];
        assert_eq!(begun(&to, "one").commit(&sums).expect("commit"), to);
        assert_eq!(names(&to), ["SHA256SUMS", "build.log", "x.raw"]);
        let text = fs::read_to_string(to.join(SUMS)).expect("sums");
        assert_eq!(text, format!("{}  x.raw\n", sums[0].1));
        begun(&to, "two").commit(&[]).expect("commit");
        assert_eq!(fs::read_to_string(to.join("x.raw")).expect("read"), "two");
        assert_eq!(names(to.parent().expect("parent")), ["1"]);
    }

    #[test]
    fn a_failed_build_leaves_the_previous_image_and_its_log() {
        let dir = tempfile::tempdir().expect("tempdir");
        let to = dir.path().join("1");
        begun(&to, "good").commit(&[]).expect("commit");
        drop(begun(&to, "bad"));
        assert_eq!(fs::read_to_string(to.join("x.raw")).expect("read"), "good");
        assert_eq!(names(dir.path()), ["1", "1.log"]);
    }

    #[test]
    fn sweeps_what_dead_builds_left_and_nothing_else() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (dead, alive) = ("4194303", "1");
        for name in [
            format!("1-{dead}"),
            format!("1-{alive}"),
            format!("2-{dead}"),
        ] {
            fs::create_dir(dir.path().join(format!("{PARTIAL}{name}"))).expect("mkdir");
        }
        drop(Publication::begin(&dir.path().join("1")).expect("begin"));
        assert_eq!(
            names(dir.path()),
            [".partial-1-1", ".partial-2-4194303", "1.log"]
        );
    }

    #[test]
    fn names_a_folder_that_cannot_be_written() {
        let error = Publication::begin(Path::new("/proc/out/1")).expect_err("proc");
        assert!(error.to_string().contains("/proc/out"), "{error}");
        assert!(matches!(
            Publication::begin(Path::new("/")),
            Err(PublishError::NoName { .. })
        ));
    }

    #[test]
    fn writes_files_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("f");
        write_atomic(&path, b"a").expect("write");
        write_atomic(&path, b"b").expect("write");
        assert_eq!(
            (fs::read(&path).expect("read"), names(dir.path())),
            (b"b".to_vec(), vec!["f".into()])
        );
    }
}
