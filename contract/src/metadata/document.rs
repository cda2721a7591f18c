//! Merged metadata as one document again, and as the values of single fields:
//! what `sf-image metadata seal` hands to a node. Reading what is written here
//! gives the same values (tested as a property).

use std::fmt::Write as _;

use super::SCHEMA;
use super::fragment::Entry;
use super::merged::Merged;
use super::value::{Reference, Value};
use crate::secret::Secret;

/// The document that sets the winners that `keep` takes, one a line, in the
/// order of their paths: comments and shadowed values are gone. It holds
/// secrets when a kept value is one.
pub fn document(merged: &Merged, mut keep: impl FnMut(&Entry) -> bool) -> Secret {
    let mut text = format!("schema = {SCHEMA}\n");
    for (_, field) in merged.fields() {
        if keep(&field.winner) {
            let _ = writeln!(text, "{} = {}", key(&field.winner), value(&field.winner));
        }
    }
    Secret::new(text)
}

/// The text of a source that sets this field alone, as
/// [`super::Fragment::single`] reads it; `None` for a reference, which has no
/// such form.
pub fn single(entry: &Entry) -> Option<Secret> {
    let value = match &entry.value {
        Value::Text(text) | Value::Float(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::List(items) => items.join(","),
        Value::Secret(secret) => secret.expose().to_owned(),
        Value::Reference(_) => return None,
    };
    // The reader takes one byte order mark and one closing line break away.
    let mark = if value.starts_with('\u{feff}') {
        "\u{feff}"
    } else {
        ""
    };
    let end = if value.ends_with('\r') { "\r\n" } else { "\n" };
    Some(Secret::new([mark, &value, end].concat()))
}

/// The dotted key; the data of a family stands in quotes where it must.
fn key(entry: &Entry) -> String {
    let bare = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    match entry.spec.family() {
        Some(prefix) => {
            let data = &entry.path[prefix.len()..];
            if bare(data) {
                entry.path.clone()
            } else {
                format!("{prefix}{}", quoted(data))
            }
        }
        None => entry.path.clone(),
    }
}

fn value(entry: &Entry) -> String {
    match &entry.value {
        Value::Text(text) => quoted(text),
        Value::Secret(secret) => quoted(secret.expose()),
        Value::Integer(number) => number.to_string(),
        Value::Float(text) => text.clone(),
        Value::Boolean(flag) => flag.to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Reference(Reference::Credential(name)) => {
            format!("{{ credential = {} }}", quoted(name))
        }
        Value::Reference(Reference::File(path)) => format!("{{ file = {} }}", quoted(path)),
    }
}

/// A basic string of TOML 1.0, on one line.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
