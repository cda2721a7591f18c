//! Of what a program said before it failed, the lines that tell why: there is
//! room for a few on a console, and the reason is often not the last of them.

/// Words of lines that say why something did not work.
const REASONS: [&str; 16] = [
    "error",
    "exception",
    "fail",
    "fatal",
    "critical",
    "panic",
    "cannot",
    "could not",
    "unable",
    "refused",
    "denied",
    "not found",
    "no such",
    "timed out",
    "not set",
    "invalid",
];

/// At most `limit` bytes of `text`, in its own order: without lines for
/// debugging, and where that is still too much, the last reasons and the last
/// lines.
pub(crate) fn telling(text: &str, limit: usize) -> String {
    let all: Vec<&str> = text.lines().map(str::trim_end).collect();
    let plain: Vec<&str> = all.iter().copied().filter(|line| !debugs(line)).collect();
    let lines = without_frames(if plain.iter().all(|line| line.is_empty()) {
        &all
    } else {
        &plain
    });
    let mut keep = vec![false; lines.len()];
    let mut left = limit;
    let size: usize = lines.iter().map(|line| line.len() + 1).sum();
    if size > limit {
        take(&lines, &mut keep, &mut left, limit / 2, tells);
    }
    take(&lines, &mut keep, &mut left, 0, |_| true);
    let kept: Vec<&str> = lines
        .iter()
        .zip(&keep)
        .filter_map(|(line, keep)| keep.then_some(*line))
        .collect();
    let kept = kept.join("\n").trim_end().to_owned();
    match lines.last() {
        // One line without an end, of a program that writes no text.
        Some(last) if kept.is_empty() => {
            let start = last.ceil_char_boundary(last.len().saturating_sub(limit));
            last[start..].to_owned()
        }
        _ => kept,
    }
}

/// Keeps lines from the last one back, as long as `spare` bytes are left.
fn take(
    lines: &[&str],
    keep: &mut [bool],
    left: &mut usize,
    spare: usize,
    wanted: impl Fn(&str) -> bool,
) {
    for (line, keep) in lines.iter().zip(keep).rev() {
        if *keep || !wanted(line) {
            continue;
        }
        let Some(rest) = left
            .checked_sub(line.len() + 1)
            .filter(|rest| *rest >= spare)
        else {
            break;
        };
        (*left, *keep) = (rest, true);
    }
}

/// Is it a line that says why? Also `program: what is wrong`.
fn tells(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let by_name = line.split_once(": ").is_some_and(|(name, _)| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    });
    by_name || REASONS.iter().any(|word| lower.contains(word))
}

/// Does the line's head say that it is for debugging?
fn debugs(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        // Behind a date, a time and a name of a module or two.
        .take(16)
        // An error that names a level is one all the same.
        .take_while(|word| !is_severe(word))
        .any(|word| matches!(word, "DEBUG" | "TRACE"))
        || ["debug", "[debug]", "trace", "[trace]"].iter().any(|head| {
            line.strip_prefix(head)
                .is_some_and(|rest| rest.starts_with([':', ' ']))
        })
        || ["level=debug", "\"level\":\"debug\"", "\"level\": \"debug\""]
            .iter()
            .any(|mark| line.contains(mark))
}

/// `ERROR`, `error`, `ValueError`.
fn is_severe(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    word.ends_with("error")
        || matches!(
            &*word,
            "critical" | "exception" | "fatal" | "warn" | "warning"
        )
}

/// Of Python's tracebacks the innermost frame alone, besides what it was.
fn without_frames<'l>(lines: &[&'l str]) -> Vec<&'l str> {
    let mut kept: Vec<&str> = Vec::with_capacity(lines.len());
    // Where in `kept` the frames of the traceback begin.
    let mut frames: Option<usize> = None;
    for line in lines {
        match frames {
            _ if line.starts_with("Traceback (most recent call last):") => {
                frames = Some(kept.len() + 1);
            }
            Some(start) if line.starts_with("  File ") => kept.truncate(start),
            Some(_) if line.starts_with(' ') => {}
            _ => frames = None,
        }
        kept.push(line);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filler(level: &str) -> String {
        (0..20).fold(String::new(), |text, number| {
            format!("{text}2026-11-23 23:00:01,123 {level} urllib3.connectionpool connection {number} of many to 10.0.0.5\n")
        })
    }

    #[test]
    fn the_reason_is_found_among_lines_for_debugging() {
        let why = "set-key: SHAKENFIST_ETCD_HOST is not set: neither here nor there";
        let debug = filler("DEBUG");
        assert_eq!(telling(&format!("{debug}{why}\n{debug}"), 1024), why);
        // Without a level there is more, but not less.
        for level in ["INFO", ""] {
            let noise = filler(level);
            let told = telling(&format!("{noise}{why}\n{noise}"), 1024);
            assert!(told.starts_with(why), "{told}");
            assert!(told.len() <= 1024 && told.contains("connection 19 of many"));
        }
        // Where there is nothing else, that is what there is.
        assert!(telling(&debug, 1024).ends_with("connection 19 of many to 10.0.0.5"));
        assert_eq!(telling("debug: a\n{\"level\":\"debug\"}\nb\n", 1024), "b");
        assert_eq!(telling("no debug symbols\n", 1024), "no debug symbols");
        for why in [
            "sf-ctl: error: argument --log-level: invalid choice: 'LOUD' (choose from 'DEBUG', 'INFO')",
            "2026-11-23 23:00:01,123 ERROR root level DEBUG is not allowed here",
            "ValueError: Unknown level: 'TRACE'",
        ] {
            let told = telling(&format!("usage: sf-ctl\n{why}\n"), 1024);
            assert_eq!(told, format!("usage: sf-ctl\n{why}"));
        }
    }

    #[test]
    fn a_traceback_ends_with_its_reason() {
        let text = "Traceback (most recent call last):\n  File \"a.py\", line 1, in main\n    run()\n    ^^^\n  File \"b.py\", line 2, in run\n    import etcd3gw\nModuleNotFoundError: No module named 'etcd3gw'\n";
        assert_eq!(
            telling(text, 1024),
            "Traceback (most recent call last):\n  File \"b.py\", line 2, in run\n    import etcd3gw\nModuleNotFoundError: No module named 'etcd3gw'"
        );
    }

    #[test]
    fn there_is_never_more_than_fits() {
        let long = format!("{}\nlast line\n", "x".repeat(1020));
        assert_eq!(telling(&long, 1024), "last line");
        assert_eq!(telling("short\n", 1024), "short");
        assert_eq!(telling("", 1024), "");
        assert_eq!(telling(&"y".repeat(3000), 1024).len(), 1024);
        assert!(telling(&"\u{e9}".repeat(3001), 1023).len() <= 1023);
        let errors = "error: this and that\n".repeat(200);
        let told = telling(&format!("{errors}the last line\n"), 1024);
        assert!(told.ends_with("the last line") && told.len() <= 1024);
    }
}
