//! The failure card: one block of text that says what failed, where the value
//! came from, why it matters and what to do; the same on every console, above
//! the login prompt, in the journal, in the status and on the result port.

pub mod console;
pub mod journal;
pub mod port;
mod text;

use serde::Serialize;
use sf_contract::failure::Kind;

use crate::failure::Failure;

/// Columns of a plain console.
const WIDTH: usize = 80;

/// Width of the labels at the left.
const LABEL: usize = 9;

/// Findings of one run that ended badly.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// All findings, as many as were found in one run; never empty.
    pub findings: Vec<Failure>,
}

impl Card {
    /// A card for these findings.
    pub fn new(findings: Vec<Failure>) -> Self {
        Self { findings }
    }

    /// Who must act: where several must, the one without whom another try is
    /// of no use.
    pub fn kind(&self) -> Kind {
        const WORST_FIRST: [Kind; 6] = [
            Kind::Internal,
            Kind::Usage,
            Kind::Configuration,
            Kind::Environment,
            Kind::Refused,
            Kind::Transient,
        ];
        WORST_FIRST
            .into_iter()
            .find(|kind| self.findings.iter().any(|finding| finding.kind() == *kind))
            .unwrap_or(Kind::Internal)
    }

    /// The finding that decides the exit code.
    pub fn leading(&self) -> Option<&Failure> {
        let kind = self.kind();
        self.findings.iter().find(|finding| finding.kind() == kind)
    }

    /// The code of the leading finding.
    pub fn code(&self) -> &'static str {
        self.leading()
            .map_or(crate::codes::INTERNAL.id, |finding| finding.code.id)
    }

    /// Exit code of the run.
    pub fn exit_code(&self) -> u8 {
        self.kind().exit_code()
    }

    /// The block: plain ASCII, 80 columns, closed by a line break. `node` is
    /// how the head names the node: its name where known, and what it runs.
    pub fn render(&self, node: &str) -> String {
        let kind = self.kind();
        let rule = "=".repeat(WIDTH);
        let mut block = format!("{rule}\n");
        let silent = self.code() == crate::codes::DAEMON_NOT_READY.id;
        let head = format!(
            "{}: {node}",
            if silent { "NOT READY" } else { "NOT STARTED" }
        );
        text::wrap(&mut block, "", "", &head, WIDTH);
        let verdict = format!(
            "exit {} ({}): {}",
            kind.exit_code(),
            kind_name(kind),
            acts(kind)
        );
        text::wrap(&mut block, "", "", &verdict, WIDTH);
        let several = self.findings.len() > 1;
        for (index, finding) in self.findings.iter().enumerate() {
            block.push_str(&"-".repeat(WIDTH));
            block.push('\n');
            let count = if several {
                format!("({} of {}) ", index + 1, self.findings.len())
            } else {
                String::new()
            };
            let title = format!("{count}{}: {}", finding.code.id, finding.code.title);
            text::wrap(&mut block, "", "", &title, WIDTH);
            for (label, value) in rows(finding) {
                text::row(&mut block, label, &value, LABEL, WIDTH);
            }
        }
        block.push_str(&rule);
        block.push('\n');
        block
    }

    /// As `error:`, causes, `hint:` and `next:` lines, for a person at a terminal.
    pub fn errors(&self) -> String {
        let mut shown = String::new();
        for finding in &self.findings {
            let line = |shown: &mut String, head: &str, text: &str| {
                shown.push_str(head);
                shown.push_str(text);
                shown.push('\n');
            };
            line(
                &mut shown,
                "error: ",
                &format!("{}: {}", finding.code.id, finding.what),
            );
            for cause in &finding.causes {
                for (index, part) in cause.lines().enumerate() {
                    line(
                        &mut shown,
                        if index == 0 { "  caused by: " } else { "    " },
                        part,
                    );
                }
            }
            if let Some(value) = &finding.value {
                line(&mut shown, "  value: ", value);
            }
            if let Some(source) = &finding.source {
                line(&mut shown, "  source: ", source);
            }
            // Empty where it has been said.
            if !finding.remedy_text().is_empty() {
                line(&mut shown, "hint: ", finding.remedy_text());
            }
            match &finding.next_command {
                Some(command) => line(&mut shown, "next: ", command),
                // The text of wrong usage says no more than what stands here.
                None if finding.code.id == crate::codes::USAGE.id => {}
                None => line(
                    &mut shown,
                    "next: ",
                    &format!("sf-firstboot explain {}", finding.code.id),
                ),
            }
        }
        shown
    }
}

fn rows(finding: &Failure) -> Vec<(&'static str, String)> {
    let mut rows = vec![("What", finding.what.clone())];
    rows.extend(finding.causes.iter().map(|cause| ("Cause", cause.clone())));
    rows.extend(finding.value.iter().map(|value| ("Value", value.clone())));
    rows.extend(
        finding
            .source
            .iter()
            .map(|source| ("Source", source.clone())),
    );
    rows.push(("Why", finding.code.why.to_owned()));
    rows.push(("Remedy", finding.remedy_text().to_owned()));
    let next = finding
        .next_command
        .clone()
        .unwrap_or_else(|| format!("sf-firstboot explain {}", finding.code.id));
    rows.push(("Next", next));
    rows
}

