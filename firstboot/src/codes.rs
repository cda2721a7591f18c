//! Every failure code, with the explanation that `sf-firstboot explain CODE`
//! and the reference documentation print. Codes are stable: scripts and
//! runbooks name them.

use serde::Serialize;
use sf_contract::failure::Kind;

/// A failure code and its standing explanation.
#[derive(Debug, Serialize)]
pub struct Code {
    /// `SF-DB-REFUSED`.
    #[serde(rename = "code")]
    pub id: &'static str,
    /// Who must act.
    pub kind: Kind,
    /// One line: what it means.
    pub title: &'static str,
    /// Why the agent stops for it.
    pub why: &'static str,
    /// What to do.
    #[serde(skip)]
    pub remedy: &'static str,
}

macro_rules! codes {
    ($($(#[doc = $section:literal])? $name:ident = $id:literal, $kind:ident, $title:literal, $why:literal, $remedy:literal;)*) => {
        $(#[doc = concat!("`", $id, "`: ", $title)]
        pub static $name: Code = Code { id: $id, kind: Kind::$kind, title: $title, why: $why, remedy: $remedy };)*
        /// All codes, in the order of the documentation.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    /// Program
    INTERNAL = "SF-INTERNAL", Internal, "the agent has a defect",
        "Going on after a broken assumption could harm the cluster.",
        "Report it with the output of `journalctl -u sf-firstboot -o json`.";
    USAGE = "SF-USAGE", Usage, "the command line is wrong",
        "Nothing was done.", "See `sf-firstboot --help`.";
}

/// The code with this id, compared without case.
pub fn find(id: &str) -> Option<&'static Code> {
    ALL.iter()
        .copied()
        .find(|code| code.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ALL {
            assert!(code.id.starts_with("SF-"), "{}", code.id);
            assert!(
                code.id
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
            );
            assert!(seen.insert(code.id), "{} twice", code.id);
            assert!(!code.title.is_empty() && !code.why.is_empty() && !code.remedy.is_empty());
        }
    }

    #[test]
    fn codes_are_found_without_case() {
        assert_eq!(find("sf-internal").map(|code| code.id), Some("SF-INTERNAL"));
        assert!(find("SF-NOPE").is_none());
    }
}
