//! Reference documentation that is made from the code.

use std::fmt::Write as _;

use crate::card::{acts, kind_name};
use crate::codes;
use sf_contract::failure::Kind;

/// `docs/reference/errors.md`: every failure code.
pub fn errors() -> String {
    let mut text = String::from(
        "# Failure codes of the agent\n\n\
         Made from `firstboot/src/codes.rs`; a test fails when it is not current. \
         `sf-firstboot explain CODE` prints the same on a node.\n\n\
         | exit | kind | what happens next |\n|---|---|---|\n",
    );
    let mut lines: Vec<String> = Kind::ALL
        .into_iter()
        .map(|kind| {
            format!(
                "| {} | {} | {} |",
                kind.exit_code(),
                kind_name(kind),
                acts(kind)
            )
        })
        .collect();
    lines.push(String::new());
    for code in codes::ALL {
        lines.push(format!("## {}\n", code.id));
        let mut title = code.title.chars();
        let title: String = title
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .chain(title)
            .collect();
        lines.push(format!(
            "{title}. Exit {} ({}).\n",
            code.kind.exit_code(),
            kind_name(code.kind)
        ));
        lines.push(format!("Why the agent stops: {}\n", code.why));
        lines.push(format!("Remedy: {}\n", code.remedy));
    }
    for line in lines {
        let written = writeln!(text, "{line}");
        // Writing to a String cannot fail.
        debug_assert!(written.is_ok());
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
