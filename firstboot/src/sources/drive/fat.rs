//! FAT12, FAT16 and FAT32 with long names, after Microsoft's "FAT: General
//! Overview of On-Disk Format" (version 1.03). Reading only.

use super::volume::{Entry, FOLDER_LIMIT, Source, VolumeError, bounded, le16, le32};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

/// Where things are.
#[derive(Debug)]
pub(super) struct Fat {
    width: Width,
    table: u64,
    cluster: u64,
    clusters: u32,
    data: u64,
    root: Root,
}

/// FAT12 and FAT16 have a root folder of fixed place and size.
#[derive(Clone, Copy, Debug)]
enum Root {
    Fixed { offset: u64, length: u64 },
    Chain(u32),
}

const ENTRY: usize = 32;
const DAMAGED: VolumeError = VolumeError::Damaged("a chain of clusters leads out of the drive");

impl Fat {
    /// `None` when it is no FAT at all.
    pub(super) fn open(source: &Source<'_>) -> Result<Option<Self>, VolumeError> {
        let boot = source.read(0, 512)?;
        let sector = u64::from(le16(&boot, 11));
        let per_cluster = boot[13];
        let (reserved, tables) = (u64::from(le16(&boot, 14)), u64::from(boot[16]));
        if le16(&boot, 510) != 0xaa55
            || ![512, 1024, 2048, 4096].contains(&sector)
            || !per_cluster.is_power_of_two()
            || reserved == 0
            || !(1..=4).contains(&tables)
        {
            return Ok(None);
        }
        let entries = u64::from(le16(&boot, 17));
        let short = u64::from(le16(&boot, 22));
        let table_sectors = if short == 0 {
            u64::from(le32(&boot, 36))
        } else {
            short
        };
        let total = match le16(&boot, 19) {
            0 => u64::from(le32(&boot, 32)),
            total => u64::from(total),
        };
        let root_sectors = (entries * 32).div_ceil(sector);
        let root_at = reserved + tables * table_sectors;
        let data_at = root_at + root_sectors;
        let clusters = total
            .checked_sub(data_at)
            .map(|sectors| sectors / u64::from(per_cluster))
            .and_then(|clusters| u32::try_from(clusters).ok())
            .filter(|clusters| table_sectors > 0 && (1..0x0fff_fff5).contains(clusters))
            .ok_or(VolumeError::Damaged(
                "the sizes in its first sector contradict each other",
            ))?;
        // As Linux decides it: the count of clusters tells only 12 and 16 apart.
        let (width, root) = if short == 0 {
            (Width::ThirtyTwo, Root::Chain(le32(&boot, 44)))
        } else {
            let width = if clusters < 4085 {
                Width::Twelve
            } else {
                Width::Sixteen
            };
            let root = Root::Fixed {
                offset: root_at * sector,
                length: entries * 32,
            };
            (width, root)
        };
        Ok(Some(Self {
            width,
            table: reserved * sector,
            cluster: sector * u64::from(per_cluster),
            clusters,
            data: data_at * sector,
            root,
        }))
    }

