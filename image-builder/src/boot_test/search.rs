//! Looking for the marker secrets in bytes, files and folders.

use std::io::Read;

use camino::Utf8Path;
use serde::Serialize;

use super::scenario::{Allowed, row_matches};
use super::secret::Pattern;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A secret that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// `console`, `disk:/etc/sf/config`, `environ:sf-daemon.service/ip`, `journal`.
    pub place: String,
    /// The secret's name.
    pub secret: String,
    /// `plain`, `base64`, `hex`.
    pub form: &'static str,
    /// Why it may be there; `None` for a leak.
    pub allowed: Option<String>,
}

/// Looks for many patterns at once.
#[derive(Debug)]
pub struct Searcher {
    patterns: Vec<Pattern>,
    /// Whether a pattern starts with these two bytes.
    starts: Vec<bool>,
    longest: usize,
    /// Places that were looked at, and bytes.
    places: usize,
    bytes: u64,
    findings: Vec<Finding>,
}

impl Searcher {
    /// A searcher for these patterns, each of two bytes or more.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        let mut starts = vec![false; 1 << 16];
        for pattern in &patterns {
            starts[two(&pattern.bytes)] = true;
        }
        let longest = patterns
            .iter()
            .map(|pattern| pattern.bytes.len())
            .max()
            .unwrap_or(2);
        Self {
            patterns,
            starts,
            longest,
            places: 0,
            bytes: 0,
            findings: Vec::new(),
        }
    }

    /// Begins a place whose bytes come piece by piece.
    pub fn begin(&mut self, place: &str) -> Stream<'_> {
        self.places += 1;
        Stream {
            place: place.to_owned(),
            window: Vec::new(),
            searcher: self,
        }
    }

    /// Looks through a stream.
    pub fn read(&mut self, place: &str, mut from: impl Read) -> std::io::Result<()> {
        let mut stream = self.begin(place);
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => stream.feed(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn window(&mut self, place: &str, window: &[u8]) {
        for (at, pair) in window.windows(2).enumerate() {
            if !self.starts[two(pair)] {
                continue;
            }
            for pattern in &self.patterns {
                if window[at..].starts_with(&pattern.bytes) {
                    self.findings.push(Finding {
                        place: place.to_owned(),
                        secret: pattern.secret.clone(),
                        form: pattern.form,
                        allowed: None,
                    });
                }
            }
        }
    }

    /// Looks through text that is at hand.
    pub fn text(&mut self, place: &str, text: &str) {
        // Reading from memory does not fail.
        let _ = self.read(place, text.as_bytes());
    }

    /// Looks through one file, its name included.
    pub fn file(&mut self, place: &str, path: &Utf8Path) -> std::io::Result<()> {
        self.text(place, path.as_str());
        self.read(place, fs_err::File::open(path)?)
    }

    /// Looks through everything below a folder: names, link targets, contents.
    pub fn folder(&mut self, scheme: &str, folder: &Utf8Path) -> std::io::Result<()> {
        let mut folders = vec![folder.to_owned()];
        while let Some(current) = folders.pop() {
            for entry in current.read_dir_utf8()? {
                let entry = entry?;
                let path = entry.path();
                let inside = path.strip_prefix(folder).unwrap_or(path);
                let place = format!("{scheme}:/{inside}");
                let kind = entry.file_type()?;
                if kind.is_symlink() {
                    let target = fs_err::read_link(path)?;
                    self.text(&place, &target.to_string_lossy());
                } else if kind.is_dir() {
                    folders.push(path.to_owned());
                } else if kind.is_file() {
                    self.file(&place, path)?;
                }
            }
        }
        Ok(())
    }

    /// Looks through a record of processes: lines `cmdline PID UNIT/NAME …` and
    /// `environ PID UNIT/NAME …`.
    pub fn processes(&mut self, record: &str) {
        for line in record.lines() {
            let mut words = line.splitn(4, ' ');
            let (Some(what), Some(_), Some(name), Some(text)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            self.text(&format!("{what}:{name}"), text);
        }
    }

    /// How many places and bytes were looked at.
    pub fn extent(&self) -> (usize, u64) {
        (self.places, self.bytes)
    }

    /// What was found, each place and form once, with the reasons of `allowed`.
    pub fn findings(mut self, allowed: &[Allowed]) -> Vec<Finding> {
        self.findings.sort();
        self.findings.dedup();
        for finding in &mut self.findings {
            finding.allowed = allowed
                .iter()
                .find(|allowed| {
                    let secret = allowed.secret.as_ref();
                    row_matches(&allowed.place, &finding.place)
                        && secret.is_none_or(|secret| *secret == finding.secret)
                })
                .map(|allowed| allowed.reason.clone());
        }
        self.findings
    }
}

/// One place that is being looked through.
#[derive(Debug)]
pub struct Stream<'s> {
    place: String,
    /// The end of the last piece, and the next one.
    window: Vec<u8>,
    searcher: &'s mut Searcher,
}

impl Stream<'_> {
    /// Looks through the next bytes; a secret may stand across two pieces.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.searcher.bytes += bytes.len() as u64;
        self.window.extend_from_slice(bytes);
        self.searcher.window(&self.place, &self.window);
        let keep = self.window.len().saturating_sub(self.searcher.longest - 1);
        self.window.drain(..keep);
    }
}

fn two(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_test::secret::Secrets;

    #[test]
    fn secrets_are_found_wherever_they_stand_and_excused_where_listed() {
        let secrets = Secrets::random().unwrap();
        let key = secrets.value("system_key");
        let seed = secrets.value("auth_seed");
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        fs_err::create_dir_all(root.join("etc/sf")).unwrap();
        fs_err::write(root.join("etc/sf/config"), format!("SEED=\"{seed}\"\n")).unwrap();
        fs_err::write(root.join("clean"), "nothing\n").unwrap();
        // Across the border of two chunks.
        let mut big = vec![b'x'; CHUNK - 5];
        big.extend_from_slice(hex::encode(key).as_bytes());
        fs_err::write(root.join("big"), big).unwrap();
        std::os::unix::fs::symlink(format!("/{seed}"), root.join("link")).unwrap();

        let mut searcher = Searcher::new(secrets.patterns());
        searcher.folder("disk", root).unwrap();
        searcher.processes(&format!(
            "cmdline 7 x.service/sf-ctl sf-ctl set {key}\nenviron 8 y.service/sf A={seed}\n"
        ));
        assert!(searcher.extent().0 >= 5);
        let allowed = [
            Allowed {
                place: "disk:/etc/sf/*".into(),
                secret: Some("auth_seed".into()),
                reason: "read by the daemons".into(),
            },
            Allowed {
                place: "environ:*".into(),
                secret: Some("system_key".into()),
                reason: "no".into(),
            },
        ];
        let found: Vec<(String, &str, bool)> = searcher
            .findings(&allowed)
            .into_iter()
            .map(|finding| {
                (
                    format!("{} {}", finding.place, finding.secret),
                    finding.form,
                    finding.allowed.is_some(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (
                    "cmdline:x.service/sf-ctl system_key".to_owned(),
                    "plain",
                    false
                ),
                ("disk:/big system_key".to_owned(), "hex", false),
                ("disk:/etc/sf/config auth_seed".to_owned(), "plain", true),
                ("disk:/link auth_seed".to_owned(), "plain", false),
                ("environ:y.service/sf auth_seed".to_owned(), "plain", false),
            ]
        );
    }
}
