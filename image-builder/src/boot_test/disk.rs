//! Disks: a throw-away copy of an image, its partitions, and one flipped byte.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use sf_command::{Cmd, Tool};

use super::erofs;
use super::scenario::Tamper;

/// Bytes of a sector in a partition table's numbers.
const SECTOR: u64 = 512;

/// The partition type of `/usr` on x86-64, by the Discoverable Partitions
/// Specification.
pub const USR: &str = "8484680c-9521-48c6-9c11-b0720656f69e";

/// The partition type of the root file system on x86-64.
pub const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";

/// The partition type of the hashes that verify `/usr`.
pub const USR_VERITY: &str = "77ff5f63-e7b6-4633-acf4-1565b864c0e6";

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// Where an EROFS super block stands.
const SUPERBLOCK: u64 = 1024;

/// Why a disk cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] sf_command::Failure),
    /// The file could not be read or written.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The disk.
        path: Utf8PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A tool's answer is not what it should be.
    #[error("cannot understand {program}'s answer about {path}: {reason}")]
    Answer {
        /// The tool.
        program: &'static str,
        /// The disk.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk has no such partition.
    #[error("{path} has no {what} partition")]
    NoPartition {
        /// The disk.
        path: Utf8PathBuf,
        /// `/usr`, `root`.
        what: &'static str,
    },
    /// The file to tamper with has no data of its own on the disk.
    #[error("{file} has no data blocks in /usr (absent, empty or kept in its inode)")]
    NoData {
        /// The file.
        file: String,
    },
}

/// One partition, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Type, lower-case UUID.
    pub kind: String,
    /// Label, `sf_0.7.2-1`; `_empty` for a free slot.
    pub label: String,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// Copies an image to `copy` and grows it to `gib` GiB. Holes stay holes, and a
/// file system that can share blocks does.
pub fn throw_away_copy(image: &Utf8Path, copy: &Utf8Path, gib: u64) -> Result<(), Error> {
    Cmd::new(Tool::Cp)
        .args([
            "--reflink=auto",
            "--sparse=always",
            "--no-preserve=mode",
            "--",
        ])
        .args([image, copy])
        .run()?;
    let failed = |source| Error::Io {
        doing: "grow",
        path: copy.to_owned(),
        source,
    };
    let file = File::options().write(true).open(copy).map_err(failed)?;
    let wanted = gib << 30;
    if file.metadata().map_err(failed)?.len() < wanted {
        file.set_len(wanted).map_err(failed)?;
    }
    Ok(())
}

/// The partitions of a disk, in the order of their table.
pub fn partitions(disk: &Utf8Path) -> Result<Vec<Partition>, Error> {
    let output = Cmd::new(Tool::Sfdisk)
        .args(["--json", "--"])
        .arg(disk)
        .run()?;
    parse_partitions(&output.text()).map_err(|reason| Error::Answer {
        program: "sfdisk",
        path: disk.to_owned(),
        reason,
    })
}

fn parse_partitions(json: &str) -> Result<Vec<Partition>, String> {
    let table: serde_json::Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let partitions = table["partitiontable"]["partitions"]
        .as_array()
        .ok_or("no partitions")?;
    partitions
        .iter()
        .map(|partition| {
            let number = |key: &str| {
                partition[key]
                    .as_u64()
                    .ok_or_else(|| format!("no {key} in {partition}"))
            };
            Ok(Partition {
                kind: partition["type"]
                    .as_str()
                    .unwrap_or_default()
                    .to_ascii_lowercase(),
                label: partition["name"].as_str().unwrap_or_default().to_owned(),
                start: number("start")? * SECTOR,
                size: number("size")? * SECTOR,
            })
        })
        .collect()
}

/// The partition of a type that is in use.
pub fn find(disk: &Utf8Path, kind: &str, what: &'static str) -> Result<Partition, Error> {
    partitions(disk)?
        .into_iter()
        .find(|partition| partition.kind == kind && partition.label != "_empty")
        .ok_or_else(|| Error::NoPartition {
            path: disk.to_owned(),
            what,
        })
}

