//! What a run would do, from what the checks have seen: for an operator who
//! wants to know before the node is powered on. A pure function; the checks
//! have read, and rolled back, whatever it takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sf_contract::failure::Kind;
use sf_contract::metadata::node::BootstrapMode;

use crate::bootstrap::{Outcome, Report};
use crate::configure;
use crate::engine::{self, node::Node};
use crate::failure::Failure;
use crate::gate::{Decision, How, Rehearsed};
use crate::preflight::{Checked, Found};
use crate::units;

/// What the checks learnt about the cluster besides findings.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The bootstrap as it was rehearsed, on a node that bootstraps.
    pub rehearsed: Option<Report>,
    /// What the bootstrap still lacks, on a node that does not: `Some(None)`
    /// when it is complete.
    pub lacks: Option<Option<String>>,
    /// What the gate would say now.
    pub decision: Option<Decision>,
    /// The gate's passage, where it was rehearsed behind the bootstrap.
    pub passage: Option<Rehearsed>,
    /// What was rehearsed, and what was not.
    pub tried: Vec<Part>,
    /// The release's command that this node would run for its tables.
    pub command: Option<String>,
    /// At a desk: what the database server's certificate is to be judged by, and
    /// where the node has it; without it the database was not asked.
    pub authority: Option<(String, String)>,
}

/// A part of the first boot that writes to the database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Part {
    /// `bootstrap` or `gate`.
    pub part: &'static str,
    /// Did its statements run in the real database, and were rolled back?
    pub rehearsed: bool,
    /// Why not.
    pub why: Option<String>,
}

impl Part {
    /// One that was rehearsed, unless there is a reason.
    pub fn of(part: &'static str, why_not: Option<&str>) -> Self {
        Self {
            part,
            rehearsed: why_not.is_none(),
            why: why_not.map(str::to_owned),
        }
    }

    /// `the gate's passage`.
    fn named(&self) -> &'static str {
        if self.part == "gate" {
            "the gate's passage"
        } else {
            "the bootstrap"
        }
    }
}

/// What a run would do.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Forecast {
    /// The release's own command, where it has tables to make or to migrate.
    pub command: Option<String>,
    /// How the cluster comes to be.
    pub bootstrap: Bootstrap,
    /// How the node gets into the cluster's record.
    pub gate: Gate,
    /// What the node would do about its role's claim, where the role has one.
    pub claim: Option<String>,
    /// Which parts of it ran in the database, and were rolled back.
    pub rehearsal: Vec<Part>,
    /// What is written, where it is not the same already.
    pub files: Vec<configure::Planned>,
    /// Units that are started, in their order.
    pub units: Vec<String>,
    /// Checks that only the node itself can make.
    pub on_node: Vec<&'static str>,
    /// Fields whose files and credentials only the node has, and where.
    pub elsewhere: BTreeMap<String, String>,
    /// All of it in one line.
    pub verdict: String,
    /// Does a finding stand before all of it?
    #[serde(skip)]
    stopped: bool,
}

/// What the node would do about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Bootstrap {
    /// Establish what is missing.
    Establish {
        /// Tables and operations.
        #[serde(flatten)]
        report: Report,
    },
    /// Nothing: everything is recorded.
    Nothing,
    /// Wait for another node.
    Wait {
        /// What is missing.
        lacks: String,
    },
    /// It cannot be told.
    Unknown,
}

/// What the gate would do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Gate {
    /// `join`, `introduce`, `first`, `wait`, `refuse` or `unknown`.
    pub decision: &'static str,
    /// The same in words.
    pub text: String,
}

