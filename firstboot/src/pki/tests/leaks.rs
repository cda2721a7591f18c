//! No finding shows a piece of a private key, however its text was mangled.

use proptest::prelude::*;
use rcgen::KeyPair;

use super::*;

/// What shells, YAML and editors make of a line break.
const BREAKS: [&str; 6] = ["\n", "", " ", "\r", "\\n", "\r\n"];

fn said(text: &str) -> String {
    let text = Some(text.as_bytes());
    let verdicts = [
        judged(Usage::Node, [None, None, text], NOW),
        judged(Usage::Node, [text, text, text], NOW),
    ];
    format!("{verdicts:?}")
}

fn body(key: &str) -> String {
    key.lines()
        .filter(|line| !line.starts_with("-----"))
        .collect()
}

fn shows_a_piece(said: &str, secret: &str) -> bool {
    secret
        .as_bytes()
        .windows(12)
        .any(|piece| said.as_bytes().windows(12).any(|shown| shown == piece))
}

#[test]
fn a_key_that_lost_its_line_breaks_is_not_shown() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let secret = body(&key);
    for lost in ["", " ", "\\n", "\r"] {
        let text = key.trim_end().replace('\n', lost);
        let said = said(&text);
        assert!(!shows_a_piece(&said, &secret), "{said}");
        let verdict = judged(Usage::Node, [None, None, Some(text.as_bytes())], NOW);
        assert_eq!(
            lines(&verdict.findings),
            [
                "SF-PKI-SYNTAX pki.key: more stands in line 1 than the header of a block: the text \
                 lost its line breaks on the way here"
            ]
        );
    }
}

proptest! {
    #[test]
    fn no_mangled_key_is_shown(
        breaks in proptest::collection::vec(0..BREAKS.len(), 1..8),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let key = KeyPair::generate().unwrap().serialize_pem();
        let secret = body(&key);
        let mut text = String::new();
        for (line, at) in key.lines().zip(breaks.iter().cycle()) {
            text.extend([line, BREAKS[*at]]);
        }
        for cut in cuts {
            text.remove(cut.index(text.len()));
        }
        let said = said(&text);
        prop_assert!(!shows_a_piece(&said, &secret), "{}", said);
    }
}
