//! What goes to which stream.

use std::io::{self, ErrorKind, Write as _};

use serde_json::Value;

use super::{Outcome, Stop};
use crate::card::Card;
use crate::codes;
use crate::engine::node::Invalid;
use crate::failure::Failure;
use crate::plain;

/// Of every JSON object that is printed; raised when a field goes or changes
/// its meaning, not when one is added.
const SCHEMA: u32 = 1;

/// Data, to standard output, as it is: whoever paints it has made it plain. `false`: the reader has gone away (`| head`),
/// which is no failure.
pub(super) fn put(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            &codes::OUTPUT,
            "the answer could not be written to standard output",
        )
        .cause(&error)),
    }
}

/// Data in plain text, for whoever may have gone away.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    put(&plain::text(text)).map(drop)
}

/// One JSON object, with its schema.
pub(super) fn print_json(mut value: Value) -> Outcome {
    if let Some(object) = value.as_object_mut() {
        object.insert("schema".into(), SCHEMA.into());
    }
    put(&plain::json(&format!("{value:#}\n")))?;
    Ok(())
}

/// How a command failed, for `--json`.
pub(super) fn print_failed(card: &Card) -> Outcome {
    print_json(serde_json::json!({
        "ok": false,
        "exit_code": card.exit_code(),
        "code": card.code(),
        "findings": card.findings,
    }))
}

/// Narration: to standard error.
pub(super) fn narrate(text: &str) {
    let _closed = io::stderr().lock().write_all(plain::text(text).as_bytes());
}

/// Metadata that is wrong, for a person: each mistake is shown once, in its
/// place, and the error below says the rest.
pub(super) fn framed(invalid: Invalid) -> Stop {
    let failures = match invalid.frames {
        Some((frames, rest)) => {
            narrate(&format!("{}\n\n", frames.trim_end()));
            vec![rest]
        }
        None => invalid.failures,
    };
    Stop::Card(Card::new(failures))
}