/// Puts it together. `blocking` are the findings that stop the node.
pub fn forecast(node: &Node, seen: &Seen, checked: &[Checked], blocking: &[Failure]) -> Forecast {
    let bootstrap = bootstrap(seen);
    let gate = gate(node, seen, &bootstrap);
    let units = units::wanted(&node.image);
    let verdict = verdict(node, seen, &bootstrap, &gate, units.len(), blocking);
    let mut elsewhere = node.elsewhere().clone();
    elsewhere.extend(seen.authority.clone());
    Forecast {
        command: seen.command.clone(),
        bootstrap,
        gate,
        claim: checked.iter().find_map(|checked| match &checked.found {
            Found::Passed { note } if checked.id == "role-claim" => note.clone(),
            _ => None,
        }),
        rehearsal: seen.tried.clone(),
        files: configure::planned(node.image.role(), node.metadata()),
        units,
        on_node: checked
            .iter()
            .filter(|checked| matches!(checked.found, Found::OnNode))
            .map(|checked| checked.id)
            .collect(),
        elsewhere,
        verdict,
        stopped: !blocking.is_empty(),
    }
}

fn bootstrap(seen: &Seen) -> Bootstrap {
    match (&seen.rehearsed, &seen.lacks) {
        (Some(report), _) if report.wrote() => Bootstrap::Establish {
            report: report.clone(),
        },
        (Some(_), _) | (None, Some(None)) => Bootstrap::Nothing,
        (None, Some(Some(lacks))) => Bootstrap::Wait {
            lacks: lacks.clone(),
        },
        (None, None) => Bootstrap::Unknown,
    }
}

fn gate(node: &Node, seen: &Seen, bootstrap: &Bootstrap) -> Gate {
    let series = node.image.manifest.series;
    let (decision, text) = match (&seen.decision, bootstrap) {
        (None, _) => ("unknown", "cannot be told without the database".to_owned()),
        (Some(Decision::Proceed(How::Join { .. })), _) => (
            "join",
            format!("join the cluster, which runs series {series}"),
        ),
        (Some(Decision::Proceed(How::Introduce { retire: None, .. })), _) => (
            "introduce",
            format!("introduce series {series} beside the one that runs"),
        ),
        (
            Some(Decision::Proceed(How::Introduce {
                retire: Some(old), ..
            })),
            _,
        ) => (
            "introduce",
            format!("introduce series {series} in the place of {old}, which no node runs any more"),
        ),
        (Some(Decision::Wait(_)), Bootstrap::Establish { .. }) => (
            "first",
            format!("join series {series}, the cluster's first"),
        ),
        (Some(Decision::Wait(failure)), _) => ("wait", format!("wait: {}", failure.what)),
        (Some(Decision::Refuse(failure)), _) => ("refuse", format!("refuse: {}", failure.what)),
    };
    Gate { decision, text }
}

fn verdict(
    node: &Node,
    seen: &Seen,
    bootstrap: &Bootstrap,
    gate: &Gate,
    units: usize,
    blocking: &[Failure],
) -> String {
    let metadata = node.metadata();
    let name = &metadata.node.name;
    let lasting = blocking
        .iter()
        .find(|failure| failure.kind() != Kind::Transient);
    if let Some(failure) = lasting {
        return format!(
            "{name} would stop with {} (exit {}), write nothing and start nothing: {} to correct",
            failure.code.id,
            failure.kind().exit_code(),
            count(blocking.len(), "finding")
        );
    }
    if let Some(failure) = blocking.first() {
        return format!(
            "{name} would not start now: {} (exit {}); it would keep trying",
            failure.code.id,
            failure.kind().exit_code()
        );
    }
    let start = format!("start {}", count(units, "daemon"));
    let would = match &seen.command {
        Some(command) => format!("would run {command},"),
        None => "would".to_owned(),
    };
    match bootstrap {
        Bootstrap::Establish { report } => {
            let done = report
                .operations
                .iter()
                .filter(|done| done.outcome != Outcome::Unchanged)
                .count();
            format!(
                "{name} {would} bootstrap the cluster ({}), {}, and {start}",
                count(done, "operation"),
                gate.text
            )
        }
        Bootstrap::Nothing if gate.decision == "wait" => {
            format!(
                "{name} {would} {}; it would start nothing before",
                gate.text
            )
        }
        Bootstrap::Nothing => format!("{name} {would} {}, and {start}", gate.text),
        Bootstrap::Wait { .. } => {
            let who = match metadata.bootstrap_mode {
                BootstrapMode::Wait if node.image.role().bootstraps() => "another node",
                _ => "a database-tier node",
            };
            format!("{name} would wait for {who} to bootstrap the cluster, then {start}")
        }
        Bootstrap::Unknown if seen.authority.is_some() => format!(
            "{name}: what it would do cannot be told here, where the authority of the database's \
             certificate is missing"
        ),
        Bootstrap::Unknown => {
            format!("{name}: what it would do cannot be told without the database")
        }
    }
}

