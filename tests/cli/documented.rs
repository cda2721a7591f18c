//! Commands as the documents write them: each must be taken by the program
//! that it calls, since people paste them.

use std::path::{Path, PathBuf};

/// A command line of a document.
pub(crate) struct Written {
    /// `docs/how-to/read-the-fleet.md:6`
    pub(crate) place: String,
    /// What stands behind the program's name.
    pub(crate) arguments: Vec<String>,
}

/// Every call of `program` in the shell blocks and the inline code of this
/// repository's documents. Patterns (`[--json]`, `…`) are no calls.
pub(crate) fn calls(program: &str) -> Vec<Written> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs/how-to", "docs/reference"] {
        let folder = std::fs::read_dir(root.join(folder)).expect("the documents");
        files.extend(folder.map(|entry| entry.expect("a document").path()));
    }
    files.sort();
    files
        .iter()
        .flat_map(|file| of_file(file, program))
        .collect()
}

fn of_file(file: &PathBuf, program: &str) -> Vec<Written> {
    let text = std::fs::read_to_string(file).expect("a document");
    let mut found = Vec::new();
    let mut shell = false;
    let mut fence = false;
    let mut continued = String::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.trim().strip_prefix("```") {
            fence = !fence;
            shell = fence && language == "sh";
            continue;
        }
        let pieces: Vec<&str> = if shell {
            continued.push_str(line);
            if let Some(first) = continued.strip_suffix('\\') {
                continued = first.to_owned();
                continue;
            }
            vec![&continued]
        } else if fence {
            continue;
        } else {
            // What stands between two backticks is every second piece.
            line.split('`').skip(1).step_by(2).collect()
        };
        found.extend(
            pieces
                .iter()
                .filter_map(|piece| arguments(piece, program))
                .map(|arguments| Written {
                    place: format!("{}:{}", file.display(), number + 1),
                    arguments,
                }),
        );
        continued.clear();
    }
    found
}

/// The arguments, if this is a call of the program.
fn arguments(line: &str, program: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next()?.trim();
    let line = line.split(" | ").next()?;
    let from_source = format!("cargo run -p {program} -- ");
    let rest = line
        .strip_prefix(&from_source)
        .or_else(|| line.strip_prefix(program)?.strip_prefix(' '))?;
    let pattern = rest.contains(['…', '[', '|']) || rest.contains("...");
    (!pattern).then(|| rest.split_whitespace().map(placeholder).collect())
}

/// A value that the parser takes, for words that stand for one.
fn placeholder(word: &str) -> String {
    let word = word.trim_matches('\'');
    match word {
        "ROLE" => "network".into(),
        "SECONDS" => "5".into(),
        _ => word.to_owned(),
    }
}
