//! The search for the marker secrets in everything that a machine leaves.

use camino::Utf8Path;
use serde_json::{Value, json};
use sf_command::{Cmd, Tool};

use super::{Engine, Seen, chain};
use crate::boot_test::disk;
use crate::boot_test::scenario::SearchStep;
use crate::boot_test::search::Searcher;

/// Why the search could not look somewhere.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error(transparent)]
    Command(#[from] sf_command::Failure),
    #[error("cannot read {what}")]
    Io {
        what: String,
        source: std::io::Error,
    },
}

impl Engine<'_> {
    /// Searches consoles, result ports, process records, journals, manifests,
    /// QEMU's arguments, results so far, and the disks.
    pub(super) fn search_secrets(&mut self, step: &SearchStep) -> Seen {
        let asked = json!({
            "machines": step.vms,
            "allowed": step.allow.iter().map(|allowed| json!({
                "place": allowed.place,
                "secret": allowed.secret,
                "reason": allowed.reason,
            })).collect::<Vec<_>>(),
        });
        let mut searcher = Searcher::new(self.secrets.patterns());
        for name in &step.vms {
            let Some(index) = self.index(name) else {
                continue;
            };
            if let Err(error) = self.search_machine(index, &mut searcher) {
                return Seen::bad(asked, Value::Null, format!("{name}: {}", chain(&error)));
            }
        }
        self.search_letters(&mut searcher);
        let mut report = self.report();
        report.count();
        searcher.text("results", &report.to_json());
        searcher.text("results", &report.to_text());

        let (places, bytes) = searcher.extent();
        let findings = searcher.findings(&step.allow);
        let leaks: Vec<String> = findings
            .iter()
            .filter(|finding| finding.allowed.is_none())
            .map(|finding| format!("{} ({}) in {}", finding.secret, finding.form, finding.place))
            .collect();
        let unused: Vec<&str> = step
            .allow
            .iter()
            .filter(|allowed| {
                !findings
                    .iter()
                    .any(|finding| finding.allowed.as_ref() == Some(&allowed.reason))
            })
            .map(|allowed| allowed.place.as_str())
            .collect();
        let answered = json!({
            "places": places,
            "bytes": bytes,
            "findings": findings,
            "allowed_but_clean": unused,
        });
        let problem = (!leaks.is_empty())
            .then(|| format!("a secret is where it must not be:\n{}", leaks.join("\n")));
        Seen {
            asked,
            answered,
            problem,
        }
    }

    fn search_machine(&self, index: usize, searcher: &mut Searcher) -> Result<(), Error> {
        let machine = &self.machines[index];
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| Error::Io { what, source }
        };
        for boot in machine.boots() {
            for (place, file) in [
                ("console", "console.log"),
                ("result-port", "result.jsonl"),
                ("journal", "journal.export"),
                ("qemu-log", "qemu.log"),
            ] {
                let path = boot.folder.join(file);
                if path.exists() {
                    searcher
                        .read(place, fs_err::File::open(&path).map_err(io(file))?)
                        .map_err(io(file))?;
                }
            }
            // A process record is made in every boot that was shut down in order.
            let record =
                fs_err::read(boot.folder.join("processes")).map_err(io("the process record"))?;
            searcher.processes(&String::from_utf8_lossy(&record));
            searcher.text("qemu-arguments", &String::from_utf8_lossy(&boot.arguments));
        }
        if let Some(manifest) = machine
            .image
            .parent()
            .map(|folder| folder.join("manifest.json"))
            && manifest.exists()
        {
            searcher
                .file("manifest", &manifest)
                .map_err(io("the manifest"))?;
        }
        let scratch = machine.folder().join("search");
        fs_err::create_dir_all(&scratch).map_err(io("the scratch folder"))?;
        let result = search_disk(&machine.disk(), &scratch, searcher);
        fs_err::remove_dir_all(&scratch).map_err(io("the scratch folder"))?;
        result
    }
}

/// Searches the root file system file by file, its journals decompressed, and
/// every other partition byte by byte; not `/usr`, which is older than the
/// secrets and verified.
fn search_disk(disk: &Utf8Path, scratch: &Utf8Path, searcher: &mut Searcher) -> Result<(), Error> {
    for partition in disk::partitions(disk)? {
        match partition.kind.as_str() {
            disk::ROOT => search_root(disk, &partition, scratch, searcher)?,
            disk::USR | disk::USR_VERITY if partition.label != "_empty" => {}
            _ => {
                let mut stream = searcher.begin(&format!("partition:{}", partition.label));
                disk::data(disk, &partition, |_, bytes| {
                    stream.feed(bytes);
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

fn search_root(
    disk: &Utf8Path,
    partition: &disk::Partition,
    scratch: &Utf8Path,
    searcher: &mut Searcher,
) -> Result<(), Error> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Io { what, source }
    };
    let (file, tree) = (scratch.join("root.ext4"), scratch.join("root"));
    disk::extract(disk, partition, &file)?;
    fs_err::create_dir_all(&tree).map_err(io("the scratch folder"))?;
    Cmd::new(Tool::Debugfs)
        .args(["-R", &format!("rdump / {tree}")])
        .arg(&file)
        .run()?;
    searcher
        .folder("disk", &tree)
        .map_err(io("the root file system"))?;
    let journal = tree.join("var/log/journal");
    if journal.exists() {
        // Large fields are compressed in the files themselves.
        let export = Cmd::new(Tool::Journalctl)
            .args(["--output=export", "--all", "--no-pager", "-D"])
            .arg(&journal)
            .run()?;
        searcher
            .read("journal", export.stdout.as_slice())
            .map_err(io("the journal"))?;
    }
    Ok(())
}
