//! What the sources behind a network have in common: ask, or use what was
//! kept, and say which.

use std::time::{Duration, Instant};

use sf_contract::metadata::{Fragment, Layer, Origin};
use sf_contract::secret::Secret;
use zeroize::Zeroizing;

use super::cloud::Cloud;
use super::drive::foreign_failure;
use super::envelope::{self, UserData};
use super::http::{self, Carrier, Request, Trouble, Trust, Url};
use super::kept::{self, Copy};
use super::url::Plan;
use super::{Found, Looked, Places, Remote, Tell};
use crate::codes;
use crate::database;
use crate::failure::Failure;

/// Who is asked.
#[derive(Debug)]
pub(super) enum Server {
    /// The one that the operator named.
    Named(Plan),
    /// The cloud's, with the address that all clouds use.
    Cloud(Cloud, Url),
}

/// What a server said; without `Debug`, which would show the document.
pub(super) enum Said {
    /// This document, and the cloud's name for the instance.
    Document(Zeroizing<Vec<u8>>, Option<String>),
    /// That it has none for this node, and why that is known.
    Nothing(String),
}

/// Why a server said nothing usable.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) failure: Box<Failure>,
    /// Did the right server answer? Then no copy stands in for what it said.
    pub(super) answered: bool,
}

impl Problem {
    pub(super) fn of(trouble: &Trouble, url: &Url, source: &str) -> Self {
        Self {
            answered: trouble.answered(),
            failure: Box::new(trouble.failure(url, source)),
        }
    }

    /// The server answered, and what it said stops the agent.
    pub(super) fn said(failure: Failure) -> Self {
        Self {
            failure: Box::new(failure),
            answered: true,
        }
    }

    /// With another remedy.
    pub(super) fn remedy(mut self, remedy: &str) -> Self {
        self.failure.remedy = Some(remedy.to_owned());
        self
    }
}

impl Server {
    /// `EC2 user data`, `http://host/path`: where values come from.
    fn name(&self) -> String {
        match self {
            Self::Named(plan) => plan.url.to_string(),
            Self::Cloud(cloud, _) => format!("{} user data", cloud.name()),
        }
    }

    /// What tells one kept copy from another.
    fn key(&self) -> String {
        match self {
            Self::Named(plan) => format!("url {}", plan.url.whole()),
            Self::Cloud(cloud, _) => format!("cloud {}", cloud.name()),
        }
    }

    /// What to do when a document for another program is there.
    fn instead(&self) -> &'static str {
        match self {
            Self::Named(_) => "Put this node's metadata, which is TOML, at that URL.",
            Self::Cloud(cloud, _) => cloud.instead(),
        }
    }

    fn trust(&self) -> &Trust {
        match self {
            Self::Named(plan) => &plan.trust,
            // What comes from there is vouched for by the cloud's own wiring.
            Self::Cloud(..) => &Trust::Plain,
        }
    }

    /// What it says, when `carrier` brings its answers; without copies.
    async fn heard(&self, layer: Layer, carrier: &mut impl Carrier) -> Result<Looked, Problem> {
        let said = match self {
            Self::Named(plan) => plan.ask(carrier).await,
            Self::Cloud(cloud, base) => cloud.ask(base, carrier).await,
        }?;
        let name = self.name();
        let (found, text, instance) = match said {
            Said::Nothing(why) => (Found::NotHere(why), None, None),
            Said::Document(bytes, instance) => {
                let (found, text) = document(layer, self, &name, &bytes)?;
                (found, text, instance)
            }
        };
        // Of an instance without metadata nothing more is told.
        let instance = instance.filter(|_| matches!(found, Found::Here(_)));
        Ok(Looked {
            note: instance.as_ref().map(|id| format!("instance {id}")),
            keep: Some(Copy::new(&self.key(), text, instance)),
            ..Looked::new(layer, name, found)
        })
    }

    /// Is a copy as good as the server's answer? When it has the digest that
    /// the answer must have.
    fn vouched(&self, copy: &Copy) -> bool {
        match (self, &copy.text) {
            (Self::Named(plan), Some(text)) => plan.has_digest(text.expose().as_bytes()),
            _ => false,
        }
    }

    /// A copy that the operator's digest does not fit (any more) is useless.
    fn fits(&self, copy: &Copy) -> bool {
        match self {
            Self::Named(plan) => plan.digest.is_none() || self.vouched(copy),
            Self::Cloud(..) => true,
        }
    }
}

