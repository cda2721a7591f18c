//! Where a file's data stands in an EROFS image.
//!
//! `dump.erofs` says it, but the one of Debian 12 does not know zstd and stops
//! after the inode. So the first entry of a compressed file's index is read
//! here: the one number that is needed, not the format.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use sf_command::{Cmd, Tool};

use super::disk::Error;

/// Where the super block stands, and its magic number.
const SUPERBLOCK: (u64, u32) = (1024, 0xe0f5_e1e2);

/// `dump.erofs`'s name for a compressed file with a compact index.
const COMPACT: u64 = 3;

/// Flags in the head of a compressed file's index.
const PACKED_IN_TWO_BYTES: u16 = 0x1;
/// See [`PACKED_IN_TWO_BYTES`].
const BIG_CLUSTERS: u16 = 0x2;
/// See [`PACKED_IN_TWO_BYTES`].
const FRAGMENTS: u16 = 0x20;

/// What `dump.erofs` says about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inode {
    number: u64,
    layout: u64,
    size: u64,
    /// Bytes of the inode itself and of its extended attributes.
    length: u64,
    /// First and last byte of the first extent, where it could say so.
    extent: Option<(u64, u64)>,
}

/// A byte in the first data block of `path` (as seen from the image's root) in
/// the EROFS image `image`; `None` when the file has no block of its own.
pub fn data_of(image: &Utf8Path, path: &str) -> Result<Option<u64>, Error> {
    let answer = Cmd::new(Tool::DumpErofs)
        .args(["-e", &format!("--path={path}")])
        .arg(image)
        .run()?
        .text();
    let Some(inode) = Inode::parse(&answer) else {
        return Ok(None);
    };
    let failed = |source| Error::Io {
        doing: "read",
        path: image.to_owned(),
        source,
    };
    let file = File::open(image).map_err(failed)?;
    inode
        .data(&|at, bytes| file.read_exact_at(bytes, at))
        .map_err(failed)
}

impl Inode {
    /// Reads the answer of `dump.erofs -e --path`:
    ///
    /// ```text
    /// Size: 3388776  On-disk size: 1773568  regular file
    /// NID: 1243776   Links: 1   Layout: 3   Compression ratio: 52.34%
    /// Inode size: 64   Extent size: 0   Xattr size: 0
    ///  Ext:   logical offset   |  length :     physical offset    |  length
    ///    0:        0..   61440 |   61440 :   12288000..  12304384 |   16384
    /// ```
    fn parse(answer: &str) -> Option<Self> {
        let number = |name: &str| -> Option<u64> {
            let (_, rest) = answer.split_once(&format!("{name}:"))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let extent = answer.lines().find_map(|line| {
            let (index, extent) = line.trim().split_once(':')?;
            index.parse::<u64>().ok()?;
            let (range, _) = extent.split_once(':')?.1.split_once('|')?;
            let (start, end) = range.split_once("..")?;
            let range: (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
            (range.1 > range.0).then_some(range)
        });
        Some(Self {
            number: number("NID")?,
            layout: number("Layout")?,
            size: number("Size")?,
            length: number("Inode size")? + number("Xattr size")?,
            extent,
        })
    }

    /// The byte in the middle of the first data block.
    fn data(
        &self,
        read: &dyn Fn(u64, &mut [u8]) -> std::io::Result<()>,
    ) -> std::io::Result<Option<u64>> {
        if let Some((start, end)) = self.extent {
            return Ok(Some(start + (end - start).min(4096) / 2));
        }
        let word = |at: u64| -> std::io::Result<u32> {
            let mut bytes = [0; 4];
            read(at, &mut bytes)?;
            Ok(u32::from_le_bytes(bytes))
        };
        if self.layout != COMPACT || word(SUPERBLOCK.0)? != SUPERBLOCK.1 {
            return Ok(None);
        }
        let block_bits = word(SUPERBLOCK.0 + 12)? & 0xff;
        let inodes = u64::from(word(SUPERBLOCK.0 + 40)?) << block_bits;
        let head = (inodes + self.number * 32 + self.length).next_multiple_of(8);
        let flags = u16::try_from(word(head + 4)? & 0xffff).unwrap_or_default();
        if flags & FRAGMENTS != 0 {
            return Ok(None);
        }
        // Entries are packed, two in 8 bytes up to a multiple of 32, then 16 in
        // 32 bytes if there are as many. The block's number closes a pack.
        let index = head + 8;
        let clusters = self.size.div_ceil(1 << block_bits);
        let wide = index.is_multiple_of(32) && flags & PACKED_IN_TWO_BYTES != 0 && clusters >= 16;
        let block = word(index + if wide { 28 } else { 4 })?;
        // Without big clusters it is that of the block before.
        let block = u64::from(block) + u64::from(flags & BIG_CLUSTERS == 0);
        Ok(Some((block << block_bits) + (1 << block_bits) / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "File : /bin/x\nSize: 3388776  On-disk size: 1773568  regular file\n\
        NID: 40   Links: 1   Layout: 3   Compression ratio: 52.34%\n\
        Inode size: 64   Extent size: 0   Xattr size: 12\n\n \
        Ext:   logical offset   |  length :     physical offset    |  length\n";

    #[test]
    fn extents_are_believed_where_there_are_any() {
        let text =
            format!("{OLD}   0:        0..   61440 |   61440 :   12288000..  12304384 |   16384\n");
        let inode = Inode::parse(&text).unwrap();
        assert_eq!(inode.extent, Some((12_288_000, 12_304_384)));
        assert_eq!(
            inode.data(&|_, _| unreachable!()).unwrap(),
            Some(12_288_000 + 2048)
        );
        assert_eq!(Inode::parse("not found\n"), None);
    }

    #[test]
    fn the_index_is_read_where_there_are_none() {
        let inode = Inode::parse(OLD).unwrap();
        assert_eq!((inode.number, inode.length, inode.extent), (40, 76, None));
        let mut image = vec![0; 16384];
        let mut put =
            |at: usize, value: u32| image[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(1024, SUPERBLOCK.1);
        put(1024 + 12, 12);
        put(1024 + 40, 1);
        // 4096 + 40 * 32 + 76 = 5452, aligned 5456; the index at 5464.
        put(5460, u32::from(BIG_CLUSTERS | PACKED_IN_TWO_BYTES));
        put(5468, 1000);
        let data = |image: &[u8]| {
            inode
                .data(&|at, bytes| {
                    let at = usize::try_from(at).unwrap();
                    bytes.copy_from_slice(&image[at..at + bytes.len()]);
                    Ok(())
                })
                .unwrap()
        };
        assert_eq!(data(&image), Some(1000 * 4096 + 2048));
        image[5460] = 0;
        assert_eq!(data(&image), Some(1001 * 4096 + 2048));
        image[5460] = 0x20;
        assert_eq!(data(&image), None);
    }
}