/// The verdict on a node whose image or metadata cannot be used: nothing else is
/// looked at, and what it is called is not known for sure.
pub fn refused(failure: &Failure) -> String {
    let exit = failure.kind().exit_code();
    let (code, what) = (failure.code.id, &failure.what);
    if failure.kind() == Kind::Transient {
        format!(
            "the node would not start now: {code} (exit {exit}): {what}; it would keep trying; the \
             rest was not checked"
        )
    } else {
        format!(
            "the node would stop with {code} (exit {exit}), write nothing and start nothing: \
             {what}; the rest was not checked"
        )
    }
}

impl Forecast {
    /// For a person.
    pub fn text(&self) -> String {
        let mut text = String::from(if self.stopped {
            "\nOnce that is mended, this node would\n"
        } else {
            "\nThis node would\n"
        });
        let mut row = |label: &str, value: &str| {
            let written = writeln!(text, "  {label:<10} {value}");
            // Writing to a String cannot fail.
            debug_assert!(written.is_ok());
        };
        if let Some(command) = &self.command {
            row("run", command);
        }
        match &self.bootstrap {
            Bootstrap::Establish { report } => {
                if !report.tables.is_empty() {
                    row("make", &format!("tables {}", report.tables.join(", ")));
                }
                for wanted in [Outcome::Created, Outcome::Adopted, Outcome::Unchanged] {
                    let names: Vec<&str> = report
                        .operations
                        .iter()
                        .filter(|done| done.outcome == wanted)
                        .map(|done| done.name.as_str())
                        .collect();
                    let label = match wanted {
                        Outcome::Created => "create",
                        Outcome::Adopted => "adopt",
                        Outcome::Unchanged => "leave",
                    };
                    if !names.is_empty() {
                        row(label, &names.join(", "));
                    }
                }
            }
            Bootstrap::Nothing => row("bootstrap", "nothing: it is complete"),
            Bootstrap::Wait { lacks } => row("wait", &format!("for the bootstrap: {lacks}")),
            Bootstrap::Unknown if self.gate.decision == "unknown" => {
                row("bootstrap", "cannot be told without the database");
            }
            Bootstrap::Unknown => row("bootstrap", "cannot be told before that"),
        }
        row("gate", &self.gate.text);
        if let Some(claim) = &self.claim {
            row("claim", claim);
        }
        for file in &self.files {
            row("write", &format!("{} ({})", file.path, file.access));
        }
        row("start", &self.units.join(", "));
        if !self.on_node.is_empty() {
            row(
                "check",
                &format!("on the node only: {}", self.on_node.join(", ")),
            );
        }
        for (field, place) in &self.elsewhere {
            row(
                "judge",
                &format!("{field}, which only the node has ({place})"),
            );
        }
        for (number, part) in self.rehearsal.iter().enumerate() {
            let gap = if number == 0 { "\n" } else { "" };
            let name = part.named();
            let written = match &part.why {
                None => writeln!(text, "{gap}Rehearsed and rolled back: {name}."),
                Some(why) => {
                    let why = why.strip_prefix("not rehearsed: ").unwrap_or(why);
                    writeln!(text, "{gap}Not rehearsed: {name} ({why}).")
                }
            };
            debug_assert!(written.is_ok());
        }
        let unjudged = match self.elsewhere.len() {
            0 => String::new(),
            number => format!(" Not judged here: {}.", count(number, "field")),
        };
        let written = writeln!(text, "\n{}.{unjudged}", self.verdict);
        debug_assert!(written.is_ok());
        text
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Does a node that may not wait find the cluster unmade?
pub fn needs_a_cluster(node: &Node) -> bool {
    !engine::bootstraps(node) && node.metadata().bootstrap_mode == BootstrapMode::Require
}
