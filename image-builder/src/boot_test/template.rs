//! Text with places to fill in: `{mariadb.port}`, `{canary.system_key}`.
//!
//! A place is a dotted name between braces without any white space, so inline
//! tables of TOML, JSON objects and shell code stand in a text as they are.

use std::collections::BTreeMap;
use std::ops::Range;

/// A text that may have places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

/// A place whose value is not known (yet).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is known as {{{name}}} at this point")]
pub struct Unknown {
    /// The dotted name without its braces.
    pub name: String,
}

impl Template {
    /// Takes any text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of all places, in order.
    pub fn names(&self) -> Vec<&str> {
        places(&self.0)
            .into_iter()
            .map(|place| inner(&self.0, &place))
            .collect()
    }

    /// The text with every place filled in from `values`.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<String, Unknown> {
        let mut filled = String::with_capacity(self.0.len());
        let mut end = 0;
        for place in places(&self.0) {
            let name = inner(&self.0, &place);
            let value = values.get(name).ok_or_else(|| Unknown {
                name: name.to_owned(),
            })?;
            filled.push_str(&self.0[end..place.start]);
            filled.push_str(value);
            end = place.end;
        }
        filled.push_str(&self.0[end..]);
        Ok(filled)
    }
}

fn inner<'t>(text: &'t str, place: &Range<usize>) -> &'t str {
    &text[place.start + 1..place.end - 1]
}

/// Byte ranges of the places, braces included.
fn places(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|at| from + at) {
        from = open + 1;
        let rest = &text[from..];
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
            .unwrap_or(rest.len());
        let dotted = rest[..length].contains('.')
            && rest[..length].split('.').all(|part| !part.is_empty())
            && rest.starts_with(|c: char| c.is_ascii_lowercase());
        // `${name.part}` is a shell's.
        let shell = text[..open].ends_with('$');
        if dotted && !shell && rest[length..].starts_with('}') {
            found.push(open..from + length + 1);
            from += length + 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> BTreeMap<String, String> {
        [("mariadb.port", "3307"), ("canary.system_key", "s3cret")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn places_are_filled_and_the_rest_is_kept() {
        for (text, want) in [
            ("host:{mariadb.port}/x", "host:3307/x"),
            ("{mariadb.port}{mariadb.port}", "33073307"),
            (
                "key = { credential = \"a.b\" }",
                "key = { credential = \"a.b\" }",
            ),
            ("{\"key\":\"{canary.system_key}\"}", "{\"key\":\"s3cret\"}"),
            (
                "${a.b} {a} {1.5} {.a} {a.} {a.b",
                "${a.b} {a} {1.5} {.a} {a.} {a.b",
            ),
            ("no places", "no places"),
        ] {
            assert_eq!(Template::new(text).fill(&values()).as_deref(), Ok(want));
        }
    }

    #[test]
    fn unknown_names_are_errors() {
        let error = Template::new("{capture.token}")
            .fill(&values())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "nothing is known as {capture.token} at this point"
        );
    }
}
