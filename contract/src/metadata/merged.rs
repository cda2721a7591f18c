//! All sources as one: every field keeps who won and who was shadowed.

use std::collections::BTreeMap;

use super::fields::{self, FieldSpec};
use super::finding::{Class, Finding};
use super::fragment::{Entry, Fragment};
use super::origin::{Origin, Place};
use super::template::PLACEHOLDER;
use super::value::{Reference, Value};
use crate::problem::{Disclosure, Lines, Problem};
use crate::secret::Secret;

/// As many mistakes are shown to a person. A document with more is the wrong
/// document, and its owner sees that by these.
pub const MOST: usize = 30;

/// One field after the merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedField {
    /// The value that holds.
    pub winner: Entry,
    /// Values of weaker sources, in falling precedence.
    pub shadowed: Vec<Entry>,
}

/// A source as the problems in it are shown.
#[derive(Clone, Debug)]
struct Source {
    origin: Origin,
    text: Secret,
    lines: Lines,
}

/// Metadata of all sources.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    fields: BTreeMap<String, MergedField>,
    texts: Vec<Source>,
    problems: Vec<Finding>,
}

/// Merges sources, in whatever order they come; precedence is that of
/// [`super::origin::Layer`]. A list is one value; families merge key by key.
pub fn merge(fragments: impl IntoIterator<Item = Fragment>) -> Merged {
    let mut fragments: Vec<Fragment> = fragments.into_iter().collect();
    fragments.sort_by(|a, b| a.origin.rank().cmp(&b.origin.rank()));
    let mut merged = Merged::default();
    for fragment in fragments {
        merged.problems.extend(fragment.problems);
        merged.texts.push(Source {
            lines: Lines::of(fragment.text.expose()),
            origin: fragment.origin,
            text: fragment.text,
        });
        for entry in fragment.entries {
            match merged.fields.get_mut(&entry.path) {
                Some(field) => field.shadowed.push(entry),
                None => {
                    merged.fields.insert(
                        entry.path.clone(),
                        MergedField {
                            winner: entry,
                            shadowed: Vec::new(),
                        },
                    );
                }
            }
        }
    }
    merged
}

impl Merged {
    /// The field at a dotted path.
    pub fn get(&self, path: &str) -> Option<&MergedField> {
        self.fields.get(path)
    }

    /// Every field that is set, by path.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &MergedField)> {
        self.fields
            .iter()
            .map(|(path, field)| (path.as_str(), field))
    }

    /// What was wrong with the sources themselves.
    pub fn problems(&self) -> &[Finding] {
        &self.problems
    }

    /// The sources, in falling precedence.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.texts.iter().map(|source| &source.origin)
    }

    /// Where the value of a field stands, for cards and logs:
    /// `/etc/sf/metadata.toml:12`, `credential sf.metadata:3`.
    pub fn place(&self, path: &str) -> Option<String> {
        self.get(path).map(|field| field.winner.place.to_string())
    }

    /// The problem as a source frame, every value in it masked.
    pub fn frame(&self, problem: &Problem) -> String {
        let text = self
            .source(problem)
            .map_or("", |source| source.text.expose());
        let text = only_known_keys(text, problem);
        problem.frame(&text, Disclosure::KeysOnly)
    }

    /// Problems as source frames, [`MOST`] at most: each frame is made from the
    /// whole text, and a console is slow.
    pub fn frames<'p>(&self, problems: impl ExactSizeIterator<Item = &'p Problem>) -> String {
        let more = problems.len().saturating_sub(MOST);
        let mut frames: Vec<String> = problems
            .take(MOST)
            .map(|problem| self.frame(problem))
            .collect();
        if more > 0 {
            frames.push(format!("and {more} more"));
        }
        frames.join("\n\n")
    }

    /// Where a problem is: its source with the line, where it has one.
    pub fn place_of(&self, problem: &Problem) -> String {
        let line = self
            .source(problem)
            .and_then(|source| problem.line(&source.lines));
        match line {
            Some(line) => format!("{}:{line}", problem.source),
            None => problem.source.clone(),
        }
    }

    /// Sorts as a person goes through them: what a document cannot be read for,
    /// then source by source from top to bottom, then what stands nowhere.
    pub(super) fn put_in_order(&self, findings: &mut [Finding]) {
        findings.sort_by_key(|finding| {
            let problem = &finding.problem;
            let basic = matches!(finding.class, Class::Syntax | Class::Schema);
            let source = self
                .texts
                .iter()
                .position(|source| source.origin.name == problem.source)
                .unwrap_or(usize::MAX);
            let start = problem.span.as_ref().map(|span| span.start);
            (!basic, source, start)
        });
    }

    fn source(&self, problem: &Problem) -> Option<&Source> {
        self.texts
            .iter()
            .find(|source| source.origin.name == problem.source)
    }

    /// Follows the references of all fields that won. `fetch` does the I/O and
    /// says why it failed and what to do; each failure is a problem at the
    /// field's place. It is not asked for what no node could follow.
    pub fn resolve(
        &self,
        mut fetch: impl FnMut(&str, &Reference) -> Result<Secret, Unresolved>,
    ) -> Resolved {
        let mut resolved = Resolved::default();
        for (path, field) in self.fields() {
            let Entry {
                value, spec, place, ..
            } = &field.winner;
            let (value, via) = match value {
                Value::Reference(reference) => match reference
                    .malformed()
                    .map_or_else(|| fetch(path, reference), Err)
                {
                    Ok(secret) => (Value::Secret(secret), Some(reference.clone())),
                    Err(unresolved) => {
                        resolved.problems.push(Finding {
                            class: Class::Reference,
                            problem: Problem {
                                source: place.origin.name.clone(),
                                field: path.to_owned(),
                                span: place.span.clone(),
                                message: unresolved.message,
                                hint: Some(unresolved.hint),
                            },
                        });
                        resolved.unresolved.push(path.to_owned());
                        continue;
                    }
                },
                plain => (plain.clone(), None),
            };
            resolved.fields.insert(
                path.to_owned(),
                ResolvedField {
                    value,
                    via,
                    spec,
                    place: place.clone(),
                },
            );
        }
        resolved
    }
}

