//! `docs/reference/crash-matrix.md`: what becomes of a bootstrap, by fault and
//! by the part of the work that it struck. Each test owns the section of its
//! fault. With `SF_UPDATE_REFERENCE=1` it writes it; else an outcome that is
//! worse than the written ones fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use super::build::Build;
use super::steps::{CHECKS, Script, every_step};

/// What became of one run that a fault struck, best first. In all of them the
/// rows are those of an undisturbed run; otherwise the test fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Exit 0.
    Finished,
    /// Exit 75, and 0 the next time.
    Retried,
    /// The agent itself was killed; the next one exits with 0.
    Resumed,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Finished, Self::Retried, Self::Resumed];

    fn words(self) -> &'static str {
        match self {
            Self::Finished => "finished in the same run (0)",
            Self::Retried => "ended with 75, finished in the next run (0)",
            Self::Resumed => "killed, finished in the next run (0)",
        }
    }

    /// From an agent's exit code, or minus the signal that ended it.
    pub(crate) fn of(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Finished),
            75 => Some(Self::Retried),
            -9 => Some(Self::Resumed),
            _ => None,
        }
    }
}

pub(crate) const HEAD: &str = "\
# Crash matrix

What becomes of a bootstrap that a fault strikes, by fault and by the part of the work that it strikes. Written by the tests under `tests/cluster` (`SF_EVERY_STEP=1 SF_UPDATE_REFERENCE=1 cargo test -p sf-firstboot --test cluster_crash --test cluster_trouble --test cluster_galera --test cluster_passage`); without these variables the same tests try a sample of the points of most faults, and fail where an outcome is worse than what is written here.

The real agent runs `bootstrap-cluster` against a real server, with a proxy between them that counts the client's commands and stops the run at one of them: before the server has seen the command, or after the server has executed it and before the client has the answer. There the fault strikes. **In every line every run ended, after recovery, in the rows of an undisturbed run, compared row for row: nothing twice, nothing half, nothing lost.** Points are the sides of commands at which a run was struck.

In the parts `checks` and `tables` nothing of the cluster has been written yet; the other parts are the operations, each one transaction. Exit code 75 is what systemd starts the agent again for, by itself; a run that is struck during its checks may always end so, whatever its line says, depending on whether it was just connecting.

The sections that begin with \"Gate\" are about a node of a cluster that is there: the agent's whole `run`, struck at both sides of every command from reading the versions to the last of the passage. Where a fault outlasts the passage, what the run then says in the node's row of how far it came may be lost, since nobody waits for it: there the rows are compared once the node is ready, which is the next to say so.

Where a clock is years behind it is so for the whole of a run: there a part says whose clock it is, and a point is a run.
";

/// Faults that `trouble.rs` strikes bootstraps and passages of the gate with, on
/// both builds of the server.
const SERVER: [&str; 7] = [
    "the agent is killed, many at once",
    "the server is killed",
    "the server is shut down",
    "the server stalls",
    "the server is read-only",
    "no connection is to be had",
    "the server's disk is full",
];

/// Faults of one run at a time (`crash.rs`), and of a clock.
const SINGLE: [&str; 4] = [
    "the connection breaks",
    "COMMIT is lost on its way",
    "the answer to COMMIT is lost",
    "the clock is years behind",
];

/// Faults of one run at a time at the gate (`passage.rs`).
const PASSAGE: [&str; 2] = ["the agent is killed", "the connection breaks"];

/// Faults of the first of three servers (`galera.rs`).
const FIRST_OF_THREE: [&str; 5] = [
    "the agent's server is killed",
    "the agent's server is cut off",
    "the agent's server loses its quorum",
    "the agent's server becomes read-only",
    "a backup locks the agent's server",
];

/// Every section that there must be. A test publishes no other, and `tests/all.sh`
/// fails where one of the document's was not published.
pub(crate) fn titles() -> BTreeSet<String> {
    let mut titles = BTreeSet::from([
        "MariaDB 10.11: the agent is killed".to_owned(),
        "Galera: two nodes commit the same operation at once".to_owned(),
    ]);
    for build in [Build::Host, Build::Debian13].map(Build::name) {
        titles.extend(SINGLE.map(|fault| format!("{build}: {fault}")));
        titles.extend(SERVER.map(|fault| format!("{build}: {fault}")));
        titles.extend(SERVER.map(|fault| format!("Gate, {build}: {fault}")));
        titles.extend(PASSAGE.map(|fault| format!("Gate, {build}: {fault}")));
    }
    titles.extend(FIRST_OF_THREE.map(|fault| format!("Galera: {fault}")));
    titles.extend(FIRST_OF_THREE.map(|fault| format!("Gate, Galera: {fault}")));
    titles
}

/// The section of one fault.
#[derive(Debug)]
pub(crate) struct Section {
    title: String,
    about: &'static str,
    order: Vec<&'static str>,
    cells: BTreeMap<&'static str, (usize, BTreeSet<Outcome>)>,
    whole: bool,
}

type Written = BTreeMap<String, (usize, String)>;

impl Section {
    /// For a fault on a server.
    pub(crate) fn new(server: &str, fault: &str, about: &'static str, script: &Script) -> Self {
        Self {
            title: format!("{server}: {fault}"),
            about,
            order: script.parts(),
            cells: BTreeMap::new(),
            whole: every_step(),
        }
    }

