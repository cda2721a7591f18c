//! Log lines for people.

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::fields::Fields;
use crate::plain;

/// `warning: waiting for the database host=db1`.
pub(super) struct Human;

impl<S: Subscriber> Layer<S> for Human {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        super::line(&plain::text(&render(event)));
    }
}

pub(super) fn render(event: &Event<'_>) -> String {
    let mut fields = Fields::of(event);
    let mut line = match *event.metadata().level() {
        Level::ERROR => "error: ",
        Level::WARN => "warning: ",
        Level::INFO => "",
        Level::DEBUG | Level::TRACE => "debug: ",
    }
    .to_owned();
    line.push_str(&fields.message());
    for (key, value) in &fields.0 {
        match value.as_str() {
            Some(text) if !text.contains(char::is_whitespace) => {
                line.extend([" ", key, "=", text]);
            }
            _ => line.extend([" ", key, "=", &value.to_string()]),
        }
    }
    line
}
