//! ISO 9660 (ECMA-119) with the names of Rock Ridge (IEEE P1282, entry NM) or
//! Joliet. Reading only.

use super::volume::{Entry, FOLDER_LIMIT, Source, VolumeError, bounded, le16, le32};

const SECTOR: u64 = 2048;
/// Volume descriptors that are looked at; real discs have three or four.
const DESCRIPTORS: u64 = 32;
/// Continuation areas of one record that are followed.
const CONTINUATIONS: u32 = 8;

/// The trees of a disc: the primary one, and Joliet's.
#[derive(Debug)]
pub(super) struct Iso {
    block: u64,
    primary: Extent,
    joliet: Option<Extent>,
}

/// Where content is, in blocks and bytes.
#[derive(Clone, Copy, Debug)]
struct Extent {
    block: u32,
    length: u32,
}

impl Extent {
    /// Of a directory record: location at 2, length at 10, each in both orders.
    /// The content stands behind the extended attributes, whose blocks are
    /// counted at 1.
    fn of(record: &[u8]) -> Self {
        Self {
            block: le32(record, 2).saturating_add(u32::from(record[1])),
            length: le32(record, 10),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Primary,
    Joliet,
}

impl Iso {
    /// `None` when it is no ISO 9660 at all.
    pub(super) fn open(source: &Source<'_>) -> Result<Option<Self>, VolumeError> {
        let mut found: Option<(u64, Extent)> = None;
        let mut joliet = None;
        for number in 0..DESCRIPTORS {
            let descriptor = match source.read((16 + number) * SECTOR, SECTOR) {
                Ok(descriptor) => descriptor,
                // Too short for a disc: not this kind.
                Err(VolumeError::Read { source: error, .. })
                    if number == 0 && error.kind() == std::io::ErrorKind::UnexpectedEof =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if &descriptor[1..6] != b"CD001" {
                if number == 0 {
                    return Ok(None);
                }
                break;
            }
            let root = Extent::of(&descriptor[156..190]);
            match descriptor[0] {
                1 if found.is_none() => found = Some((u64::from(le16(&descriptor, 128)), root)),
                2 if is_joliet(&descriptor[88..91]) => joliet = Some(root),
                255 => break,
                _ => {}
            }
        }
        let (block, primary) = found.ok_or(VolumeError::Damaged(
            "the disc has no primary volume descriptor",
        ))?;
        if ![512, 1024, 2048].contains(&block) {
            return Err(VolumeError::Damaged("the disc's block size is impossible"));
        }
        Ok(Some(Self {
            block,
            primary,
            joliet,
        }))
    }

    pub(super) fn file(
        &self,
        source: &Source<'_>,
        path: &str,
    ) -> Result<Option<Vec<u8>>, VolumeError> {
        let found = self.walk(source, self.primary, Names::Primary, path)?;
        match (found, self.joliet) {
            (None, Some(joliet)) => self.walk(source, joliet, Names::Joliet, path),
            (found, _) => Ok(found),
        }
    }

    fn walk(
        &self,
        source: &Source<'_>,
        root: Extent,
        names: Names,
        path: &str,
    ) -> Result<Option<Vec<u8>>, VolumeError> {
        let mut folder = root;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            match (self.find(source, folder, names, part)?, parts.peek()) {
                (None, _) | (Some(Entry::File(..)), Some(_)) => return Ok(None),
                (Some(Entry::Folder(below)), Some(_)) => folder = below,
                (Some(Entry::Folder(_)), None) => {
                    return Err(VolumeError::Folder { path: path.into() });
                }
                (Some(Entry::File(extent, size)), None) => {
                    let size = bounded(path, size)?;
                    return source.read(self.offset(extent), size).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn offset(&self, extent: Extent) -> u64 {
        u64::from(extent.block) * self.block
    }

    fn find(
        &self,
        source: &Source<'_>,
        folder: Extent,
        names: Names,
        wanted: &str,
    ) -> Result<Option<Entry<Extent>>, VolumeError> {
        let length = u64::from(folder.length);
        if length > FOLDER_LIMIT {
            return Err(VolumeError::Damaged("a folder is too large"));
        }
        let bytes = source.read(self.offset(folder), length)?;
        // Records do not cross blocks; the rest of a block is zero.
        let block = usize::try_from(self.block).unwrap_or(2048);
        for block in bytes.chunks(block) {
            let mut rest = block;
            while let Some(&length) = rest.first().filter(|length| **length != 0) {
                let record = rest
                    .get(..usize::from(length))
                    .filter(|record| record.len() >= 34)
                    .ok_or(VolumeError::Damaged("a folder's record is cut off"))?;
                rest = &rest[usize::from(length)..];
                let id = record
                    .get(33..33 + usize::from(record[32]))
                    .ok_or(VolumeError::Damaged("a file's name is cut off"))?;
                // The folder itself and the one above it.
                if matches!(id, [0 | 1]) {
                    continue;
                }
                let name = match names {
                    Names::Joliet => joliet_name(id),
                    Names::Primary => match self.rock_ridge(source, record)? {
                        Some(name) => name,
                        None => plain(&String::from_utf8_lossy(id)).to_owned(),
                    },
                };
                if !name.eq_ignore_ascii_case(wanted) {
                    continue;
                }
                let extent = Extent::of(record);
                let flags = record[25];
                if flags & 0x80 != 0 {
                    return Err(VolumeError::TooLarge {
                        path: wanted.into(),
                    });
                }
                return Ok(Some(if flags & 0x02 != 0 {
                    Entry::Folder(extent)
                } else {
                    Entry::File(extent, u64::from(extent.length))
                }));
            }
        }
        Ok(None)
    }

    /// The name of the NM entries in a record's system use area, if any.
    fn rock_ridge(
        &self,
        source: &Source<'_>,
        record: &[u8],
    ) -> Result<Option<String>, VolumeError> {
        let name = usize::from(record[32]);
        // A name of even length has a byte of padding behind it.
        let start = 33 + name + usize::from(name.is_multiple_of(2));
        let mut area = record.get(start..).unwrap_or_default().to_vec();
        let mut found: Option<Vec<u8>> = None;
        for _ in 0..CONTINUATIONS {
            let mut next = None;
            let mut rest = area.as_slice();
            while let [signature @ .., _, _] = rest.get(..4).unwrap_or_default() {
                let length = usize::from(rest[2]);
                let Some(entry) = rest.get(..length).filter(|_| length >= 4) else {
                    break;
                };
                match signature {
                    b"NM" if entry.len() >= 5 && entry[4] & 0x06 == 0 => {
                        found.get_or_insert_default().extend(&entry[5..]);
                    }
                    b"CE" if entry.len() >= 28 => {
                        next = Some((le32(entry, 4), le32(entry, 12), le32(entry, 20)));
                    }
                    b"ST" => break,
                    _ => {}
                }
                rest = &rest[length..];
            }
            let Some((block, offset, length)) = next else {
                break;
            };
            let at = u64::from(block) * self.block + u64::from(offset);
            area = source.read(at, u64::from(length).min(SECTOR))?;
        }
        Ok(found.map(|name| String::from_utf8_lossy(&name).into_owned()))
    }
}

/// The escape sequences of UCS-2 levels 1, 2 and 3.
fn is_joliet(escape: &[u8]) -> bool {
    matches!(escape, b"%/@" | b"%/C" | b"%/E")
}

fn joliet_name(id: &[u8]) -> String {
    let units: Vec<u16> = id
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    plain(&String::from_utf16_lossy(&units)).to_owned()
}

/// Less the version and the dot of an empty extension: `USER.;1` is `USER`.
fn plain(id: &str) -> &str {
    let name = id.split_once(';').map_or(id, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}
