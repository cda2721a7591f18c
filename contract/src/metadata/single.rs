//! A source that is the value of one field: a credential `sf.<field>`.

use super::fields::{self, FieldSpec, Kind};
use super::finding::{Class, Finding};
use super::fragment::{Entry, Fragment, finite, inline};
use super::hints;
use super::origin::{Origin, Place};
use super::value::Value;
use crate::problem::Problem;
use crate::secret::Secret;

impl Fragment {
    /// Reads a source that is the value of one field: its text as it is, less
    /// one closing line break; a list is separated by commas.
    pub fn single(origin: Origin, path: &str, text: &str) -> Self {
        let mut fragment = Self {
            text: Secret::new(""),
            entries: Vec::new(),
            problems: Vec::new(),
            origin,
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text
            .strip_suffix("\r\n")
            .or_else(|| text.strip_suffix('\n'))
            .unwrap_or(text);
        let found = fields::find(path).ok_or_else(|| {
            let hint = hints::nearest(path).map_or_else(
                || "`sf-firstboot explain` lists the fields".into(),
                |near| format!("did you mean \"{near}\"?"),
            );
            (Class::UnknownKey, "there is no such field".to_owned(), hint)
        });
        let value = found.and_then(|spec| {
            single_value(spec, path, text)
                .map(|value| (spec, value))
                .ok_or_else(|| {
                    let wanted = spec.kind.wanted();
                    (
                        Class::Value,
                        format!("expected {wanted}"),
                        format!("for example {}", spec.example),
                    )
                })
        });
        match value {
            Ok((spec, value)) => fragment.entries.push(Entry {
                path: path.to_owned(),
                spec,
                value,
                place: Place {
                    origin: fragment.origin.clone(),
                    span: None,
                    line: None,
                },
            }),
            Err((class, message, hint)) => fragment.problems.push(Finding {
                class,
                problem: Problem {
                    source: fragment.origin.name.clone(),
                    field: path.to_owned(),
                    span: None,
                    message,
                    hint: Some(hint),
                },
            }),
        }
        fragment
    }
}

fn single_value(spec: &FieldSpec, path: &str, text: &str) -> Option<Value> {
    Some(match spec.kind {
        Kind::Amount | Kind::Mtu => Value::Integer(text.trim().parse().ok()?),
        Kind::Hosts => Value::list(
            text.split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
        )?,
        Kind::ClusterConfig => match (text, text.parse()) {
            ("true", _) => Value::Boolean(true),
            ("false", _) => Value::Boolean(false),
            (_, Ok(number)) => Value::Integer(number),
            _ if text.contains('.') && finite(text).is_some() => Value::Float(text.to_owned()),
            _ => Value::text(text.to_owned(), spec.hides(path)),
        },
        _ => inline(spec, path, text.to_owned()),
    })
}
