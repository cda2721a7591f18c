//! Checks, as a registry: all run, all are reported, none changes anything.
//! The outer error of a check says that it could not be made, its findings say
//! what is wrong. A new check is an entry of [`CHECKS`].

mod checks;
mod clock;
mod cluster;
mod fleet;
mod machine;
mod network;
mod pki;
mod settings;

pub use checks::CHECKS;

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use sf_contract::failure::Kind;

use crate::codes::Code;
use crate::database::Session;
use crate::database::upkeep::Standing;
use crate::engine::node::Node;
use crate::failure::Failure;
use crate::forecast::Seen;
use crate::gate;
use crate::interfaces::Interface;
use crate::paths::Paths;

/// Why a check that needs the database was not made. It may well have been
/// reached, and refused the user.
const NO_DATABASE: &str = "not tried: the check \"database\" did not pass";

/// Why `check` alone tries things out.
const RUN_DOES_IT: &str = "the run does it next";

/// Why a node that is stopped anyway is not rehearsed.
const OTHERS_FIRST: &str = "other findings come first";

/// What a check may look at.
pub struct Context<'c> {
    /// The machine.
    pub paths: &'c Paths,
    /// Its image and metadata.
    pub node: &'c Node,
    /// Until when a check may wait for what may only be late.
    pub deadline: Instant,
    /// Is this the node itself, and not somebody's desk?
    pub on_node: bool,
    /// Has an earlier check found what no waiting mends? Then nobody waits.
    pub hopeless: bool,
    /// For `check`: also rehearse what the run would do in the database.
    pub rehearse: bool,
    /// The connection, once the database check has made it.
    pub session: Option<Session>,
    /// How the server is, once the database check has asked it.
    pub standing: Option<Standing>,
    /// What the database says about the other nodes, once a check has read it.
    pub facts: Option<gate::Facts>,
    /// The interfaces with the node's addresses on them, once they were seen.
    pub interfaces: Option<Vec<Interface>>,
    /// What checks learn for the forecast.
    pub seen: Seen,
    /// Told what is waited for.
    pub tell: &'c mut dyn FnMut(&str),
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Context")
            .field("on_node", &self.on_node)
            .finish_non_exhaustive()
    }
}

/// What a check found.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Found {
    /// All is well.
    Passed {
        /// What there is to know besides.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Not looked at here: it is about the node, and this is a desk.
    #[serde(rename = "on-node")]
    OnNode,
    /// Not looked at, and why.
    Skipped {
        /// Why.
        note: String,
    },
    /// What is wrong.
    Failed {
        /// One for each mistake.
        findings: Vec<Failure>,
    },
    /// The check itself could not be made.
    Impossible {
        /// Why not; boxed up with the same shape as `Failed`.
        findings: Vec<Failure>,
    },
}

impl Found {
    fn passed() -> Self {
        Self::Passed { note: None }
    }

    fn noted(note: impl Into<String>) -> Self {
        Self::Passed {
            note: Some(note.into()),
        }
    }

    fn skipped(note: impl Into<String>) -> Self {
        Self::Skipped { note: note.into() }
    }

    fn judged(findings: Vec<Failure>) -> Self {
        if findings.is_empty() {
            Self::passed()
        } else {
            Self::Failed { findings }
        }
    }

    /// What is wrong, if anything.
    pub fn findings(&self) -> &[Failure] {
        match self {
            Self::Failed { findings } | Self::Impossible { findings } => findings,
            Self::Passed { .. } | Self::Skipped { .. } | Self::OnNode => &[],
        }
    }
}

/// Does a finding stop the node?
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Yes.
    Blocks,
    /// No, but somebody should know.
    Warns,
}

/// What a check returns: a future over the context that it was given.
type Running<'r> = Pin<Box<dyn Future<Output = Result<Found, Failure>> + 'r>>;

/// One check.
#[derive(Debug)]
pub struct Check {
    /// Name for people and for `--json`.
    pub id: &'static str,
    /// Does it stop the node?
    pub severity: Severity,
    /// What it looks at, one line.
    pub about: &'static str,
    /// Is it about the machine, and so for the node alone?
    pub on_node: bool,
    /// Does its outcome change with time alone?
    pub timely: bool,
    /// What it may find, most telling first.
    pub codes: &'static [&'static Code],
    run: for<'r> fn(&'r mut Context<'_>) -> Running<'r>,
}

impl Check {
    /// Are all its findings announced? Any statement can fail in the ways of
    /// `SF-DB-…`, which the database check announces.
    fn knows(&self, found: &Found) -> bool {
        let known = |failure: &Failure| {
            let id = failure.code.id;
            id.starts_with("SF-DB-") || self.codes.iter().any(|code| code.id == id)
        };
        !matches!(found, Found::Failed { .. }) || found.findings().iter().all(known)
    }
}