/// Hands the bytes of a partition to `take`, in order, holes left out: each
/// piece with its place in the partition.
pub fn data(
    disk: &Utf8Path,
    partition: &Partition,
    mut take: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> Result<(), Error> {
    let failed = |source| Error::Io {
        doing: "read",
        path: disk.to_owned(),
        source,
    };
    let file = File::open(disk).map_err(failed)?;
    let mut buffer = vec![0; PIECE];
    let end = partition.start + partition.size;
    let mut at = partition.start;
    while at < end {
        // Empty space is most of a fresh disk.
        let (from, until) = match extent(&file, at) {
            Ok(Some(extent)) => extent,
            Ok(None) => break,
            Err(source) => return Err(failed(source)),
        };
        at = from;
        while at < until.min(end) {
            let wanted = usize::try_from(until.min(end) - at)
                .unwrap_or(PIECE)
                .min(PIECE);
            file.read_exact_at(&mut buffer[..wanted], at)
                .map_err(failed)?;
            take(at - partition.start, &buffer[..wanted]).map_err(failed)?;
            at += wanted as u64;
        }
    }
    Ok(())
}

/// The next part of a file that is no hole, from `at` on.
fn extent(file: &File, at: u64) -> std::io::Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    match seek(file, SeekFrom::Data(at)) {
        Ok(from) => Ok(Some((from, seek(file, SeekFrom::Hole(from))?))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Copies a partition's bytes to a file of their own; holes stay holes.
pub fn extract(disk: &Utf8Path, partition: &Partition, to: &Utf8Path) -> Result<(), Error> {
    let failed = |source| Error::Io {
        doing: "write",
        path: to.to_owned(),
        source,
    };
    let into = File::create_new(to).map_err(failed)?;
    into.set_len(partition.size).map_err(failed)?;
    data(disk, partition, |at, bytes| into.write_all_at(bytes, at))
}

/// What was changed on a disk.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Flipped {
    /// Byte of the disk.
    pub offset: u64,
    /// Value before.
    pub before: u8,
    /// Value after.
    pub after: u8,
}

/// Flips every bit of one byte of the verified `/usr`. `scratch` is a file that
/// may be made and removed.
pub fn tamper(disk: &Utf8Path, tamper: &Tamper, scratch: &Utf8Path) -> Result<Flipped, Error> {
    let usr = find(disk, USR, "/usr")?;
    let within = match tamper {
        Tamper::Superblock => SUPERBLOCK,
        Tamper::File(file) => {
            extract(disk, &usr, scratch)?;
            let inside = file.strip_prefix("/usr").unwrap_or(file);
            let data = erofs::data_of(scratch, inside);
            // A copy of the image that nobody needs any more.
            let _ = fs_err::remove_file(scratch);
            data?.ok_or_else(|| Error::NoData { file: file.clone() })?
        }
    };
    flip(disk, usr.start + within)
}

fn flip(disk: &Utf8Path, offset: u64) -> Result<Flipped, Error> {
    let failed = |source| Error::Io {
        doing: "flip a byte of",
        path: disk.to_owned(),
        source,
    };
    let file = File::options()
        .read(true)
        .write(true)
        .open(disk)
        .map_err(failed)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).map_err(failed)?;
    let before = byte[0];
    let after = !before;
    file.write_all_at(&[after], offset).map_err(failed)?;
    Ok(Flipped {
        offset,
        before,
        after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"{"partitiontable": {"label":"gpt", "unit":"sectors", "sectorsize":512,
        "partitions": [
          {"node":"x1", "start":2048, "size":1048576, "type":"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "uuid":"A", "name":"esp"},
          {"node":"x2", "start":1050624, "size":2097152, "type":"8484680C-9521-48C6-9C11-B0720656F69E", "uuid":"B", "name":"sf_1"}
        ]}}"#;

    #[test]
    fn partitions_are_read_in_bytes() {
        let partitions = parse_partitions(TABLE).unwrap();
        assert_eq!(
            partitions[1],
            Partition {
                kind: USR.into(),
                label: "sf_1".into(),
                start: 1_050_624 * 512,
                size: 1 << 30
            }
        );
        assert!(parse_partitions("{}").is_err());
    }

    #[test]
    fn a_flip_changes_one_byte() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Utf8Path::from_path(folder.path()).unwrap().join("d");
        fs_err::write(&disk, [0, 1, 0x0f, 3]).unwrap();
        let flipped = flip(&disk, 2).unwrap();
        assert_eq!(
            flipped,
            Flipped {
                offset: 2,
                before: 0x0f,
                after: 0xf0
            }
        );
        assert_eq!(fs_err::read(&disk).unwrap(), [0, 1, 0xf0, 3]);
    }

    #[test]
    fn copies_keep_holes_and_grow() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let (image, copy, part) = (folder.join("i"), folder.join("c"), folder.join("p"));
        let file = File::create(&image).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(b"data", 4 << 20).unwrap();
        throw_away_copy(&image, &copy, 1).unwrap();
        let meta = fs_err::metadata(&copy).unwrap();
        assert_eq!(meta.len(), 1 << 30);
        assert!(meta.blocks() * 512 < 1 << 20);
        let partition = Partition {
            kind: ROOT.into(),
            label: String::new(),
            start: 3 << 20,
            size: 2 << 20,
        };
        extract(&copy, &partition, &part).unwrap();
        let bytes = fs_err::read(&part).unwrap();
        assert_eq!(bytes.len(), 2 << 20);
        assert_eq!(&bytes[1 << 20..(1 << 20) + 4], b"data");
    }
}
