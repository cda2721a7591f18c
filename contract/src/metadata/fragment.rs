//! One source as it was read: values with places, and what is wrong with it.
//! Types are checked here, values at validation, when it is known who won.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::SCHEMA;
use super::fields::{self, FieldSpec, Kind};
use super::finding::{Class, Finding};
use super::hints;
use super::origin::{Origin, Place};
use super::value::{Reference, Value, may_be_shown, shown};
use crate::problem::{Lines, Problem};
use crate::secret::Secret;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Dotted path, families with their key: `config.ETCD_HOST`.
    pub path: String,
    /// The field that it is a value of.
    pub spec: &'static FieldSpec,
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
}

impl PartialEq for FieldSpec {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for FieldSpec {}

/// One source, read.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// The source.
    pub origin: Origin,
    /// Its text, which can hold secrets; for the frames of problems.
    pub text: Secret,
    /// The values, one for each field that it sets.
    pub entries: Vec<Entry>,
    /// What is wrong with it; what could be read in spite of that is in `entries`.
    pub problems: Vec<Finding>,
}

impl Fragment {
    /// Reads a whole document. Never fails: mistakes are in `problems`.
    pub fn read(origin: Origin, text: &str) -> Self {
        // Editors on Windows put a byte order mark in front of a text, even an empty one.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reading = Reading {
            origin: &origin,
            text,
            lines: Lines::of(text),
            certain: usize::MAX,
            entries: Vec::new(),
            problems: Vec::new(),
        };
        reading.document();
        let Reading {
            mut entries,
            mut problems,
            ..
        } = reading;
        problems.sort_by_key(|finding| {
            finding
                .problem
                .span
                .as_ref()
                .map_or(usize::MAX, |span| span.start)
        });
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Self {
            text: Secret::new(text),
            entries,
            problems,
            origin,
        }
    }

    /// The references in it, winners or not.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.entries.iter().filter_map(|entry| match &entry.value {
            Value::Reference(reference) => Some(reference),
            _ => None,
        })
    }

    /// Does a secret stand in the document itself?
    pub fn has_inline_secret(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry.value, Value::Secret(_)))
    }
}

/// A number with a fraction, as it is written; not infinite, not "not a number".
pub(super) fn finite(text: &str) -> Option<String> {
    let number = text.parse::<f64>().ok()?;
    number.is_finite().then(|| text.to_owned())
}

/// A string of the document: for PEM items a path stands for the file.
pub(super) fn inline(spec: &FieldSpec, path: &str, text: String) -> Value {
    if spec.kind == Kind::Pem && text.starts_with('/') && may_be_shown(&text) {
        return Value::Reference(Reference::File(text));
    }
    Value::text(text, spec.hides(path))
}

struct Reading<'o, 't> {
    origin: &'o Origin,
    text: &'t str,
    lines: Lines,
    /// Where the first syntax error begins: up to there keys are keys.
    certain: usize,
    entries: Vec<Entry>,
    problems: Vec<Finding>,
}