/// Why a reference could not be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// What is wrong; names the credential or file.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// A field whose value is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedField {
    /// The value; never [`Value::Reference`].
    pub value: Value,
    /// The reference that led to the value, if one did.
    pub via: Option<Reference>,
    /// The field that it is a value of.
    pub spec: &'static FieldSpec,
    /// Where it stands, or where the reference to it stands.
    pub place: Place,
}

/// Merged metadata with all references followed.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    fields: BTreeMap<String, ResolvedField>,
    unresolved: Vec<String>,
    problems: Vec<Finding>,
}

impl Resolved {
    /// The field at a dotted path.
    pub fn get(&self, path: &str) -> Option<&ResolvedField> {
        self.fields.get(path)
    }

    /// Every field, by path.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &ResolvedField)> {
        self.fields
            .iter()
            .map(|(path, field)| (path.as_str(), field))
    }

    /// Is the field set, though its reference may have led nowhere?
    pub fn is_set(&self, path: &str) -> bool {
        self.fields.contains_key(path) || self.unresolved.iter().any(|known| known == path)
    }

    /// Takes back that the field's reference led nowhere: it is set, and only
    /// the node that it is for can say to what.
    pub fn leave_to_the_node(&mut self, path: &str) {
        self.problems
            .retain(|finding| finding.problem.field != path);
    }

    /// References that led nowhere.
    pub fn problems(&self) -> &[Finding] {
        &self.problems
    }

    /// The same, less the fields where a template was not filled in, which are
    /// returned: they are set, but there is no value to judge.
    pub(super) fn without_placeholders(&self) -> (Self, Vec<(String, ResolvedField)>) {
        let unfilled = |field: &ResolvedField| match &field.value {
            Value::Text(text) => text == PLACEHOLDER,
            Value::Secret(secret) => secret.expose() == PLACEHOLDER,
            Value::List(items) => items.iter().any(|item| item == PLACEHOLDER),
            _ => false,
        };
        let mut rest = self.clone();
        let taken: Vec<(String, ResolvedField)> = self
            .fields()
            .filter(|(_, field)| unfilled(field))
            .map(|(path, field)| (path.to_owned(), field.clone()))
            .collect();
        for (path, _) in &taken {
            rest.fields.remove(path);
            rest.unresolved.push(path.clone());
        }
        (rest, taken)
    }

    /// Calls `visit` with every path and the exposed text of its value, in the
    /// order of the paths: what a digest is made of. Equal metadata gives equal
    /// calls, wherever it came from.
    pub fn each_exposed(&self, mut visit: impl FnMut(&str, &str)) {
        for (path, field) in self.fields() {
            match &field.value {
                Value::Text(text) | Value::Float(text) => visit(path, text),
                Value::Integer(number) => visit(path, &number.to_string()),
                Value::Boolean(flag) => visit(path, &flag.to_string()),
                Value::List(items) => {
                    for item in items {
                        visit(path, item);
                    }
                }
                Value::Secret(secret) => visit(path, secret.expose()),
                Value::Reference(reference) => visit(path, &reference.to_string()),
            }
        }
    }
}

/// Masks what looks like a key or a header but is neither known nor what the
/// problem is about: in a broken document that can be a piece of a value.
fn only_known_keys(text: &str, problem: &Problem) -> String {
    let own = problem.field.rsplit('.').next().unwrap_or_default();
    let known = |key: &str| {
        key.split('.')
            .map(str::trim)
            .all(|part| part == own || fields::is_name(part))
    };
    let mut masked = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\n', '\r']);
        let trimmed = body.trim();
        let header = trimmed
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let shown = match (header, body.split_once('=')) {
            (Some(name), _) => known(name),
            (None, Some((key, _))) => known(key),
            (None, None) => false,
        };
        if shown {
            masked.push_str(line);
        } else {
            masked.extend(std::iter::repeat_n('*', body.len()));
            masked.push_str(&line[body.len()..]);
        }
    }
    masked
}
