//! Shared libraries that a program of ours needs and the image does not have.
//!
//! Packages of the distribution bring what they depend on; wheels depend on
//! libraries that nobody declares, and are missed only when a daemon starts.

use std::collections::BTreeSet;

use object::read::elf::{Dyn as _, ElfFile64};
use object::{Endianness, elf};

use super::{Entry, Kind};

/// What the files of an image offer and need.
#[derive(Debug, Default)]
pub(super) struct Libraries {
    offered: BTreeSet<String>,
    /// Path of the file that needs it, and the library's name.
    needed: Vec<(String, String)>,
}

impl Libraries {
    /// Learns from one entry; `path` is how a node sees it.
    pub(super) fn learn(&mut self, entry: &Entry<'_>, path: &str) {
        let name = path.rsplit('/').next().unwrap_or_default();
        if matches!(entry.kind, Kind::File | Kind::Link) && name.contains(".so") {
            self.offered.insert(name.to_owned());
        }
        if entry.kind == Kind::File && entry.content.starts_with(b"\x7fELF") {
            let needed = needed(entry.content).unwrap_or_default();
            self.needed
                .extend(needed.into_iter().map(|library| (path.to_owned(), library)));
        }
    }

    /// Takes over what was learnt elsewhere of the same image.
    pub(super) fn merge(&mut self, other: Self) {
        self.offered.extend(other.offered);
        self.needed.extend(other.needed);
    }

    /// Each file with a library that is nowhere in the image.
    pub(super) fn missing(self) -> impl Iterator<Item = (String, String)> {
        let Self { offered, needed } = self;
        needed
            .into_iter()
            .filter(move |(_, library)| !offered.contains(library))
    }
}

/// The `DT_NEEDED` entries of a 64-bit ELF file; `None` when it has none to read.
fn needed(content: &[u8]) -> Option<Vec<String>> {
    let file = ElfFile64::<Endianness>::parse(content).ok()?;
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let (entries, link) = sections.dynamic(endian, content).ok()??;
    let strings = sections.strings(endian, content, link).ok()?;
    let names = entries
        .iter()
        .filter(|entry| entry.tag(endian) == elf::DT_NEEDED)
        .filter_map(|entry| entry.string(endian, strings).ok())
        .map(|name| String::from_utf8_lossy(name).into_owned());
    Some(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test program: it needs the C library, whatever the host.
    fn program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn entry<'a>(path: &'a str, content: &'a [u8]) -> Entry<'a> {
        Entry {
            path,
            kind: Kind::File,
            mode: 0o755,
            content,
        }
    }

    #[test]
    fn a_library_that_is_nowhere_is_missing() {
        let program = program();
        let mut libraries = Libraries::default();
        libraries.learn(
            &entry("usr/lib/x/module.so", &program),
            "/usr/lib/x/module.so",
        );
        let missing: Vec<(String, String)> = libraries.missing().collect();
        assert!(
            missing.contains(&("/usr/lib/x/module.so".into(), "libc.so.6".into())),
            "{missing:?}"
        );
    }

    #[test]
    fn a_library_that_is_there_is_not() {
        let program = program();
        let mut libraries = Libraries::default();
        libraries.learn(&entry("usr/bin/x", &program), "/usr/bin/x");
        let mut elsewhere = Libraries::default();
        for name in needed(&program).unwrap() {
            let path = format!("usr/lib/x86_64-linux-gnu/{name}");
            elsewhere.learn(&entry(&path, b""), &path);
        }
        libraries.merge(elsewhere);
        assert_eq!(libraries.missing().count(), 0);
    }
}
