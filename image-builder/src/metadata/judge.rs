//! The agent's validation, at the desk: the same rules, less what only the node
//! can know, which is listed as not judged.

use std::fmt::Write as _;

use serde::Serialize;
use sf_contract::metadata::{
    Class, Finding, Merged, Reference, Resolved, Target, Unresolved, check, check_roles, merge,
};
use sf_contract::release::Release;
use sf_contract::role::Role;

use super::Sources;

/// Whom the metadata is for.
#[derive(Clone, Debug)]
pub enum Audience {
    /// A node of this role.
    Role(Role),
    /// Nobody in particular: only what is wrong on all of these roles counts.
    Any(Vec<Role>),
}

/// One finding as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The code that the agent would give it.
    pub code: &'static str,
    /// The file, with the line where there is one.
    pub source: String,
    /// Dotted path; empty for a whole document.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Note {
    fn of(merged: &Merged, finding: &Finding) -> Self {
        Self {
            code: finding.class.code(),
            source: merged.place_of(&finding.problem),
            field: finding.problem.field.clone(),
            message: finding.problem.message.clone(),
            hint: finding.problem.hint.clone(),
        }
    }

    fn line(&self) -> String {
        let mut line = format!("{}: {}", self.code, self.source);
        for part in [&self.field, &self.message] {
            if !part.is_empty() {
                let _ = write!(line, ": {part}");
            }
        }
        if let Some(hint) = &self.hint {
            let _ = write!(line, " ({hint})");
        }
        line
    }
}

/// What the desk cannot see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotJudged {
    /// Dotted path.
    pub field: String,
    /// `credential "sf.seed"`, `file "/run/keys/seed"`
    pub value: String,
}

/// The verdict.
#[derive(Debug)]
pub struct Verdict {
    /// All sources as one.
    pub merged: Merged,
    /// What is wrong.
    pub problems: Vec<Finding>,
    /// What is allowed but unlikely to be meant.
    pub warnings: Vec<Note>,
    /// Secrets that stand elsewhere.
    pub not_judged: Vec<NotJudged>,
    /// With [`Audience::Any`]: what is wrong on single roles besides.
    pub roles: Vec<(Role, Vec<Note>)>,
}

/// Judges metadata for a release.
pub fn judge(sources: Sources, release: &Release, audience: &Audience) -> Verdict {
    let exposed = sources.exposed;
    let merged = merge(sources.fragments);
    let mut not_judged = Vec::new();
    let resolved = merged.resolve(|field, reference| {
        not_judged.push(NotJudged {
            field: field.to_owned(),
            value: reference.to_string(),
        });
        Err(elsewhere(reference))
    });
    let (problems, warnings, roles) = verdict(&merged, &resolved, release, audience);
    // A reference that no node can follow is wrong here, too.
    let asked = |field: &str| not_judged.iter().any(|one| one.field == field);
    let here =
        |finding: &Finding| finding.class != Class::Reference || !asked(&finding.problem.field);
    let notes = |findings: &[Finding]| -> Vec<Note> {
        findings
            .iter()
            .filter(|finding| here(finding))
            .map(|finding| Note::of(&merged, finding))
            .collect()
    };
    let mut warnings = notes(&warnings);
    warnings.extend(exposed.into_iter().map(|source| Note {
        code: "SF-META-EXPOSED",
        hint: Some(format!("chmod 0600 {source}")),
        message: "can be read by every user of this machine, and holds a secret".into(),
        field: String::new(),
        source,
    }));
    let problems = problems.into_iter().filter(here).collect();
    let roles = roles
        .iter()
        .map(|(role, findings)| (*role, notes(findings)))
        .collect();
    Verdict {
        merged,
        problems,
        warnings,
        not_judged,
        roles,
    }
}

type Judged = (Vec<Finding>, Vec<Finding>, Vec<(Role, Vec<Finding>)>);

fn verdict(merged: &Merged, resolved: &Resolved, release: &Release, audience: &Audience) -> Judged {
    match audience {
        Audience::Role(role) => {
            let target = Target {
                role: *role,
                release,
            };
            let checked = check(merged, resolved, target);
            (checked.problems, checked.warnings, Vec::new())
        }
        Audience::Any(roles) => {
            let checked = check_roles(merged, resolved, release, roles);
            (checked.problems, checked.warnings, checked.roles)
        }
    }
}

fn elsewhere(reference: &Reference) -> Unresolved {
    Unresolved {
        message: format!("{reference} is not here"),
        hint: "the node looks for it".into(),
    }
}

impl Verdict {
    /// Is nothing wrong?
    pub fn is_right(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems as source frames, every value masked.
    pub fn frames(&self) -> String {
        let problems = self.problems.iter();
        self.merged.frames(problems.map(|finding| &finding.problem))
    }

    /// The warnings, one a line.
    pub fn warnings(&self) -> String {
        self.warnings.iter().fold(String::new(), |mut text, note| {
            let _ = writeln!(text, "warning: {}", note.line());
            text
        })
    }

    /// What is told besides: warnings, what is not judged, what single roles lack.
    pub fn besides(&self) -> String {
        let mut text = self.warnings();
        for NotJudged { field, value } in &self.not_judged {
            let _ = writeln!(text, "not judged here: {field}: {value}");
        }
        for (role, notes) in &self.roles {
            if notes.is_empty() && self.is_right() {
                let _ = writeln!(text, "fits a node of role {role}");
            }
            for note in notes {
                let _ = writeln!(text, "not for a node of role {role}: {}", note.line());
            }
        }
        text
    }

    /// The same as JSON, without what it is about.
    pub fn to_json(&self) -> serde_json::Value {
        let problems: Vec<Note> = self
            .problems
            .iter()
            .map(|finding| Note::of(&self.merged, finding))
            .collect();
        let roles: serde_json::Map<String, serde_json::Value> = self
            .roles
            .iter()
            .map(|(role, notes)| (role.name().to_owned(), serde_json::json!(notes)))
            .collect();
        serde_json::json!({
            "ok": self.is_right(),
            "problems": problems,
            "warnings": self.warnings,
            "not_judged": self.not_judged,
            "roles": roles,
        })
    }
}
