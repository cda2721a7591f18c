//! Logs: Shaken Fist's JSON log contract for machines, plain lines for people.
//! Both go to standard error, which under systemd is the journal; standard
//! output is for data.

mod fields;
mod human;
mod json;

use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON for a service, plain lines for a person.
    #[default]
    Auto,
    /// One line of text an event.
    Human,
    /// Shaken Fist's log contract, one JSON object a line.
    Json,
}

/// Starts logging; a second call does nothing.
pub fn start(format: Format, level: &str) {
    let json = match format {
        Format::Human => false,
        Format::Json => true,
        // systemd sets JOURNAL_STREAM for what it connects to the journal.
        Format::Auto => {
            !std::io::stderr().is_terminal() && std::env::var_os("JOURNAL_STREAM").is_some()
        }
    };
    let level = LevelFilter::from_str(level).unwrap_or(LevelFilter::INFO);
    // The driver's own events repeat each statement; ours say what was done.
    let filter = Targets::new()
        .with_target("sf_firstboot", level)
        .with_default(LevelFilter::WARN.min(level));
    let layer = if json {
        json::Json.boxed()
    } else {
        human::Human.boxed()
    };
    let _already = tracing::subscriber::set_global_default(
        Registry::default().with(layer.with_filter(filter)),
    );
}

/// Writes one line to standard error. A closed standard error is not worth
/// dying for.
fn line(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stderr().lock();
    let _closed = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"));
}
