//! Shell quoting and masking, for display only: nothing is run by a shell.

use std::borrow::Cow;

/// What stands in place of a secret.
pub(crate) const MASK: &str = "***";

/// `word` as a POSIX shell would need it written, unchanged where it needs no
/// quotes.
///
/// ```
/// assert_eq!(sf_command::quote("a b"), "'a b'");
/// assert_eq!(sf_command::quote("--x=/y"), "--x=/y");
/// ```
pub fn quote(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

/// `text` with every secret replaced. Empty secrets hide nothing.
pub(crate) fn mask<'a>(text: &'a str, secrets: &[String]) -> Cow<'a, str> {
    let mut out = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        if out.contains(secret.as_str()) {
            out = Cow::Owned(out.replace(secret.as_str(), MASK));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_needs_it() {
        for (word, want) in [
            ("", "''"),
            ("plain", "plain"),
            ("a/b.c:d,e@f%g+h=i", "a/b.c:d,e@f%g+h=i"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("~", "'~'"),
            ("a\nb", "'a\nb'"),
        ] {
            assert_eq!(quote(word), want);
        }
    }

    #[test]
    fn masks_every_occurrence_and_ignores_empty_secrets() {
        let secrets = ["hunter2".to_owned(), String::new()];
        assert_eq!(mask("a hunter2 b hunter2", &secrets), "a *** b ***");
        assert!(matches!(mask("none", &secrets), Cow::Borrowed("none")));
    }
}