/// The outcome of one check.
#[derive(Debug, serde::Serialize)]
pub struct Checked {
    /// Which.
    #[serde(rename = "id")]
    pub id: &'static str,
    /// Does it stop the node?
    pub severity: Severity,
    /// What it looks at.
    pub about: &'static str,
    /// What it found.
    #[serde(flatten)]
    pub found: Found,
}

/// Runs every check.
pub async fn run(context: &mut Context<'_>) -> Vec<Checked> {
    let mut all = Vec::new();
    for check in CHECKS {
        tracing::debug!(check = check.id, "checking");
        let found = if check.on_node && !context.on_node {
            Found::OnNode
        } else {
            (check.run)(context)
                .await
                .unwrap_or_else(|failure| Found::Impossible {
                    findings: vec![failure],
                })
        };
        let found = about_dsn(context.node, found);
        debug_assert!(check.knows(&found), "{}: {found:?}", check.id);
        let lasting = |failure: &Failure| failure.kind() != Kind::Transient;
        context.hopeless |=
            check.severity == Severity::Blocks && found.findings().iter().any(lasting);
        for failure in found.findings() {
            if check.severity == Severity::Warns {
                warn(check.id, failure);
            }
        }
        let Check {
            id,
            severity,
            about,
            ..
        } = check;
        all.push(Checked {
            id,
            severity: *severity,
            about,
            found,
        });
    }
    all
}

impl<'c> Context<'c> {
    /// Of a run on the node itself, before any check.
    pub fn new(
        paths: &'c Paths,
        node: &'c Node,
        deadline: Instant,
        tell: &'c mut dyn FnMut(&str),
    ) -> Self {
        Self {
            paths,
            node,
            deadline,
            on_node: true,
            hopeless: false,
            rehearse: false,
            session: None,
            standing: None,
            facts: None,
            interfaces: None,
            seen: Seen::default(),
            tell,
        }
    }
}

/// Waits until `deadline` for the node's addresses, for runs that leave the
/// checks out: daemons that bind to one that is only late would fail. When they
/// do not come the daemons are started all the same, since those of a node that
/// was cleared once are of more use with half of its network than down.
pub async fn await_addresses(
    paths: &Paths,
    node: &Node,
    deadline: Instant,
    tell: &mut dyn FnMut(&str),
) {
    let mut context = Context::new(paths, node, deadline, tell);
    warn_of("addresses", &network::addresses(&mut context).await);
}

/// The checks whose outcome changes while nothing else does, for runs that
/// leave the others out: what they find is logged and stops nobody, since the
/// node's instances run on.
pub async fn remind(paths: &Paths, node: &Node) {
    let tell = &mut |_: &str| {};
    let mut context = Context::new(paths, node, Instant::now(), tell);
    for check in CHECKS.iter().filter(|check| check.timely) {
        warn_of(check.id, &(check.run)(&mut context).await);
    }
}

fn warn_of(check: &str, found: &Result<Found, Failure>) {
    let failures = match found {
        Ok(found) => found.findings(),
        Err(failure) => std::slice::from_ref(failure),
    };
    for failure in failures {
        warn(check, failure);
    }
}

fn warn(check: &str, failure: &Failure) {
    tracing::warn!(
        check,
        code = failure.code.id,
        "{failure}; {}",
        failure.remedy_text()
    );
}

/// What stops the node.
pub fn blocking(all: &[Checked]) -> Vec<Failure> {
    let mut blocking: Vec<Failure> = Vec::new();
    for failure in all
        .iter()
        .filter(|checked| checked.severity == Severity::Blocks)
        .flat_map(|checked| checked.found.findings())
    {
        // Two checks that go on without the database would say it twice.
        if !blocking
            .iter()
            .any(|known| known.code.id == failure.code.id && known.what == failure.what)
        {
            blocking.push(failure.clone());
        }
    }
    blocking
}

/// The preflight of a run: all checks, or everything that stops the node.
pub async fn all(
    paths: &Paths,
    node: &Node,
    deadline: Instant,
    tell: &mut dyn FnMut(&str),
) -> Result<(), Vec<Failure>> {
    let mut context = Context::new(paths, node, deadline, tell);
    let checked = run(&mut context).await;
    if let Some(session) = context.session.take() {
        session.release().await;
    }
    let blocking = blocking(&checked);
    if blocking.is_empty() {
        Ok(())
    } else {
        Err(blocking)
    }
}

fn about_dsn(node: &Node, found: Found) -> Found {
    let each = |findings: Vec<Failure>| {
        findings
            .into_iter()
            .map(|failure| node.placed(node.about_dsn(failure)))
            .collect()
    };
    match found {
        Found::Failed { findings } => Found::Failed {
            findings: each(findings),
        },
        Found::Impossible { findings } => Found::Impossible {
            findings: each(findings),
        },
        other => other,
    }
}
