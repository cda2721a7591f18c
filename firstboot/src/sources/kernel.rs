//! The kernel command line, taken apart as the kernel and systemd do it.

/// The parameters in their order: name, and the value behind the first `=`.
/// White space separates, but not inside double quotes; the quotes themselves
/// do not belong to name or value. An open quote ends with the line.
pub fn parameters(line: &str) -> Vec<(String, Option<String>)> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\0' => break,
            space if !quoted && space.is_ascii_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_taken_apart() {
        let shown: Vec<String> = parameters(
            "BOOT_IMAGE=/x  quiet sf.metadata_url=\"http://h/a b?c=d\" \"foo=bar baz\" x=\"\" y= \"open one\n",
        )
        .iter()
        .map(|(name, value)| format!("{name}|{}", value.as_deref().unwrap_or("-")))
        .collect();
        assert_eq!(
            shown,
            [
                "BOOT_IMAGE|/x",
                "quiet|-",
                "sf.metadata_url|http://h/a b?c=d",
                "foo|bar baz",
                "x|",
                "y|",
                "open one\n|-"
            ]
        );
        assert!(parameters("").is_empty());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_added(line in ".{0,200}") {
            let length: usize = parameters(&line)
                .iter()
                .map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len))
                .sum();
            prop_assert!(length <= line.len());
        }
    }
}
