//! Text for consoles: plain ASCII, wrapped at words.

/// `text` with everything but printable ASCII replaced; line breaks stay.
pub(super) fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' | '\n' => plain.push(c),
            '\t' => plain.push(' '),
            '\u{2018}' | '\u{2019}' => plain.push('\''),
            '\u{201c}' | '\u{201d}' => plain.push('"'),
            '\u{2013}' | '\u{2014}' => plain.push('-'),
            // As in the form of a DSN: a question mark there would be part of it.
            '\u{2026}' => plain.push_str("..."),
            _ => plain.push('?'),
        }
    }
    plain
}

/// A row with a label. A text of several lines is a source frame or a
/// program's words: its lines are kept, and only broken where too long.
pub(super) fn row(
    block: &mut String,
    label: &str,
    text: &str,
    width_of_label: usize,
    width: usize,
) {
    let first = format!("{label:width_of_label$}");
    let rest = " ".repeat(width_of_label);
    let text = text.trim_end();
    if text.contains('\n') {
        for (index, line) in text.lines().enumerate() {
            let head = if index == 0 { &first } else { &rest };
            cut(block, head, &rest, line, width);
        }
    } else {
        wrap(block, &first, &rest, text, width);
    }
}

/// Appends `text`, broken between words, each line after the first under `rest`.
pub(super) fn wrap(block: &mut String, first: &str, rest: &str, text: &str, width: usize) {
    let text = ascii(text);
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        let mut word = word;
        loop {
            let gap = usize::from(!empty);
            if line.len() + gap + word.len() <= width {
                if !empty {
                    line.push(' ');
                }
                line.push_str(word);
                empty = false;
                break;
            }
            if empty {
                // A word longer than a line: a path or a URL.
                let (head, tail) = word.split_at(width - line.len());
                line.push_str(head);
                word = tail;
            }
            push(block, &line);
            rest.clone_into(&mut line);
            empty = true;
        }
    }
    push(block, &line);
}

/// Appends one line as it is, broken only where it is too long: behind a word,
/// if one ends in the line's second half.
fn cut(block: &mut String, first: &str, rest: &str, text: &str, width: usize) {
    let text = ascii(text);
    let mut left = text.trim_end();
    let mut head = first;
    loop {
        let room = width - head.len();
        let end = if left.len() <= room {
            left.len()
        } else {
            let words = left[..=room].rfind(' ').filter(|space| *space >= room / 2);
            words.unwrap_or(room)
        };
        let (now, later) = left.split_at(end);
        push(block, &format!("{head}{now}"));
        let later = later.trim_start();
        if later.is_empty() {
            return;
        }
        (left, head) = (later, rest);
    }
}

fn push(block: &mut String, line: &str) {
    block.push_str(line.trim_end());
    block.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_line_among_others_breaks_between_words() {
        let mut block = String::new();
        let text = "Write /etc/sf/metadata.toml, mode 0600:\n\nschema = 1\nHOST[,HOST\u{2026}]";
        row(&mut block, "Remedy", text, 9, 40);
        assert_eq!(
            block,
            "Remedy   Write /etc/sf/metadata.toml,\n         mode 0600:\n\n         schema = 1\n         HOST[,HOST...]\n"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_word_is_lost(text in "[a-z/ ]{0,300}") {
            let mut block = String::new();
            row(&mut block, "What", &text, 9, 40);
            for line in block.lines() {
                prop_assert!(line.len() <= 40);
            }
            let joined: String = block["What".len()..].split_whitespace().collect();
            let expected: String = text.split_whitespace().collect();
            prop_assert_eq!(joined, expected);
        }

        #[test]
        fn frames_keep_their_lines(lines in prop::collection::vec("[ -~\u{e9}]{0,60}", 2..6)) {
            let mut block = String::new();
            row(&mut block, "Cause", &format!("{}\nend", lines.join("\n")), 9, 40);
            prop_assert!(block.lines().all(|line| line.len() <= 40 && line.is_ascii()));
            prop_assert!(block.lines().count() > lines.len());
        }
    }
}
