//! One run at a time on a node.

use std::fs::File;

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};

use crate::codes;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::state::unwritable;

/// The lock's file, in the runtime folder.
pub const FILE: &str = "lock";

/// Held for as long as the value lives; the kernel lets go of it at any death.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held, not read")] File);

/// Takes the lock or says that another run has it.
pub fn take(paths: &Paths) -> Result<Alone, Failure> {
    let path = paths.runtime(FILE);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| unwritable(&error))?;
    }
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true);
    let file: File = options
        .open(&path)
        .map_err(|error| unwritable(&error))?
        .into();
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Alone(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::new(
            &codes::BUSY,
            "another run of sf-firstboot is under way on this node",
        )
        .next_command("sf-firstboot status")),
        Err(error) => Err(unwritable(&error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let first = take(&paths).unwrap();
        assert_eq!(take(&paths).unwrap_err().code.id, "SF-BUSY");
        drop(first);
        assert!(take(&paths).is_ok());
    }
}