    /// For a fault at the gate: the parts are ways through it.
    pub(crate) fn at_the_gate(
        server: &str,
        fault: &str,
        about: &'static str,
        ways: &[&'static str],
    ) -> Self {
        Self::of_runs(&format!("Gate, {server}"), fault, about, ways)
    }

    /// For whole runs, or parts that no script tells.
    pub(crate) fn of_runs(
        server: &str,
        fault: &str,
        about: &'static str,
        parts: &[&'static str],
    ) -> Self {
        Self {
            title: format!("{server}: {fault}"),
            about,
            order: parts.to_vec(),
            cells: BTreeMap::new(),
            whole: every_step(),
        }
    }

    /// Its test strikes all its points at any time, or a sample of them unless it
    /// is told to strike every step.
    pub(crate) fn whole(mut self, always: bool) -> Self {
        self.whole |= always;
        self
    }

    /// One run.
    pub(crate) fn add(&mut self, part: &'static str, outcome: Outcome) {
        let cell = self.cells.entry(part).or_default();
        cell.0 += 1;
        cell.1.insert(outcome);
    }

    /// Writes the section, or compares it with the written one.
    pub(crate) fn publish(&self) {
        assert!(
            titles().contains(&self.title),
            "{} is not in the list of sections",
            self.title
        );
        self.is_published();
        // Several tests, and several test programs, may get here at once.
        let folder = std::fs::File::open(path().parent().unwrap()).unwrap();
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        let mut sections = sections(&text);
        if std::env::var_os("SF_UPDATE_REFERENCE").is_some() {
            assert!(
                self.whole,
                "{}: this run strikes a sample, and would be written as all; \
                 add SF_EVERY_STEP=1",
                self.title
            );
            sections.insert(self.title.clone(), self.body());
            let mut text = HEAD.to_owned();
            for (title, body) in sections {
                let _ = write!(text, "\n## {title}\n\n{body}");
            }
            std::fs::write(path(), text).unwrap();
            return;
        }
        let worse = self.worse_than(sections.get(&self.title).map_or("", String::as_str));
        assert!(
            worse.is_empty(),
            "the crash matrix changed for the worse:\n{}\n\
             If that is meant: SF_EVERY_STEP=1 SF_UPDATE_REFERENCE=1 cargo test -p sf-firstboot, \
             with the cluster tests named in docs/reference/crash-matrix.md",
            worse.join("\n")
        );
    }

    /// For `tests/all.sh`, which compares with the document's titles.
    fn is_published(&self) {
        if let Some(file) = std::env::var_os("SF_SECTIONS") {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.create(true).append(true).open(file).unwrap();
            std::io::Write::write_all(&mut file, format!("{}\n", self.title).as_bytes()).unwrap();
        }
    }

    pub(crate) fn body(&self) -> String {
        let mut text = format!(
            "{}\n\n| part | points | outcome |\n|---|---|---|\n",
            self.about
        );
        for (part, (points, outcomes)) in self.rows() {
            let words: Vec<&str> = outcomes.iter().map(|outcome| outcome.words()).collect();
            let _ = writeln!(text, "| {part} | {points} | {} |", words.join("; "));
        }
        text
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, &(usize, BTreeSet<Outcome>))> {
        self.order
            .iter()
            .filter_map(|part| Some((*part, self.cells.get(part)?)))
    }

    /// What this run has and the written section has not, and what it lacks.
    pub(crate) fn worse_than(&self, body: &str) -> Vec<String> {
        let written: Written = body
            .lines()
            .filter_map(|line| {
                let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
                let (part, points) = (cells.next()?, cells.next()?.parse().ok()?);
                Some((part.to_owned(), (points, cells.next()?.to_owned())))
            })
            .collect();
        let mut worse: Vec<String> = written
            .keys()
            .filter(|part| !self.cells.contains_key(part.as_str()))
            .map(|part| format!("{}: {part} is not struck any more", self.title))
            .collect();
        for (part, (points, outcomes)) in self.rows() {
            let Some((before, words)) = written.get(part) else {
                worse.push(format!("{}: {part} is not in it", self.title));
                continue;
            };
            let known: Vec<Outcome> = Outcome::ALL
                .into_iter()
                .filter(|outcome| words.contains(outcome.words()))
                .collect();
            for new in outcomes {
                let good = match new {
                    // To finish is never worse.
                    Outcome::Finished => true,
                    // Checks have nothing to go on with.
                    Outcome::Retried if part == CHECKS => true,
                    // Whether it had ended before the blow is chance.
                    Outcome::Resumed if self.title.contains("agent is killed") => true,
                    other => known.contains(other),
                };
                if good {
                    continue;
                }
                worse.push(format!("{}: {part}: now also {}", self.title, new.words()));
            }
            if self.whole && points < before {
                worse.push(format!(
                    "{}: {part}: struck at {points} points, before at {before}",
                    self.title
                ));
            }
        }
        worse
    }
}

/// The document's sections by title.
pub(crate) fn sections(text: &str) -> BTreeMap<String, String> {
    text.split("\n## ")
        .skip(1)
        .filter_map(|section| {
            let (title, body) = section.split_once("\n\n")?;
            Some((title.to_owned(), format!("{}\n", body.trim_end())))
        })
        .collect()
}

/// The document.
pub(crate) fn path() -> PathBuf {
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/reference/crash-matrix.md"
    )
    .into()
}
