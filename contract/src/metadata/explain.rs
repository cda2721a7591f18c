//! What `sf-firstboot explain [FIELD]` says: which source won, which were
//! shadowed, what holds otherwise. Secrets are masked on the way in.

use std::fmt;

use serde::Serialize;

use super::dsn::Dsn;
use super::fields::{self, FIELDS, FieldSpec};
use super::fragment::Entry;
use super::hints;
use super::merged::Merged;
use super::value::Value;
use crate::secret::MASK;

/// The one secret of which the rest is shown.
const DSN: &str = "database.dsn";

/// One field, explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Dotted path; for a family of which nothing is set, with `<…>`.
    pub field: String,
    /// What it is for.
    pub about: &'static str,
    /// What a value is.
    pub takes: &'static str,
    /// What holds when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<&'static str>,
    /// A line that sets it, under `[table]`.
    pub example: String,
    /// Is its value never shown?
    pub secret: bool,
    /// The value that holds; absent when no source sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Sourced>,
    /// Values that lost, in falling precedence.
    pub shadowed: Vec<Sourced>,
}

/// A value as it may be shown, and its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sourced {
    /// The value; secrets are masked.
    pub value: String,
    /// `/etc/sf/metadata.toml:12`
    pub source: String,
    /// Of a credential, by which way it came into the machine, where whoever
    /// asks knows that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

impl Sourced {
    fn of(entry: &Entry) -> Self {
        Self {
            value: value(entry),
            source: entry.place.to_string(),
            channel: None,
        }
    }
}

/// A DSN says more than that there is one: all of it but its password, where it
/// can be taken apart. Of one that cannot, any part may be the password; and of
/// one without a password, or with a name that names rarely have (`sf;PASSWORD`),
/// a slip of the pen may have put it there.
fn value(entry: &Entry) -> String {
    match &entry.value {
        Value::Secret(secret) if entry.path == DSN => secret
            .expose()
            .parse::<Dsn>()
            .ok()
            .filter(|dsn| dsn.password().is_some() && [dsn.user(), dsn.name()].iter().all(is_name))
            .map_or_else(|| MASK.to_owned(), |dsn| dsn.to_string()),
        other => other.to_string(),
    }
}

fn is_name(text: &&str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@'))
}

/// There is no such field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no metadata field {path:?}")]
pub struct NoSuchField {
    /// What was asked for.
    pub path: String,
    /// The nearest field or table.
    pub near: Option<&'static str>,
}

/// Explains one field, the fields of one table, or with `None` all.
pub fn explain(merged: &Merged, path: Option<&str>) -> Result<Vec<Explained>, NoSuchField> {
    let Some(path) = path else {
        return Ok(FIELDS
            .iter()
            .flat_map(|spec| family(merged, spec))
            .collect());
    };
    if let Some(spec) =
        fields::find(path).filter(|spec| spec.path != path || spec.family().is_none())
    {
        return Ok(vec![one(merged, spec, path)]);
    }
    let below: Vec<Explained> = FIELDS
        .iter()
        .filter(|spec| {
            spec.path == path
                || spec
                    .path
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with('.'))
        })
        .flat_map(|spec| family(merged, spec))
        .collect();
    if below.is_empty() {
        return Err(NoSuchField {
            path: path.to_owned(),
            near: hints::meant(path),
        });
    }
    Ok(below)
}

/// A plain field, or the members of a family that are set, or the family itself.
fn family(merged: &Merged, spec: &'static FieldSpec) -> Vec<Explained> {
    let Some(prefix) = spec.family() else {
        return vec![one(merged, spec, spec.path)];
    };
    let set: Vec<Explained> = merged
        .fields()
        .filter(|(path, _)| path.starts_with(prefix))
        .map(|(path, _)| one(merged, spec, path))
        .collect();
    if set.is_empty() {
        vec![one(merged, spec, spec.path)]
    } else {
        set
    }
}

fn one(merged: &Merged, spec: &'static FieldSpec, path: &str) -> Explained {
    let field = merged.get(path);
    Explained {
        field: path.to_owned(),
        about: spec.doc,
        takes: spec.kind.wanted(),
        default: spec.default,
        example: spec.example_block(),
        secret: spec.is_secret(path),
        value: field.map(|field| Sourced::of(&field.winner)),
        shadowed: field
            .map(|field| field.shadowed.iter().map(Sourced::of).collect())
            .unwrap_or_default(),
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(Sourced {
                value,
                source,
                channel,
            }) => {
                writeln!(formatter, "{} = {value}", self.field)?;
                writeln!(formatter, "  from      {source}")?;
                if let Some(channel) = channel {
                    writeln!(formatter, "  came by   {channel}")?;
                }
            }
            None => writeln!(formatter, "{} is not set", self.field)?,
        }
        for Sourced { value, source, .. } in &self.shadowed {
            writeln!(formatter, "  shadowed  {source} = {value}")?;
        }
        if let Some(default) = self.default {
            writeln!(formatter, "  default   {default}")?;
        }
        writeln!(formatter, "  takes     {}", self.takes)?;
        if self.value.is_none() {
            writeln!(formatter, "  example   {}", self.example.replace('\n', " "))?;
        }
        write!(formatter, "  {}", self.about)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fragment, Layer, Origin, merge};
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        let lower = r#"schema = 1
[database]
dsn = "mysql://old:hunter2@db0/sf"
"#;
        let document = format!("schema = 1\n[database]\ndsn = {text:?}\n");
        let merged = merge(vec![
            Fragment::read(Origin::new(Layer::CommandLine, 0, "a.toml"), &document),
            Fragment::read(Origin::new(Layer::File, 0, "b.toml"), lower),
        ]);
        let explained = explain(&merged, Some(DSN)).unwrap();
        let shown = format!("{} {}", explained[0], serde_json::json!(explained));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("  shadowed  b.toml:3 = mysql://old:******@db0:3306/sf\n"),
            "{shown}"
        );
        shown
    }

    #[test]
    fn a_dsn_is_shown_without_its_password_or_not_at_all() {
        for (text, expected) in [
            (
                "mysql://sf:marker-7@db1,db2:3307/shakenfist?ssl-mode=required",
                "database.dsn = mysql://sf:******@db1:3306,db2:3307/shakenfist?ssl-mode=required\n",
            ),
            ("mysql://sf:marker-7/x@db1/sf", "database.dsn = ******\n"),
            ("mysql://sf:marker-7", "database.dsn = ******\n"),
            ("postgres://sf:marker-7@db1/sf", "database.dsn = ******\n"),
            ("mysql://sf;marker-7@db1/sf", "database.dsn = ******\n"),
            ("mysql://marker-7@db1/sf", "database.dsn = ******\n"),
        ] {
            let shown = shown(text);
            assert!(shown.starts_with(expected), "{shown}");
            assert!(!shown.contains("marker-7"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_password_survives(password in "[A-Za-z0-9@:/?#,%]{0,8}marker-7[A-Za-z0-9@:/?#,%]{0,8}") {
            let shown = shown(&format!("mysql://sf:{password}@db1/sf"));
            prop_assert!(!shown.contains("marker-7"), "{}", shown);
        }
    }
}
