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

impl Format {
    /// Is it JSON, here and now?
    pub fn is_json(self) -> bool {
        match self {
            Self::Human => false,
            Self::Json => true,
            // systemd sets JOURNAL_STREAM for what it connects to the journal.
            Self::Auto => {
                !std::io::stderr().is_terminal() && std::env::var_os("JOURNAL_STREAM").is_some()
            }
        }
    }
}

/// Starts logging; a second call does nothing.
pub fn start(format: Format, level: &str) {
    let level = LevelFilter::from_str(level).unwrap_or(LevelFilter::INFO);
    // The driver's own events repeat each statement; ours say what was done.
    let filter = Targets::new()
        .with_target("sf_firstboot", level)
        .with_default(LevelFilter::WARN.min(level));
    let layer = if format.is_json() {
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing::{Event, Subscriber};
    use tracing_subscriber::layer::Context;
    use tracing_subscriber::{Layer, layer::SubscriberExt as _};

    use crate::testing::{any_secret, leak, percent_encoded};

    /// Both renderings of an event.
    #[derive(Clone, Default)]
    struct Both(Arc<Mutex<String>>);

    impl<S: Subscriber> Layer<S> for Both {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let fields = super::fields::Fields::of(event);
            let json = super::json::render(event.metadata(), fields);
            let mut all = self.0.lock().unwrap();
            all.extend([json, "\n".into(), super::human::render(event), "\n".into()]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A secret under a key that says so, and a password in a URL, wherever
        /// in an event they stand.
        #[test]
        fn no_piece_of_a_secret_is_in_a_line(secret in any_secret()) {
            prop_assert!(leak(&["x", &secret, "y"].concat(), &secret).is_some());
            let both = Both::default();
            let subscriber = tracing_subscriber::registry().with(both.clone());
            let url = format!("mysql://sf:{}@db1:3306/sf", percent_encoded(&secret));
            tracing::subscriber::with_default(subscriber, || {
                let error = std::io::Error::other(format!("no route to {url}: refused"));
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(system_key = %secret, password = ?secret, X_TOKEN = secret, "a");
                tracing::warn!(dsn = %secret, auth_secret_seed = secret, passphrase = ?Some(&secret), "b");
                tracing::info!(url = %url, error, proxy = ?url, "no route to {url} and {url}");
                tracing::debug!(source = url, stack_trace = %url, exception_class = ?url, "{error}");
            });
            let shown = both.0.lock().unwrap();
            prop_assert_eq!(shown.lines().count(), 8);
            prop_assert!(leak(&shown, &secret).is_none(), "{} in {}", secret, shown);
        }
    }
}
