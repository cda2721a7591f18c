//! Values of fields as they were read, and how they are shown.

use std::fmt;

use super::merged::Unresolved;
use crate::secret::{MASK, Secret, has_user, mask_urls};

/// A value as it was read, before references are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text that may be shown.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A finite number with a fraction, as it is written.
    Float(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A list of texts that may be shown.
    List(Vec<String>),
    /// A text that is never shown.
    Secret(Secret),
    /// Where such a text is.
    Reference(Reference),
}

impl Value {
    /// A text that is a secret if its field says so, or if it must not be shown
    /// in any field ([`may_be_shown`]).
    pub(super) fn text(text: String, secret: bool) -> Self {
        if secret || !may_be_shown(&text) {
            Self::Secret(Secret::new(text))
        } else {
            Self::Text(text)
        }
    }

    /// A list, unless one of its texts must not be shown: no list is a secret.
    pub(super) fn list(texts: Vec<String>) -> Option<Self> {
        texts
            .iter()
            .all(|text| may_be_shown(text))
            .then_some(Self::List(texts))
    }
}

/// Shows the value as people may see it: secrets as [`MASK`], control
/// characters escaped, long texts cut.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(&shown(text)),
            Self::Integer(number) => write!(formatter, "{number}"),
            Self::Float(text) => formatter.write_str(text),
            Self::Boolean(flag) => write!(formatter, "{flag}"),
            Self::List(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| shown(text)).collect();
                write!(formatter, "[{}]", texts.join(", "))
            }
            Self::Secret(_) => formatter.write_str(MASK),
            Self::Reference(reference) => write!(formatter, "{reference}"),
        }
    }
}

/// May a text be shown that stands where no secret belongs? Not one that carries
/// a password in front of a host or in a URL's query; nor one that has several
/// lines or an assignment of a quoted text in it: a string that is not closed, or
/// closed by another kind of quote, swallows the fields after it, secrets among
/// them.
pub(super) fn may_be_shown(text: &str) -> bool {
    let assigns = text
        .split_once('=')
        .is_some_and(|(_, rest)| rest.contains(['"', '\'']));
    !assigns && holds_no_secret(text)
}

/// May the value of a setting be shown whose name says nothing of a secret? Not
/// one of several lines, such as a key in PEM, nor one that carries a password in
/// front of a host or in a URL's query.
pub fn holds_no_secret(text: &str) -> bool {
    !several_lines(text) && !has_user(text) && mask_urls(text) == text
}

fn several_lines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// A text in quotes, escaped, passwords in a URL's query masked, at most 80
/// characters; nothing of one with several lines or with a user in front of a
/// host, for the reason of [`may_be_shown`].
pub(super) fn shown(text: &str) -> String {
    if several_lines(text) {
        return "\"…\" (several lines)".into();
    }
    if has_user(text) {
        return format!("\"{MASK}\"");
    }
    let masked = mask_urls(text);
    let mut cut: String = masked.chars().take(80).collect();
    let ellipsis = if cut.len() < masked.len() { "…" } else { "" };
    cut.push_str(ellipsis);
    format!("\"{}\"", cut.escape_debug())
}

/// Where a secret is, when it does not stand in the document itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A systemd credential by its name.
    Credential(String),
    /// A file by its absolute path.
    File(String),
}

impl Reference {
    /// Why no node can follow it, whatever credentials and files it has.
    pub(super) fn malformed(&self) -> Option<Unresolved> {
        let (message, hint) = match self {
            Self::Credential(name)
                if name.is_empty() || name.contains('/') || name == "." || name == ".." =>
            {
                (
                    format!("{} is not a credential's name", shown(name)),
                    "a credential's name has no slash; for a path write { file = \"/path\" }",
                )
            }
            Self::File(path) if !path.starts_with('/') => (
                format!(
                    "refers to the file {}, which is not an absolute path",
                    path.escape_debug()
                ),
                "write the path from the root, such as { file = \"/run/keys/sf\" }",
            ),
            _ => return None,
        };
        Some(Unresolved {
            message,
            hint: hint.into(),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(formatter, "credential {}", shown(name)),
            Self::File(path) => write!(formatter, "file {}", shown(path)),
        }
    }
}

/// The text of a setting: what a `SHAKENFIST_*` key is rendered from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingText {
    /// May be shown.
    Plain(String),
    /// Never shown.
    Secret(Secret),
}

impl SettingText {
    /// The text itself, for the one place that renders it.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

/// Shows a secret as [`MASK`].
impl fmt::Display for SettingText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => formatter.write_str(text),
            Self::Secret(_) => formatter.write_str(MASK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_safe_for_a_console() {
        for (value, text) in [
            (Value::Text("a\u{1b}[2Jb".into()), "\"a\\u{1b}[2Jb\""),
            (Value::Text("a\nkey = 1".into()), "\"…\" (several lines)"),
            (Value::text("a\nkey = 1".into(), false), "******"),
            (Value::text("a', key = \"b".into(), false), "******"),
            (Value::text("a=b".into(), false), "\"a=b\""),
            (Value::Integer(-3), "-3"),
            (Value::List(vec!["a".into(), "b".into()]), "[\"a\", \"b\"]"),
            (Value::Secret(Secret::new("hunter2")), "******"),
            (
                Value::Reference(Reference::Credential("k".into())),
                "credential \"k\"",
            ),
            (
                Value::text("http://u:hunter2@proxy".into(), false),
                "******",
            ),
            (
                Value::text("http://u:hun/ter2@proxy".into(), false),
                "******",
            ),
            (Value::text("u:hunter2@proxy:80".into(), false), "******"),
            (Value::Text("u:hunt er2@proxy".into()), "\"******\""),
        ] {
            assert_eq!(value.to_string(), text);
        }
        assert_eq!(shown(&"x".repeat(200)).chars().count(), 83);
    }

    #[test]
    fn a_list_shows_all_of_its_texts_or_there_is_none() {
        for bad in [
            "a\nkey = 1",
            "mysql://u:hunter2@h",
            "mysql://u:hun?ter2@h",
            "a', key = \"hunter2",
        ] {
            assert_eq!(Value::list(vec!["a".into(), bad.into()]), None, "{bad}");
        }
        let list = Value::list(vec!["a".into(), "10.0.0.1".into()]).unwrap();
        assert_eq!(format!("{list:?}"), "List([\"a\", \"10.0.0.1\"])");
    }
}