    pub(super) fn file(
        &self,
        source: &Source<'_>,
        path: &str,
    ) -> Result<Option<Vec<u8>>, VolumeError> {
        let mut folder = match self.root {
            Root::Fixed { offset, length } => {
                if length > FOLDER_LIMIT {
                    return Err(VolumeError::Damaged("a folder is too large"));
                }
                source.read(offset, length)?
            }
            Root::Chain(first) => self.folder(source, first)?,
        };
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            match (find(&folder, part, self.width), parts.peek()) {
                (None, _) | (Some(Entry::File(..)), Some(_)) => return Ok(None),
                (Some(Entry::Folder(first)), Some(_)) => folder = self.folder(source, first)?,
                (Some(Entry::Folder(_)), None) => {
                    return Err(VolumeError::Folder { path: path.into() });
                }
                (Some(Entry::File(first, size)), None) => {
                    let size = bounded(path, size)?;
                    return self.chain(source, first, Some(size)).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn folder(&self, source: &Source<'_>, first: u32) -> Result<Vec<u8>, VolumeError> {
        self.chain(source, first, None)
    }

    /// The bytes of a chain: `size` of them, or for a folder all up to a limit.
    fn chain(
        &self,
        source: &Source<'_>,
        first: u32,
        size: Option<u64>,
    ) -> Result<Vec<u8>, VolumeError> {
        let mut bytes = Vec::new();
        let mut next = Some(first);
        loop {
            let have = bytes.len() as u64;
            let wanted = match size {
                Some(size) if have >= size => return Ok(bytes),
                Some(size) => (size - have).min(self.cluster),
                None if have >= FOLDER_LIMIT => {
                    return Err(VolumeError::Damaged("a folder has no end"));
                }
                None => self.cluster,
            };
            let Some(cluster) = next else {
                return match size {
                    None => Ok(bytes),
                    Some(_) => Err(VolumeError::Damaged("a file is shorter than its size")),
                };
            };
            let index = cluster
                .checked_sub(2)
                .filter(|index| *index < self.clusters);
            let offset = self.data + u64::from(index.ok_or(DAMAGED)?) * self.cluster;
            bytes.extend(source.read(offset, wanted)?);
            next = self.next(source, cluster)?;
        }
    }

    /// The cluster after this one; `None` at the end of the chain.
    fn next(&self, source: &Source<'_>, cluster: u32) -> Result<Option<u32>, VolumeError> {
        let at = u64::from(cluster);
        let (next, end) = match self.width {
            Width::Twelve => {
                let pair = le16(&source.read(self.table + at + at / 2, 2)?, 0);
                let next = if cluster % 2 == 1 {
                    pair >> 4
                } else {
                    pair & 0x0fff
                };
                (u32::from(next), 0x0ff8)
            }
            Width::Sixteen => {
                let next = le16(&source.read(self.table + at * 2, 2)?, 0);
                (u32::from(next), 0xfff8)
            }
            Width::ThirtyTwo => {
                let next = le32(&source.read(self.table + at * 4, 4)?, 0) & 0x0fff_ffff;
                (next, 0x0fff_fff8)
            }
        };
        Ok((next < end).then_some(next))
    }
}

/// A long name under way: its parts stand in front of the short entry, the
/// last one first.
struct Long {
    units: [u16; 13 * 20],
    checksum: u8,
    parts: u8,
}

impl Long {
    /// Takes a part in; `None` when it does not fit what came before.
    fn part(before: Option<Self>, entry: &[u8]) -> Option<Self> {
        let (order, last) = (entry[0] & 0x3f, entry[0] & 0x40 != 0);
        if !(1..=20).contains(&order) {
            return None;
        }
        let mut long = if last {
            Self {
                units: [0; 13 * 20],
                checksum: entry[13],
                parts: order + 1,
            }
        } else {
            before?
        };
        if long.parts != order + 1 || long.checksum != entry[13] {
            return None;
        }
        long.parts = order;
        let places = (1..11).chain(14..26).chain(28..32).step_by(2);
        let from = usize::from(order - 1) * 13;
        for (unit, place) in long.units[from..from + 13].iter_mut().zip(places) {
            *unit = le16(entry, place);
        }
        Some(long)
    }

    fn name(&self) -> String {
        let end = self
            .units
            .iter()
            .position(|unit| matches!(unit, 0 | 0xffff));
        String::from_utf16_lossy(&self.units[..end.unwrap_or(self.units.len())])
    }
}

fn find(folder: &[u8], wanted: &str, width: Width) -> Option<Entry<u32>> {
    let mut long: Option<Long> = None;
    for entry in folder.chunks_exact(ENTRY) {
        let attributes = entry[11];
        match entry[0] {
            0 => return None,
            0xe5 => long = None,
            _ if attributes & 0x3f == 0x0f => long = Long::part(long, entry),
            _ => {
                let name = long
                    .take()
                    .filter(|long| long.parts == 1 && long.checksum == checksum(&entry[..11]))
                    .map(|long| long.name());
                let ours = |name: &str| name.eq_ignore_ascii_case(wanted);
                let label = attributes & 0x08 != 0;
                if !label && (name.as_deref().is_some_and(ours) || ours(&short_name(entry))) {
                    let high = match width {
                        Width::ThirtyTwo => u32::from(le16(entry, 20)) << 16,
                        _ => 0,
                    };
                    let first = high | u32::from(le16(entry, 26));
                    return Some(if attributes & 0x10 != 0 {
                        Entry::Folder(first)
                    } else {
                        Entry::File(first, u64::from(le32(entry, 28)))
                    });
                }
            }
        }
    }
    None
}

/// `USER-D~1`, or with an extension `META.TXT`.
fn short_name(entry: &[u8]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (base, extension) = (part(&entry[..8]), part(&entry[8..11]));
    if extension.is_empty() {
        base
    } else {
        format!("{base}.{extension}")
    }
}

/// Ties the parts of a long name to their short entry.
fn checksum(short: &[u8]) -> u8 {
    short
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}
