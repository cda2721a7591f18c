//! What is wrong with a document, where, and how to mend it; shown as source
//! frames in the manner of the Rust compiler, all problems in one run.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Where the lines of a text end. Counted once: a document has as many places
/// as it has keys, and counting from its start for each takes their square.
#[derive(Clone, Debug, Default)]
pub struct Lines(Vec<usize>);

impl Lines {
    /// Those of `text`.
    pub fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// 1-based line of the byte at this offset.
    pub fn number(&self, at: usize) -> usize {
        self.0.partition_point(|end| *end < at) + 1
    }
}

/// One finding about one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the text came from: a path, `credential sf.metadata`, …
    pub source: String,
    /// Dotted path of the field (`node.mesh.address`); empty for the whole document.
    pub field: String,
    /// Byte range in the source's text; `None` when the problem is an absence
    /// that no place stands for.
    pub span: Option<Range<usize>>,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A finding about a whole document.
    pub fn whole(source: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            field: String::new(),
            span: None,
            message: message.into(),
            hint: None,
        }
    }

    /// The same finding with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// 1-based line of the finding in the text with these lines.
    pub fn line(&self, lines: &Lines) -> Option<usize> {
        Some(lines.number(self.span.as_ref()?.start))
    }

    /// The finding as a source frame over `text`. With `Disclosure::KeysOnly`
    /// every value in the frame is masked, since any of them may be a secret.
    pub fn frame(&self, text: &str, disclosure: Disclosure) -> String {
        let shown = match disclosure {
            Disclosure::Full => text.to_owned(),
            Disclosure::KeysOnly => mask_values(text),
        };
        let place = self
            .span
            .as_ref()
            .filter(|_| !shown.is_empty())
            .map(|span| {
                let end = span.end.min(shown.len());
                span.start.min(end)..end
            });
        let title = match &place {
            Some(_) => self.sentence(),
            None => format!("{}: {}", self.source, self.sentence()),
        };
        let snippet = place.map(|place| {
            Snippet::source(shown.as_str())
                .path(self.source.as_str())
                .annotation(AnnotationKind::Primary.span(place))
        });
        let mut group = Level::ERROR.primary_title(title).elements(snippet);
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        Renderer::plain().render(&[group])
    }

    /// The message with the field in front, unless it names the field itself.
    fn sentence(&self) -> String {
        if self.field.is_empty() || self.message.contains(&self.field) {
            self.message.clone()
        } else {
            format!("{}: {}", self.field, self.message)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.source, self.sentence())?;
        if let Some(hint) = &self.hint {
            write!(formatter, " ({hint})")?;
        }
        Ok(())
    }
}

/// How much of a document's text a frame may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disclosure {
    /// All of it: profiles, release descriptors, scenarios.
    Full,
    /// Table headers and key names only: node metadata, where a value, or a
    /// typing error beside one, can be a secret.
    KeysOnly,
}

/// Replaces every byte of `text` that is not a table header or a bare key with
/// `*`, keeping length and line breaks so that spans still fit.
pub fn mask_values(text: &str) -> String {
    // Lines inside a multi-line string look like keys; show nothing then.
    let multi_line = text.contains("\"\"\"") || text.contains("'''");
    let mut masked = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\n', '\r']);
        let visible = if multi_line { 0 } else { visible_prefix(body) };
        masked.push_str(&body[..visible]);
        masked.extend(std::iter::repeat_n('*', body.len() - visible));
        masked.push_str(&line[body.len()..]);
    }
    masked
}

/// Length of the part of a line that is a header or a key with its `=`.
fn visible_prefix(line: &str) -> usize {
    let trimmed = line.trim();
    let bare = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
    };
    if let Some(inner) = trimmed
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return if bare(inner.trim_matches(['[', ']'])) {
            line.len()
        } else {
            0
        };
    }
    match line.split_once('=') {
        // A key of more than 64 characters is more likely half of a value.
        Some((key, _)) if bare(key.trim()) && key.trim().len() <= 64 => key.len() + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_point_at_the_place() {
        let text = "[node]\nnmae = \"db1\"\n";
        let problem = Problem {
            source: "/etc/sf/metadata.toml".into(),
            field: "node.nmae".into(),
            span: Some(7..11),
            message: "unknown key \"nmae\"".into(),
            hint: Some("did you mean \"name\"?".into()),
        };
        insta::assert_snapshot!(problem.frame(text, Disclosure::KeysOnly), @r#"
        error: node.nmae: unknown key "nmae"
         --> /etc/sf/metadata.toml:2:1
          |
        2 | nmae =******
          | ^^^^
          |
          = help: did you mean "name"?
        "#);
        assert_eq!(problem.line(&Lines::of(text)), Some(2));
    }

    #[test]
    fn offsets_are_on_lines() {
        let lines = Lines::of("a\n\nb");
        let numbers: Vec<usize> = [0, 1, 2, 3, 4, 99].map(|at| lines.number(at)).into();
        assert_eq!(numbers, [1, 1, 2, 3, 3, 3]);
        assert_eq!(Lines::of("").number(0), 1);
    }

    #[test]
    fn values_are_masked_and_lengths_kept() {
        let text =
            "[secrets]\nsystem_key = \"hunter2\" # note hunter2\nhunter2\nx = \"a=hunter2\"\n";
        let masked = mask_values(text);
        assert_eq!(masked.len(), text.len());
        assert!(!masked.contains("hunter2"), "{masked}");
        assert!(masked.contains("system_key ="));
        assert!(masked.contains("[secrets]"));
    }

    #[test]
    fn a_document_with_multi_line_strings_shows_nothing() {
        let masked = mask_values("a = \"\"\"\nPASSWORD=hunter2\n\"\"\"\n");
        assert!(!masked.contains("PASSWORD"));
    }
}
