//! A file system on a drive, read in user space: nothing is mounted and
//! nothing can be written. The readers take bytes from a [`ReadAt`]; every
//! read is paid for from a budget, so that a file system made by an enemy can
//! neither loop for ever nor fill the memory.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::{fat, iso};

/// The largest file that is read.
pub const FILE_LIMIT: u64 = 1024 * 1024;
/// The largest folder that is read.
pub(super) const FOLDER_LIMIT: u64 = 256 * 1024;
/// All that is read of one drive.
const BUDGET: u64 = 16 * 1024 * 1024;

/// Bytes by their offset: a block device, a file, a slice.
pub trait ReadAt {
    /// Fills the buffer from that offset, or fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buffer.len())?))
            .and_then(|range| self.get(range))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

/// Why a drive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The device failed, or ends too early.
    #[error("it cannot be read at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither of the two kinds that config drives have.
    #[error("it holds neither an ISO 9660 nor a FAT file system")]
    Unknown,
    /// The file system contradicts itself.
    #[error("its file system is damaged: {0}")]
    Damaged(&'static str),
    /// A file that no metadata is.
    #[error("the file {path} on it is larger than 1 MiB, which no metadata is")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// A folder where a file belongs.
    #[error("{path} on it is a folder, not a file")]
    Folder {
        /// The path.
        path: String,
    },
}

/// The bytes of a drive, with what may still be read of them.
pub(super) struct Source<'s> {
    bytes: &'s dyn ReadAt,
    left: Cell<u64>,
}

impl Source<'_> {
    /// `length` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, VolumeError> {
        // Even an empty read costs, so that a loop of them ends.
        let left = self.left.get().checked_sub(length.max(16));
        self.left
            .set(left.ok_or(VolumeError::Damaged("reading it comes to no end"))?);
        // The budget bounds the length.
        let length =
            usize::try_from(length).map_err(|_| VolumeError::Damaged("an impossible length"))?;
        let mut buffer = vec![0; length];
        self.bytes
            .read_at(offset, &mut buffer)
            .map_err(|source| VolumeError::Read { offset, source })?;
        Ok(buffer)
    }
}

/// An entry of a folder: where its content is.
pub(super) enum Entry<P> {
    /// A file and its size.
    File(P, u64),
    /// A folder.
    Folder(P),
}

/// A file system that has been recognised.
pub struct Volume<'s> {
    source: Source<'s>,
    kind: Kind,
}

enum Kind {
    Iso(iso::Iso),
    Fat(fat::Fat),
}

impl<'s> Volume<'s> {
    /// Recognises the file system.
    pub fn open(bytes: &'s dyn ReadAt) -> Result<Self, VolumeError> {
        let source = Source {
            bytes,
            left: Cell::new(BUDGET),
        };
        let kind = if let Some(iso) = iso::Iso::open(&source)? {
            Kind::Iso(iso)
        } else if let Some(fat) = fat::Fat::open(&source)? {
            Kind::Fat(fat)
        } else {
            return Err(VolumeError::Unknown);
        };
        Ok(Self { source, kind })
    }

    /// What the file at `path` (`openstack/latest/user_data`) holds; `None`
    /// when it is not there. Case does not matter.
    pub fn file(&self, path: &str) -> Result<Option<Vec<u8>>, VolumeError> {
        match &self.kind {
            Kind::Iso(iso) => iso.file(&self.source, path),
            Kind::Fat(fat) => fat.file(&self.source, path),
        }
    }
}

/// Refuses what is too large before any of it is read.
pub(super) fn bounded(path: &str, size: u64) -> Result<u64, VolumeError> {
    if size > FILE_LIMIT {
        return Err(VolumeError::TooLarge { path: path.into() });
    }
    Ok(size)
}

/// One file of an image of a drive; for tests and for fuzzing.
pub fn read_file(image: &[u8], path: &str) -> Result<Option<Vec<u8>>, VolumeError> {
    Volume::open(&image)?.file(path)
}

/// Little-endian numbers of a header whose length has been checked; 0 beyond
/// its end, which no caller takes for valid.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at)) | u32::from(le16(bytes, at + 2)) << 16
}
