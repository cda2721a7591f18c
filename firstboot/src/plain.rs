//! Text on its way to a terminal. What comes from the database, a server or a
//! file may hold control characters, with which it could clear the screen, or
//! show something else than what is there.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with control characters replaced; line breaks and tabs stay.
pub fn text(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c.is_control() && !matches!(c, '\n' | '\t'))
}

/// What is to be part of one line: line breaks go as well.
pub fn line(text: &str) -> Cow<'_, str> {
    replaced(text, char::is_control)
}

/// A JSON text, in which control characters can only stand within strings: as
/// escapes they are the same string. Its own line breaks stay.
pub fn json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            let _infallible = write!(plain, "\\u{:04x}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}

fn replaced(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().any(&bad) {
        text.replace(bad, "?").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_obeys() {
        let evil = "a\u{1b}[2J\u{9b}31m\u{7f}\r\u{7}\tb\nc";
        assert_eq!(text(evil), "a?[2J?31m???\tb\nc");
        assert_eq!(line(evil), "a?[2J?31m????b?c");
        assert!(matches!(text("plain\n"), Cow::Borrowed(_)));
        let value = serde_json::json!({ "name": evil });
        let shown = json(&format!("{value:#}\n"));
        assert!(shown.chars().all(|c| !c.is_control() || c == '\n'));
        let again: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(again, value);
    }
}
