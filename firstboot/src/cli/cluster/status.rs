//! `sf-firstboot cluster status`.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::output::put;
use super::super::{Outcome, print_json};
use super::{Database, look};
use crate::clock;
use crate::database::Connector;
use crate::failure::Failure;
use crate::fleet::table::{self, Look};
use crate::fleet::{self, Fleet};
use crate::paths::Paths;
use crate::plain;

/// Between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// So many nodes are shown on the smallest screen.
const LEAST: usize = 3;

/// Shows every node with its role, series, image, phase and last error; failed ones first.
///
/// Nodes leave in the database how their last boot went, from the gate on or where
/// they stopped; a node that cannot reach the database, or has no valid metadata, is
/// not seen here: its own console says why.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) database: Database,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "watch")]
    pub(super) json: bool,
    /// Look again every two seconds until Ctrl-C; where output is no terminal, print changed totals.
    #[arg(long)]
    watch: bool,
}

impl Command {
    pub(super) fn run(self, paths: &Paths) -> Outcome {
        let (connector, place) = self.database.connector(paths)?;
        if self.watch {
            return watch(&connector, &place);
        }
        let fleet = look(&connector, &place)?;
        if self.json {
            return print_json(document(&fleet));
        }
        put(&table::render(&fleet, look_here(None)))?;
        Ok(())
    }
}

fn document(fleet: &Fleet) -> serde_json::Value {
    let totals: serde_json::Map<_, _> = fleet::State::ALL
        .iter()
        .map(|state| {
            (
                state.word().to_ascii_lowercase(),
                fleet.count(*state).into(),
            )
        })
        .collect();
    serde_json::json!({
        "at": clock::now(),
        "totals": totals,
        "cluster": fleet,
    })
}

fn coloured() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// For this output, with so many nodes at most.
fn look_here(nodes: Option<usize>) -> Look {
    Look {
        colour: coloured(),
        nodes,
        width: screen().map(|(columns, _)| columns),
    }
}

/// Columns and rows of the terminal that this goes to, if it is one.
fn screen() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// For ever: an outage of the database is shown and waited out.
fn watch(connector: &Connector, place: &str) -> Outcome {
    let terminal = std::io::stdout().is_terminal();
    let mut told = String::new();
    loop {
        let seen = look(connector, place);
        let text = if terminal {
            // Home, the text, and away with what is left of the screen before.
            format!("\x1b[H\x1b[2J{}", drawn(&seen))
        } else {
            let line = match &seen {
                Ok(fleet) => table::totals(fleet),
                Err(failure) => {
                    plain::line(&format!("the database cannot be asked: {failure}")).into_owned()
                }
            };
            if line == told {
                String::new()
            } else {
                let text = format!("{} {line}\n", clock::now());
                told = line;
                text
            }
        };
        if !put(&text)? || gone() {
            return Ok(());
        }
        std::thread::sleep(EVERY);
    }
}

/// Has the reader gone away? Where nothing changes, no write finds that out.
fn gone() -> bool {
    let out = std::io::stdout();
    let mut asked = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().contains(PollFlags::ERR)
}

fn drawn(seen: &Result<Fleet, Failure>) -> String {
    let rows = screen().map(|(_, rows)| rows);
    let with = |body: &str| format!("{}   (Ctrl-C ends this)\n{body}", clock::now());
    match (seen, rows) {
        (Err(failure), _) => with(&plain::text(&format!(
            "the database cannot be asked; asking again\n\n{failure}\n{}\n",
            failure.remedy_text()
        ))),
        (Ok(fleet), None) => with(&table::render(fleet, look_here(None))),
        (Ok(fleet), Some(rows)) => {
            let text = |nodes| with(&table::render(fleet, look_here(Some(nodes))));
            let least = text(LEAST);
            // What is above the screen is lost, and the totals stand first.
            let room = rows.saturating_sub(least.lines().count() + 1);
            let whole = text(LEAST + room);
            let lines: Vec<&str> = whole.lines().take(rows.saturating_sub(1)).collect();
            lines.join("\n") + "\n"
        }
    }
}
