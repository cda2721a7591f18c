//! The files of an initrd: a cpio archive of the "newc" kind, which the kernel
//! unpacks.
//!
//! Refuses: other kinds, and several archives behind one another (the initrd by
//! itself is one; kernel modules are appended to it in the UKI).

use super::{Entry, Kind};

/// Length of a header: the magic and 13 numbers of 8 hex digits.
const HEADER: usize = 110;

/// Why the bytes are no archive.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cpio archive of the newc kind: {0} at byte {1}")]
pub struct NotCpio(&'static str, usize);

/// The entries of an archive, in its order.
pub fn entries(archive: &[u8]) -> Result<Vec<Entry<'_>>, NotCpio> {
    let mut entries = Vec::new();
    let mut at = 0;
    loop {
        let header = archive
            .get(at..at + HEADER)
            .ok_or(NotCpio("it ends in a header", at))?;
        if !header.starts_with(b"070701") {
            return Err(NotCpio("no header", at));
        }
        let field = |index: usize| {
            let digits = std::str::from_utf8(&header[6 + index * 8..14 + index * 8]).ok();
            digits
                .and_then(|digits| usize::from_str_radix(digits, 16).ok())
                .ok_or(NotCpio("a number that is none", at))
        };
        let (mode, size, name_size) = (field(1)?, field(6)?, field(11)?);
        let name_start = at + HEADER;
        let data_start = aligned(name_start + name_size);
        let data_end = data_start + size;
        let short = || NotCpio("it ends in an entry", at);
        let name = archive
            .get(name_start..(name_start + name_size).saturating_sub(1))
            .ok_or_else(short)?;
        let content = archive.get(data_start..data_end).ok_or_else(short)?;
        let path =
            std::str::from_utf8(name).map_err(|_| NotCpio("a name that is not UTF-8", at))?;
        if path == "TRAILER!!!" {
            return Ok(entries);
        }
        let kind = match mode & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Folder,
            0o120_000 => Kind::Link,
            _ => Kind::Other,
        };
        let path = path.trim_start_matches("./").trim_start_matches('/');
        let mode = u32::try_from(mode & 0o7777).unwrap_or_default();
        entries.push(Entry {
            path,
            kind,
            mode,
            content,
        });
        at = aligned(data_end);
    }
}

fn aligned(offset: usize) -> usize {
    offset.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        for (name, mode, content) in files.iter().chain(&[("TRAILER!!!", 0, &b""[..])]) {
            let mut numbers = [0_usize; 13];
            (numbers[1], numbers[6], numbers[11]) = (*mode as usize, content.len(), name.len() + 1);
            bytes.extend(b"070701");
            for number in numbers {
                bytes.extend(format!("{number:08x}").bytes());
            }
            bytes.extend(name.bytes().chain([0]));
            bytes.resize(aligned(bytes.len()), 0);
            bytes.extend(*content);
            bytes.resize(aligned(bytes.len()), 0);
        }
        bytes
    }

    #[test]
    fn reads_files_folders_and_links() {
        let bytes = archive(&[
            ("usr", 0o040_755, b""),
            ("./usr/init", 0o104_755, b"#!"),
            ("bin", 0o120_777, b"usr/bin"),
        ]);
        let entries = entries(&bytes).expect("entries");
        let shown: Vec<_> = entries
            .iter()
            .map(|e| (e.path, e.kind, e.mode, e.content.len()))
            .collect();
        let want = [
            ("usr", Kind::Folder, 0o755, 0),
            ("usr/init", Kind::File, 0o4755, 2),
            ("bin", Kind::Link, 0o777, 7),
        ];
        assert_eq!(shown, want);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(entries(b"").is_err());
        assert!(entries(&[b'x'; 200]).is_err());
        let whole = archive(&[("a", 0o100_644, b"abc")]);
        assert!(entries(&whole[..whole.len() - 100]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut archive = archive(&[("a", 0o100_644, b"abc")]);
            let at = bytes.len() % archive.len();
            for (index, byte) in bytes.iter().enumerate() {
                let place = (at + index) % archive.len();
                archive[place] = *byte;
            }
            let _ = entries(&archive);
        }
    }
}