/// Asks a server, or uses the kept copy of its last good answer.
pub(super) fn look(layer: Layer, server: &Server, places: &Places, tell: Tell<'_>) -> Looked {
    let name = server.name();
    let copy = kept::load(places, &server.key()).filter(|copy| server.fits(copy));
    let at = |found| Looked::new(layer, name.as_str(), found);
    let (wait, wait_with_copy) = match places.remote {
        Remote::Skip => return at(Found::NotHere(super::SKIPPED.into())),
        Remote::Kept => {
            return match copy {
                Some(copy) => from_copy(layer, server, copy),
                None => Looked {
                    unasked: true,
                    ..at(Found::NotHere(
                        "not asked by this command, and no copy of an earlier answer is kept"
                            .into(),
                    ))
                },
            };
        }
        Remote::Ask {
            wait,
            wait_with_copy,
        } => (wait, wait_with_copy),
    };
    let copy = match copy {
        Some(copy) if server.vouched(&copy) => return from_copy(layer, server, copy),
        copy => copy,
    };
    let wait = if copy.is_some() { wait_with_copy } else { wait };
    let problem = match asked(layer, server, wait, tell) {
        Ok(looked) => return looked,
        Err(problem) => problem,
    };
    match copy {
        Some(copy) if !problem.answered => {
            let warning = Failure::new(
                &codes::FETCH_KEPT,
                format!(
                    "{}; using the copy of its answer of {}",
                    problem.failure.what, copy.fetched_at
                ),
            )
            .source(&name);
            Looked {
                warning: Some(Box::new(warning)),
                ..from_copy(layer, server, copy)
            }
        }
        _ => at(Found::Broken(problem.failure)),
    }
}

/// Runs the conversation to its end.
fn asked(layer: Layer, server: &Server, wait: Duration, tell: Tell<'_>) -> Result<Looked, Problem> {
    let runtime = database::runtime().map_err(Problem::said)?;
    let (trust, deadline) = (server.trust(), Instant::now() + wait);
    let mut network =
        async |request: &Request| http::ask(request, trust, deadline, &mut *tell).await;
    let looked = runtime.block_on(server.heard(layer, &mut network));
    // A look-up of a name may hang in a thread for longer than anybody waits.
    runtime.shutdown_background();
    looked
}

/// What a cloud's metadata service says, when `carrier` brings its answers.
pub async fn cloud_by(cloud: Cloud, service: Url, carrier: &mut impl Carrier) -> Looked {
    by(Layer::Cloud, &Server::Cloud(cloud, service), carrier).await
}

/// What is at a URL, when `carrier` brings the answer.
pub async fn url_by(url: Url, digest: Option<[u8; 32]>, carrier: &mut impl Carrier) -> Looked {
    let plan = Plan {
        url,
        digest,
        trust: Trust::Plain,
        source: "sf.metadata_url".into(),
    };
    by(Layer::Url, &Server::Named(plan), carrier).await
}

async fn by(layer: Layer, server: &Server, carrier: &mut impl Carrier) -> Looked {
    let heard = server.heard(layer, carrier).await;
    heard
        .unwrap_or_else(|problem| Looked::new(layer, server.name(), Found::Broken(problem.failure)))
}

/// What a document is; with its text, when it is to be kept.
fn document(
    layer: Layer,
    server: &Server,
    name: &str,
    bytes: &[u8],
) -> Result<(Found, Option<Secret>), Problem> {
    match envelope::user_data(bytes) {
        Ok(UserData::Text(text)) => {
            let fragment = Fragment::read(Origin::new(layer, 0, name), text);
            // What is kept is what came: a digest must still fit.
            let whole = std::str::from_utf8(bytes).unwrap_or(text);
            Ok((Found::Here(fragment), Some(Secret::new(whole))))
        }
        Ok(UserData::Empty) => match server {
            Server::Cloud(..) => Ok((Found::NotHere("the user data is empty".into()), None)),
            Server::Named(_) => Err(Problem::said(
                Failure::new(
                    &codes::FETCH_BODY,
                    format!("{name} gives an empty document"),
                )
                .source(name)
                .remedy("Put this node's metadata at that URL."),
            )),
        },
        Err(foreign) => Err(Problem {
            failure: foreign_failure(name, foreign, server.instead()),
            answered: true,
        }),
    }
}

fn from_copy(layer: Layer, server: &Server, copy: Copy) -> Looked {
    let name = format!("{} (kept copy of {})", server.name(), copy.fetched_at);
    let found = match &copy.text {
        None => Found::NotHere("it had nothing for this machine then".into()),
        Some(text) => match document(layer, server, &name, text.expose().as_bytes()) {
            Ok((found, _)) => found,
            Err(problem) => Found::Broken(problem.failure),
        },
    };
    Looked {
        keep: Some(copy),
        ..Looked::new(layer, name, found)
    }
}
