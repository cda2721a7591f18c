//! A TOML document read by hand instead of by serde: serde stops at the first
//! error, while people want all of them, with places. Every key that a reader
//! asks for is a known key; what is left over at [`Reader::finish`] is unknown.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::problem::Problem;

/// A value and the bytes of the document that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<T> {
    /// The value as read.
    pub value: T,
    /// Byte range in the document.
    pub span: Range<usize>,
}

impl<T> Field<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Field<U> {
        Field {
            value: change(self.value),
            span: self.span,
        }
    }
}

type Problems = Rc<RefCell<Vec<Problem>>>;

/// A parsed document and the problems found in it so far.
#[derive(Debug)]
pub struct Document<'t> {
    source: String,
    table: DeTable<'t>,
    span: Range<usize>,
    problems: Problems,
}

impl<'t> Document<'t> {
    /// Parses `text`; `source` is how problems name it. Syntax errors become
    /// problems, and what could be read in spite of them is kept.
    pub fn parse(source: &str, text: &'t str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let problems = errors
            .iter()
            .map(|error| Problem {
                source: source.to_owned(),
                field: String::new(),
                span: error.span(),
                message: format!("not valid TOML: {}", error.message()),
                hint: None,
            })
            .collect();
        let span = table.span();
        Self {
            source: source.to_owned(),
            table: table.into_inner(),
            span,
            problems: Rc::new(RefCell::new(problems)),
        }
    }

    /// The reader of the top table.
    pub fn root(&self) -> Reader<'_, 't> {
        Reader {
            source: &self.source,
            path: String::new(),
            span: self.span.clone(),
            table: &self.table,
            problems: Rc::clone(&self.problems),
            asked: RefCell::default(),
        }
    }

    /// All problems, in the order of the text.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.take();
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        problems
    }
}

/// Reads one table; every mistake becomes a [`Problem`] and reads as absent.
#[derive(Debug)]
pub struct Reader<'d, 't> {
    source: &'d str,
    path: String,
    span: Range<usize>,
    table: &'d DeTable<'t>,
    problems: Problems,
    asked: RefCell<Vec<String>>,
}

