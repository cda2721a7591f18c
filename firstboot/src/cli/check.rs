//! `sf-firstboot check`: the preflight of a run, and a rehearsal of its
//! bootstrap and its passage of the gate, on the node or at an operator's desk.
//! Changes nothing.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::Args;

use super::again::Again;
use super::{Desk, Outcome, Stop, framed, narrate, print, print_json};
use crate::card::Card;
use crate::database;
use crate::engine::node::{self, Node};
use crate::forecast::{self, Forecast, Seen, forecast};
use crate::image::Given;
use crate::paths::Paths;
use crate::preflight::{self, Checked, Context, Found, Severity};
use crate::report::{Audience, Reporter};

/// Checks metadata, machine and database, and rehearses what is written there; changes nothing.
///
/// Bootstrap and gate run in the real database, in transactions that are rolled back; tables are
/// never made. Ends with what the node would do (establish, join, write, start), what of it was
/// rehearsed, and a verdict of one line.
/// On a node it needs no options. At a desk: `sf-firstboot check --metadata node.toml
/// --release-descriptor releases/0.7/release.toml --role hypervisor`, or `--manifest
/// manifest.json` in place of the last two.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    desk: Desk,
    /// How long to wait for a database or metadata server that does not answer, in seconds.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn caller(&self) -> (Again, bool) {
        (self.desk.again(None), self.json)
    }

    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let mut reporter = Reporter::new(paths, Audience::Desk);
        let node = match node::read(
            paths,
            &Given {
                desk_check: !self.desk.is_node(paths),
                ..self.desk.given()
            },
            &self.desk.metadata,
            self.desk.remote(paths, Duration::from_secs(self.wait)),
            &mut reporter,
        ) {
            Ok(node) => node,
            Err(invalid) => {
                let card = Card::new(invalid.failures.clone());
                let verdict = card.leading().map(forecast::refused).unwrap_or_default();
                if self.json {
                    let card = self.desk.again(None).card(card);
                    return self.print(None, &verdict, &[], Some(&card));
                }
                print(&format!("{verdict}.\n"))?;
                return Err(framed(invalid));
            }
        };
        let runtime = database::runtime()?;
        let (mut checked, seen) = runtime.block_on(self.checks(paths, &node));
        runtime.shutdown_background();
        let again = self.desk.again(None);
        for found in checked.iter_mut().map(|checked| &mut checked.found) {
            if let Found::Failed { findings } | Found::Impossible { findings } = found {
                for failure in findings {
                    again.failure(failure);
                }
            }
        }
        let blocking = preflight::blocking(&checked);
        let forecast = forecast(&node, &seen, &checked, &blocking);
        let card = (!blocking.is_empty()).then(|| Card::new(blocking));
        self.print(
            Some((&node, &forecast)),
            &forecast.verdict,
            &checked,
            card.as_ref(),
        )
    }

    async fn checks(&self, paths: &Paths, node: &Node) -> (Vec<Checked>, Seen) {
        let mut tell = |text: &str| tracing::debug!("{text}");
        let deadline = Instant::now() + Duration::from_secs(self.wait);
        let mut context = Context {
            on_node: self.desk.is_node(paths),
            rehearse: true,
            ..Context::new(paths, node, deadline, &mut tell)
        };
        let checked = preflight::run(&mut context).await;
        if let Some(session) = context.session.take() {
            session.close().await;
        }
        (checked, context.seen)
    }

    fn print(
        &self,
        judged: Option<(&Node, &Forecast)>,
        verdict: &str,
        checked: &[Checked],
        card: Option<&Card>,
    ) -> Outcome {
        let node = judged.map(|(node, _)| node);
        let forecast = judged.map(|(_, forecast)| forecast);
        let exit_code = card.map_or(0, Card::exit_code);
        if self.json {
            print_json(serde_json::json!({
                "ok": card.is_none(),
                "exit_code": exit_code,
                "code": card.map(Card::code),
                "node": node.map(|node| &node.metadata().node.name),
                "role": node.map(|node| node.image.role()),
                "release": node.map(|node| node.image.manifest.shakenfist_version.as_str()),
                "checks": checked,
                "forecast": forecast,
                "verdict": verdict,
                "findings": card.map_or(&[][..], |card| &card.findings),
            }))?;
        } else {
            print(&table(checked))?;
            if let Some(card) = card {
                narrate(&card.errors());
            }
            if let Some(forecast) = forecast {
                print(&forecast.text())?;
            }
        }
        if exit_code == 0 {
            Ok(())
        } else {
            Err(Stop::Said(exit_code))
        }
    }
}

fn table(checked: &[Checked]) -> String {
    let mut table = String::new();
    for Checked {
        id,
        severity,
        about,
        found,
    } in checked
    {
        let (mark, note) = match found {
            Found::Passed { note } => ("ok", note.as_deref().unwrap_or(about).to_owned()),
            Found::OnNode => ("node", "checked on the node only".into()),
            Found::Skipped { note } => ("skip", note.clone()),
            Found::Failed { findings } | Found::Impossible { findings } => {
                let mark = if *severity == Severity::Blocks {
                    "FAIL"
                } else {
                    "warn"
                };
                let each: Vec<&str> = findings
                    .iter()
                    .map(|finding| finding.what.as_str())
                    .collect();
                (mark, each.join("; "))
            }
        };
        let line = writeln!(table, "{mark:<5} {id:<16} {note}");
        // Writing to a String cannot fail.
        debug_assert!(line.is_ok());
    }
    table
}