/// Do two rendered cards say the same, but for how many seconds something took?
pub fn say_the_same(one: &str, other: &str) -> bool {
    fn words(card: &str) -> impl Iterator<Item = &str> {
        let mut words = card.split_whitespace().peekable();
        std::iter::from_fn(move || {
            let word = words.next()?;
            let is_number = word
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.');
            let seconds =
                |next: &&str| next.trim_end_matches(|c: char| !c.is_alphanumeric()) == "s";
            Some(if is_number && words.peek().is_some_and(seconds) {
                "#"
            } else {
                word
            })
        })
    }
    words(one).eq(words(other))
}

/// The kind as cards and documents name it.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Usage => "usage",
        Kind::Environment => "environment",
        Kind::Internal => "internal",
        Kind::Transient => "transient",
        Kind::Refused => "refused",
        Kind::Configuration => "configuration",
    }
}

/// Who acts on a kind, in words.
pub fn acts(kind: Kind) -> &'static str {
    match kind {
        Kind::Usage => "the command line must be corrected",
        Kind::Environment => {
            "the operator must mend the machine, then reboot, or restart sf-firstboot"
        }
        Kind::Internal => "a defect of the agent; please report it",
        Kind::Transient => "tried again by itself until it works",
        Kind::Refused => "refused on purpose; the operator must decide",
        Kind::Configuration => "the operator must correct it, then reboot, or restart sf-firstboot",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    fn finding() -> Failure {
        Failure::new(&codes::CONFIG_VALUE, "node.zone holds a quote \u{201c}\u{1b}[2J and goes on for much longer than a line of a console is wide")
            .value("mysql://sf:hunter2@db1/x")
            .source("/etc/sf/metadata.toml:12")
    }

    #[test]
    fn a_card_fits_a_console() {
        let card = Card::new(vec![
            finding(),
            Failure::new(&codes::INTERNAL, "x").cause(&std::io::Error::other("one\ntwo")),
        ]);
        let shown = card.render("db1.example.com (database-tier, image 0.7.2-1)");
        for line in shown.lines() {
            assert!(line.len() <= WIDTH, "{line}");
            assert!(line.bytes().all(|b| (32..127).contains(&b)), "{line:?}");
        }
        assert!(!shown.contains("hunter2"));
        assert!(shown.contains("(1 of 2) SF-CONFIG-VALUE"));
        assert_eq!(card.exit_code(), 70);
        assert_eq!(card.code(), "SF-INTERNAL");
    }

    #[test]
    fn seconds_make_no_other_card() {
        let said = |what: &str| Card::new(vec![Failure::new(&codes::DB_TIMEOUT, what)]).render("n");
        let card = said("db1 did not answer within 9 s; it says nothing in port 3306");
        for (what, same) in [
            (
                "db1 did not answer within 10 s; it says nothing in port 3306",
                true,
            ),
            (
                "db1 did not answer within 9 s; it says nothing in port 3307",
                false,
            ),
            (
                "db2 did not answer within 9 s; it says nothing in port 3306",
                false,
            ),
            (
                "db1 did not answer within 9 m; it says nothing in port 3306",
                false,
            ),
        ] {
            assert_eq!(say_the_same(&card, &said(what)), same, "{what}");
        }
    }

    #[test]
    fn transient_findings_lead_only_when_alone() {
        let transient = || Failure::new(&codes::BUSY, "x");
        assert_eq!(Card::new(vec![transient()]).exit_code(), 75);
        assert_eq!(Card::new(vec![transient(), finding()]).exit_code(), 78);
        assert_eq!(
            Card::new(vec![transient(), finding()]).code(),
            "SF-CONFIG-VALUE"
        );
    }

    #[test]
    fn a_card_in_full() {
        let card = Card::new(vec![
            Failure::new(&codes::CONFIG_MISSING, "SHAKENFIST_ZONE has no value")
                .source("release descriptor")
                .next_command("sf-firstboot explain cluster.zone"),
        ]);
        insta::assert_snapshot!(card.render("db1 (network, image 1)"), @"
        ================================================================================
        NOT STARTED: db1 (network, image 1)
        exit 78 (configuration): the operator must correct it, then reboot, or restart
        sf-firstboot
        --------------------------------------------------------------------------------
        SF-CONFIG-MISSING: a setting that this release needs has no value
        What     SHAKENFIST_ZONE has no value
        Source   release descriptor
        Why      Daemons would not start without it, and would not say why.
        Remedy   Set the named field in the node's metadata.
        Next     sf-firstboot explain cluster.zone
        ================================================================================
        ");
        insta::assert_snapshot!(card.errors(), @"
        error: SF-CONFIG-MISSING: SHAKENFIST_ZONE has no value
          source: release descriptor
        hint: Set the named field in the node's metadata.
        next: sf-firstboot explain cluster.zone
        ");
    }
}