impl<'d, 't> Reader<'d, 't> {
    /// Dotted path of `key` in the document.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Where this table stands.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The document's name.
    pub fn source(&self) -> &'d str {
        self.source
    }

    /// Records a problem with the field `key` at `span`.
    pub fn problem(
        &self,
        key: &str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.problems.borrow_mut().push(Problem {
            source: self.source.to_owned(),
            field: if key.is_empty() {
                self.path.clone()
            } else {
                self.path_of(key)
            },
            span,
            message: message.into(),
            hint,
        });
    }

    /// Is the key there, of whatever type?
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The span of a key's own name, for problems about the key.
    pub fn key_span(&self, key: &str) -> Option<Range<usize>> {
        let (name, _) = self.table.get_key_value(key)?;
        Some(name.span())
    }

    fn get(&self, key: &str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.asked.borrow_mut().push(key.to_owned());
        self.table.get(key)
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        convert: impl FnOnce(&'d DeValue<'t>) -> Option<T>,
    ) -> Option<Field<T>> {
        let value = self.get(key)?;
        let Some(converted) = convert(value.get_ref()) else {
            self.wrong_type(key, value, wanted);
            return None;
        };
        Some(Field {
            value: converted,
            span: value.span(),
        })
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.problem(
            key,
            Some(value.span()),
            format!("expected {wanted}, found {found}"),
            None,
        );
    }

    /// A string.
    pub fn string(&self, key: &str) -> Option<Field<String>> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A string that must be there.
    pub fn required_string(&self, key: &str) -> Option<Field<String>> {
        if !self.has(key) {
            self.missing(key, "a string");
        }
        self.string(key)
    }

    /// Records that `key` is missing.
    pub fn missing(&self, key: &str, wanted: &str) {
        let span = (!self.path.is_empty()).then(|| self.span());
        self.problem(
            key,
            span,
            format!("missing key \"{key}\""),
            Some(format!("{} takes {wanted}", self.path_of(key))),
        );
    }

    /// A string that `parse` turns into a value; its error is the problem.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Field<T>> {
        let field = self.string(key)?;
        match parse(&field.value) {
            Ok(value) => Some(Field {
                value,
                span: field.span,
            }),
            Err(error) => {
                self.problem(key, Some(field.span), error.to_string(), None);
                None
            }
        }
    }

    /// A whole number.
    pub fn integer(&self, key: &str) -> Option<Field<i64>> {
        self.typed(key, "a whole number", |value| {
            let integer = value.as_integer()?;
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()
        })
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Option<Field<bool>> {
        self.typed(key, "true or false", DeValue::as_bool)
    }

    /// A list of strings.
    pub fn strings(&self, key: &str) -> Option<Vec<Field<String>>> {
        let array = self
            .typed(key, "a list of strings", DeValue::as_array)?
            .value;
        let mut strings = Vec::new();
        for item in array {
            match item.get_ref().as_str() {
                Some(text) => strings.push(Field {
                    value: text.to_owned(),
                    span: item.span(),
                }),
                None => self.wrong_type(key, item, "a string"),
            }
        }
        Some(strings)
    }

    /// Is the value of `key` a list?
    pub fn is_list(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| value.get_ref().is_array())
    }

    /// A nested table.
    pub fn table(&self, key: &str) -> Option<Reader<'d, 't>> {
        let value = self.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table");
            return None;
        };
        Some(self.child(key, table, value.span()))
    }

    /// An array of tables (`[[key]]`).
    pub fn tables(&self, key: &str) -> Vec<Reader<'d, 't>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "an array of tables");
            return Vec::new();
        };
        let mut readers = Vec::new();
        for (index, item) in array.iter().enumerate() {
            match item.get_ref().as_table() {
                Some(table) => {
                    readers.push(self.child(&format!("{key}[{index}]"), table, item.span()));
                }
                None => self.wrong_type(key, item, "a table"),
            }
        }
        readers
    }

    fn child(&self, key: &str, table: &'d DeTable<'t>, span: Range<usize>) -> Reader<'d, 't> {
        Reader {
            source: self.source,
            path: self.path_of(key),
            span,
            table,
            problems: Rc::clone(&self.problems),
            asked: RefCell::default(),
        }
    }

    /// The keys of this table with their places, for tables whose keys are data.
    pub fn keys(&self) -> Vec<Field<String>> {
        let mut keys: Vec<Field<String>> = self
            .table
            .iter()
            .map(|(name, _)| Field {
                value: text(name.get_ref()),
                span: name.span(),
            })
            .collect();
        keys.sort_by_key(|key| key.span.start);
        keys
    }

    /// A string, whole number or boolean in its plain text form (`"8950"`,
    /// `"true"`), for tables whose values are rendered as text.
    pub fn scalar(&self, key: &str) -> Option<Field<String>> {
        self.typed(
            key,
            "a string, a whole number or true or false",
            |value| match value {
                DeValue::String(text) => Some(text.clone().into_owned()),
                DeValue::Integer(integer) => Some(integer.to_string()),
                DeValue::Boolean(value) => Some(value.to_string()),
                _ => None,
            },
        )
    }

    /// Like [`Reader::scalar`], but as JSON (`"text"`, `8950`, `true`).
    pub fn json_scalar(&self, key: &str) -> Option<Field<serde_json::Value>> {
        self.typed(
            key,
            "a string, a whole number or true or false",
            |value| match value {
                DeValue::String(text) => Some(text.as_ref().into()),
                DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                    .ok()
                    .map(Into::into),
                DeValue::Boolean(value) => Some((*value).into()),
                _ => None,
            },
        )
    }

    /// A table of scalars in their plain text form, in the order of the text.
    pub fn scalars(&self, key: &str) -> Vec<(Field<String>, Field<String>)> {
        let Some(table) = self.table(key) else {
            return Vec::new();
        };
        table
            .keys()
            .into_iter()
            .filter_map(|name| table.scalar(&name.value).map(|value| (name, value)))
            .collect()
    }

    /// Reports every key that nobody asked for, with the nearest known key.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        // Of a table whose keys are data each key was asked for.
        let known: HashSet<&str> = asked.iter().map(String::as_str).collect();
        for (name, _) in self.table {
            let key = name.get_ref().as_ref();
            if known.contains(key) {
                continue;
            }
            let hint = did_you_mean(key, asked.iter().map(String::as_str))
                .map(|near| format!("did you mean \"{near}\"?"))
                .or_else(|| {
                    let mut known: Vec<&str> = asked.iter().map(String::as_str).collect();
                    known.sort_unstable();
                    known.dedup();
                    (!known.is_empty()).then(|| format!("known keys here: {}", known.join(", ")))
                });
            self.problem(
                key,
                Some(name.span()),
                format!("unknown key \"{key}\""),
                hint,
            );
        }
    }
}

fn text(string: &DeString<'_>) -> String {
    string.clone().into_owned()
}

/// The candidate nearest to `word`, when one is near enough to be what was meant.
pub fn did_you_mean<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_found_in_one_run() {
        let text = "name = 5\nflag = \"yes\"\ncolour = 1\n[sub]\nextra = true\n";
        let document = Document::parse("x.toml", text);
        let root = document.root();
        assert_eq!(root.string("name"), None);
        assert_eq!(root.boolean("flag"), None);
        assert_eq!(root.integer("color"), None);
        let sub = root.table("sub").unwrap();
        assert_eq!(sub.required_string("value"), None);
        sub.finish();
        root.finish();
        let shown: Vec<String> = document
            .into_problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            [
                "x.toml: name: expected a string, found integer",
                "x.toml: flag: expected true or false, found string",
                "x.toml: unknown key \"colour\" (did you mean \"color\"?)",
                "x.toml: sub.value: missing key \"value\" (sub.value takes a string)",
                "x.toml: sub.extra: unknown key \"extra\" (known keys here: value)",
            ]
        );
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let document = Document::parse("x.toml", "a = \n");
        let problems = document.into_problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].span.is_some());
        assert!(problems[0].message.starts_with("not valid TOML"));
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_not() {
        let known = ["hypervisor", "network", "database-tier"];
        assert_eq!(
            did_you_mean("hypervizor", known.into_iter()),
            Some("hypervisor")
        );
        assert_eq!(did_you_mean("webserver", known.into_iter()), None);
    }
}