impl<'t> Reading<'_, 't> {
    fn document(&mut self) {
        if self.text.trim().is_empty() {
            self.problem(
                Class::Syntax,
                "",
                None,
                "the document is empty",
                "its first line is `schema = 1`",
            );
            return;
        }
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            self.problem(
                Class::Syntax,
                "",
                error.span(),
                // The parser's own words name what it expected, not what it
                // found, so no value gets out this way (tested).
                format!("not valid TOML: {}", error.message()),
                syntax_hint(error.message()),
            );
        }
        self.certain = errors
            .iter()
            .map(|error| error.span().map_or(0, |span| span.start))
            .min()
            .unwrap_or(usize::MAX);
        let table = table.get_ref();
        if !self.schema(table, errors.is_empty()) {
            return;
        }
        // Behind a syntax error keys can be halves of values (a secret that was
        // wrapped): what is not known there is not reported, and no key of a
        // family taken, since it may be no key at all.
        self.table("", table, errors.is_empty());
    }

    /// Is it a schema that this code reads?
    fn schema(&mut self, table: &DeTable<'t>, well_formed: bool) -> bool {
        let Some(value) = get(table, "schema") else {
            if well_formed {
                self.problem(
                    Class::Schema,
                    "schema",
                    None,
                    "missing key \"schema\"",
                    "the first line is `schema = 1`",
                );
            }
            return true;
        };
        match value.get_ref() {
            DeValue::Integer(integer) if integer_of(integer) == Some(SCHEMA) => true,
            DeValue::Integer(integer) => {
                // Of no field: nothing of the document is read.
                self.problem(
                    Class::Schema,
                    "",
                    Some(value.span()),
                    format!("schema {integer} is not known"),
                    format!("this image reads schema {SCHEMA}"),
                );
                false
            }
            other => {
                let found = type_name(other);
                self.problem(
                    Class::Schema,
                    "schema",
                    Some(value.span()),
                    format!("expected a whole number, found {found}"),
                    format!("write `schema = {SCHEMA}`"),
                );
                true
            }
        }
    }

    fn table(&mut self, path: &str, table: &DeTable<'t>, report_unknown: bool) {
        for (name, value) in table {
            let key = name.get_ref().as_ref();
            if path.is_empty() && key == "schema" {
                continue;
            }
            let here = if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            };
            // A quoted key with dots is one name, not a way through tables.
            let one_name = !key.contains('.');
            let spec = fields::find(&here).filter(|spec| one_name || spec.family().is_some());
            let is_family = |spec: &FieldSpec| {
                spec.family().and_then(|prefix| prefix.strip_suffix('.')) == Some(path)
            };
            match spec {
                Some(spec) if is_family(spec) && name.span().start > self.certain => {}
                Some(spec) if spec.family().is_none() || is_family(spec) => {
                    self.leaf(spec, here, value);
                }
                _ if one_name && fields::is_table(&here) => match value.get_ref() {
                    DeValue::Table(table) => self.table(&here, table, report_unknown),
                    other => {
                        let example = fields::first_in(&here).map(|spec| {
                            format!("for example {}", spec.example_block().replace('\n', " "))
                        });
                        self.wrong_type(&here, value.span(), "a table", other, example.as_deref());
                    }
                },
                _ if report_unknown => self.problem(
                    Class::UnknownKey,
                    &here,
                    Some(name.span()),
                    format!("unknown key {}", shown(key)),
                    hints::unknown_key_hint(path, key),
                ),
                _ => {}
            }
        }
    }

    fn leaf(&mut self, spec: &'static FieldSpec, path: String, value: &Spanned<DeValue<'t>>) {
        let span = value.span();
        let read = match (spec.kind, value.get_ref()) {
            (
                Kind::Amount | Kind::Mtu | Kind::Config | Kind::ClusterConfig,
                DeValue::Integer(integer),
            ) => integer_of(integer).map(Value::Integer),
            (Kind::Config | Kind::ClusterConfig, DeValue::Boolean(flag)) => {
                Some(Value::Boolean(*flag))
            }
            (Kind::Config | Kind::ClusterConfig, DeValue::Float(float)) => {
                finite(float.as_str()).map(Value::Float)
            }
            (Kind::Amount | Kind::Mtu | Kind::Hosts, DeValue::String(_)) => None,
            (Kind::Hosts, DeValue::Array(items)) => items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .and_then(Value::list),
            (Kind::Address, DeValue::Table(_)) if spec.family().is_some() => {
                let hint = "a name with dots stands in quotes: \"db1.example.com\" = \"10.0.0.1\"";
                self.wrong_type(&path, span, spec.kind.wanted(), value.get_ref(), Some(hint));
                return;
            }
            (_, DeValue::Table(table)) if takes_reference(spec, &path) => {
                if let Some(reference) = self.reference(&path, &span, table) {
                    self.push(spec, path, Value::Reference(reference), span);
                }
                return;
            }
            (_, DeValue::String(text)) => Some(inline(spec, &path, text.clone().into_owned())),
            _ => None,
        };
        match read {
            Some(value) => self.push(spec, path, value, span),
            None => self.wrong_type(&path, span, spec.kind.wanted(), value.get_ref(), None),
        }
    }

    fn reference(
        &mut self,
        path: &str,
        span: &Range<usize>,
        table: &DeTable<'t>,
    ) -> Option<Reference> {
        const FORMS: &str = "write { credential = \"name\" } or { file = \"/path\" }";
        let mut found = Vec::new();
        for (name, value) in table {
            let key = name.get_ref().as_ref();
            match (key, value.get_ref()) {
                // A reference is shown as it is.
                ("credential" | "file", DeValue::String(text)) if !may_be_shown(text) => {
                    let below = format!("{path}.{key}");
                    let message =
                        "is no name or path: it has several lines, a password or a field in it";
                    let hint = "look for a quote that is not closed";
                    self.problem(Class::Value, &below, Some(value.span()), message, hint);
                    return None;
                }
                ("credential", DeValue::String(text)) => {
                    found.push(Reference::Credential(text.clone().into_owned()));
                }
                ("file", DeValue::String(text)) => {
                    found.push(Reference::File(text.clone().into_owned()));
                }
                ("credential" | "file", other) => {
                    let below = format!("{path}.{key}");
                    self.wrong_type(&below, value.span(), "a string", other, None);
                    return None;
                }
                _ if name.span().start > self.certain => return None,
                _ => {
                    self.problem(
                        Class::UnknownKey,
                        &format!("{path}.{key}"),
                        Some(name.span()),
                        format!("unknown key {}", shown(key)),
                        FORMS,
                    );
                    return None;
                }
            }
        }
        if found.len() == 1 {
            return found.pop();
        }
        let message = if found.is_empty() {
            "names neither a credential nor a file"
        } else {
            "names both a credential and a file"
        };
        self.problem(Class::Value, path, Some(span.clone()), message, FORMS);
        None
    }

    fn push(&mut self, spec: &'static FieldSpec, path: String, value: Value, span: Range<usize>) {
        let place = Place {
            origin: self.origin.clone(),
            line: Some(self.lines.number(span.start)),
            span: Some(span),
        };
        self.entries.push(Entry {
            path,
            spec,
            value,
            place,
        });
    }

    fn wrong_type(
        &mut self,
        path: &str,
        span: Range<usize>,
        wanted: &str,
        found: &DeValue<'_>,
        hint: Option<&str>,
    ) {
        let found = match found {
            DeValue::Array(_)
                if fields::find(path).is_some_and(|spec| spec.kind == Kind::Hosts) =>
            {
                "a list with something else in it"
            }
            other => type_name(other),
        };
        let message = format!("expected {wanted}, found {found}");
        let hint = hint.map_or_else(
            || {
                fields::find(path)
                    .map_or_else(String::new, |spec| format!("for example {}", spec.example))
            },
            str::to_owned,
        );
        self.problem(Class::Value, path, Some(span), message, hint);
    }

    fn problem(
        &mut self,
        class: Class,
        field: &str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let hint = hint.into();
        self.problems.push(Finding {
            class,
            problem: Problem {
                source: self.origin.name.clone(),
                field: field.to_owned(),
                span,
                message: message.into(),
                hint: (!hint.is_empty()).then_some(hint),
            },
        });
    }
}

/// What to do about a syntax error, by the parser's own words.
fn syntax_hint(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        return "it stands twice in this document: remove one of the two, or write both under one [table]";
    }
    if message.contains("unclosed table") {
        return "a table's name stands in brackets on a line of its own: [node]";
    }
    if message.contains("key with no value") {
        return "a field stands with its value: name = \"db1.example.com\"";
    }
    if message.contains("string") || message.contains("expected newline") {
        return "a string stands in double quotes; one field, one line";
    }
    // What was expected is said, and more is not known.
    ""
}

/// May the value be a reference? Secrets and PEM items, and keys of families
/// whose names say that they are secrets.
fn takes_reference(spec: &FieldSpec, path: &str) -> bool {
    spec.is_secret(path) && spec.kind != Kind::ClusterConfig
}

fn get<'a, 't>(table: &'a DeTable<'t>, key: &str) -> Option<&'a Spanned<DeValue<'t>>> {
    table.get(key)
}

fn integer_of(integer: &toml::de::DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
