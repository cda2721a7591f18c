//! The kernel command line, taken apart as the kernel and systemd do it.

/// The parameters in their order: name, and the value behind the first `=`.
/// White space separates, but not inside double quotes; the quotes themselves
/// do not belong to name or value. An open quote ends with the line. The line
/// has no encoding: a value may be of any bytes, and a name that is no UTF-8 is
/// nobody's that we know, so its wrong bytes are shown as such.
pub fn parameters(line: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quoted = false;
    for byte in line.iter().copied() {
        match byte {
            b'"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            b'\0' => break,
            space if !quoted && space.is_ascii_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
        .into_iter()
        .map(|word| {
            let mut parts = word.splitn(2, |byte| *byte == b'=');
            let name = parts.next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            (name, parts.next().map(<[u8]>::to_vec))
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
            b"BOOT_IMAGE=/x  quiet sf.metadata_url=\"http://h/a b?c=d\" \"foo=bar baz\" x=\"\" y= z=\xff\x20\xff \"open one\n",
        )
        .iter()
        .map(|(name, value)| {
            let value = value.as_deref().unwrap_or(b"-");
            format!("{name}|{}", value.escape_ascii())
        })
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
                "z|\\xff",
                "\u{fffd}|-",
                "open one\n|-"
            ]
        );
        assert!(parameters(b"").is_empty());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_added(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let length: usize = parameters(&line)
                .iter()
                .map(|(name, value)| name.chars().count() + value.as_ref().map_or(0, Vec::len))
                .sum();
            prop_assert!(length <= line.len());
        }
    }
}
