//! From what was collected to validated metadata, or to failures: one for each
//! mistake, with its code, its place and its remedy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sf_contract::metadata::{
    Class, Finding, Layer, MOST, Merged, NodeMetadata, Resolved, Target, Value, check, example,
};
use sf_contract::secret::Secret;

use super::{Collected, Looked, references};
use crate::card::Card;
use crate::codes::{self, Code};
use crate::failure::Failure;

/// Validated metadata.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The metadata.
    pub metadata: NodeMetadata,
    /// What to tell without stopping.
    pub warnings: Vec<Failure>,
    /// At a desk: fields whose files and credentials only the node has, and
    /// where they are there.
    pub elsewhere: BTreeMap<String, String>,
    resolved: Resolved,
}

impl Loaded {
    /// A value that changes when the metadata does. `key` is any number of
    /// random bytes (32 are good) that only root can read: without it, guesses
    /// at secrets cannot be tried out against the digest.
    pub fn digest(&self, key: &[u8]) -> String {
        super::digest::digest(&self.resolved, key).unwrap_or_default()
    }
}

/// What it takes to reach the database.
#[derive(Clone, Debug)]
pub struct DatabaseFields {
    /// `database.dsn`
    pub dsn: Secret,
    /// Where that stands.
    pub place: String,
    /// `pki.ca`, PEM.
    pub ca: Option<Secret>,
}

/// Why there is no metadata to go on with.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// One for each mistake, in the order in which a person goes through them; never empty.
    pub failures: Vec<Failure>,
    /// How many of those are no mistakes in a text, and have no frame: sources
    /// that cannot be read. They come first.
    pub frameless: usize,
    /// Mistakes beyond those: a console is slow.
    pub unshown: usize,
    /// The mistakes as source frames, for a console; every value is masked.
    pub frames: String,
    /// What to tell besides.
    pub warnings: Vec<Failure>,
}

impl Rejected {
    /// All as one failure, for the card: with several, they are its causes.
    pub fn summary(&self) -> Failure {
        match self.failures.as_slice() {
            [] => Failure::new(&codes::INTERNAL, "metadata was rejected for no reason"),
            [only] => only.clone(),
            failures => {
                let mut summary = self.several(failures);
                if self.unshown > 0 {
                    summary.causes.push(format!("and {} more", self.unshown));
                }
                summary.remedy("Correct them all; each line says where it is and what to write.")
            }
        }
    }

    /// The same for whoever has the frames in front of them: no more than what
    /// does not stand there.
    pub fn below_frames(&self) -> Failure {
        match self.failures.as_slice() {
            [only] if self.frameless == 0 => {
                let mut failure = Failure::new(only.code, only.code.title);
                failure.next_command.clone_from(&only.next_command);
                // The code's own remedy would say less than the frame does.
                failure.remedy = only.remedy.as_ref().map(|_| String::new());
                failure
            }
            [] | [_] => self.summary(),
            failures => {
                let mut summary = self.several(&failures[..self.frameless]);
                summary.what.push_str(", shown above");
                summary.remedy("Correct them all; each says where it is and what to write.")
            }
        }
    }

    /// With the code of whoever must act: as long as somebody has to mend
    /// something, trying again mends nothing.
    fn several(&self, told: &[Failure]) -> Failure {
        let code = Card::new(self.failures.clone())
            .leading()
            .map_or(&codes::INTERNAL, |leading| leading.code);
        let count = self.failures.len() + self.unshown;
        let mut summary = Failure::new(code, format!("{count} mistakes in the node metadata"))
            .next_command("sf-firstboot check");
        for failure in told {
            let place = failure.source.as_deref().unwrap_or("node metadata");
            let mut line = format!("{place}: {}", failure.what);
            if failure.remedy.is_some() {
                let _ = write!(line, " ({})", failure.remedy_text());
            }
            summary.causes.push(line);
        }
        summary
    }
}

impl Collected {
    /// The database's DSN and CA alone, for commands that need nothing else of
    /// the metadata. They have not been parsed.
    pub fn database(&self) -> Result<DatabaseFields, Failure> {
        const FIELD: &str = "database.dsn";
        // A file that was named holds, whatever is wrong with this machine's own sources.
        let named = self
            .merged
            .get(FIELD)
            .is_some_and(|field| field.winner.place.origin.layer == Layer::CommandLine);
        if let Some(broken) = self.broken.first().filter(|_| !named) {
            return Err(broken.clone());
        }
        let mut warnings = Vec::new();
        let resolved = self.merged.resolve(|field, reference| {
            references::follow(&self.places, field, reference, &mut warnings)
                .map_err(|nowhere| nowhere.unresolved)
        });
        if let Some(problem) = resolved
            .problems()
            .iter()
            .find(|finding| finding.problem.field == FIELD)
        {
            return Err(failure(&self.merged, problem));
        }
        let text = |path| match resolved.get(path).map(|field| &field.value) {
            Some(Value::Secret(secret)) => Some(secret.clone()),
            Some(Value::Text(text)) => Some(Secret::new(text.as_str())),
            _ => None,
        };
        match text(FIELD) {
            Some(dsn) => Ok(DatabaseFields {
                dsn,
                place: self.merged.place(FIELD).unwrap_or_default(),
                ca: text("pki.ca"),
            }),
            None => Err(Failure::new(
                &codes::META_REQUIRED,
                "nothing says where the database is: there is no database.dsn in any metadata",
            )
            .remedy(
                "On a node: give it metadata. At a desk: --metadata FILE with any node's metadata, \
                 or --database-file FILE with the DSN alone.",
            )),
        }
    }

    /// Sources that cannot be read, and what is no value of this field, of the
    /// fields of this table, or with `None` anywhere; [`MOST`] of the latter.
    pub fn mistakes(&self, path: Option<&str>) -> Vec<Failure> {
        let about = |field: &str| {
            path.is_none_or(|path| {
                field.is_empty() || field == path || is_below(field, path) || is_below(path, field)
            })
        };
        let problems = self.merged.problems().iter();
        let mut failures = self.broken.clone();
        failures.extend(
            problems
                .filter(|finding| about(&finding.problem.field))
                .take(MOST)
                .map(|finding| Failure {
                    // That is what is being run.
                    next_command: None,
                    ..failure(&self.merged, finding)
                }),
        );
        failures
    }

    /// The authority that the database's certificate comes from: `pki.ca`,
    /// where it is at hand.
    pub fn authority(&self) -> Option<Secret> {
        let mut warnings = Vec::new();
        let resolved = self.merged.resolve(|field, reference| {
            references::follow(&self.places, field, reference, &mut warnings)
                .map_err(|nowhere| nowhere.unresolved)
        });
        match &resolved.get("pki.ca")?.value {
            Value::Secret(secret) => Some(secret.clone()),
            _ => None,
        }
    }

    /// Follows references, validates everything against role and release.
    pub fn load(&self, target: Target<'_>) -> Result<Loaded, Box<Rejected>> {
        if self.is_empty() {
            return Err(Box::new(Rejected {
                failures: vec![missing(&self.looked, target)],
                frameless: 1,
                frames: String::new(),
                unshown: 0,
                warnings: self.warnings.clone(),
            }));
        }
        let mut warnings = self.warnings.clone();
        let mut elsewhere = BTreeMap::new();
        let mut codes = BTreeMap::new();
        let mut resolved = self.merged.resolve(|field, reference| {
            references::follow(&self.places, field, reference, &mut warnings).map_err(|nowhere| {
                // Without the DSN there is nothing to check.
                if nowhere.absent && self.places.is_desk && field != "database.dsn" {
                    elsewhere.insert(field.to_owned(), reference.to_string());
                }
                codes.extend(nowhere.code.map(|code| (field.to_owned(), code)));
                nowhere.unresolved
            })
        });
        for field in elsewhere.keys() {
            resolved.leave_to_the_node(field);
        }
        let checked = check(&self.merged, &resolved, target);
        warnings.extend(
            checked
                .warnings
                .iter()
                .map(|finding| failure(&self.merged, finding)),
        );
        let mut failures = self.broken.clone();
        // A source that could not be read at all may hold what is missing.
        let problems: Vec<&Finding> = checked
            .problems
            .iter()
            .filter(|finding| self.broken.is_empty() || finding.class != Class::Missing)
            .collect();
        failures.extend(problems.iter().take(MOST).map(|finding| {
            let mut failure = failure(&self.merged, finding);
            if finding.class == Class::Reference
                && let Some(code) = codes.get(&finding.problem.field)
            {
                failure.code = code;
            }
            failure
        }));
        match checked.metadata {
            Some(metadata) if failures.is_empty() => Ok(Loaded {
                metadata,
                warnings,
                elsewhere,
                resolved,
            }),
            _ => Err(Box::new(Rejected {
                frames: self
                    .merged
                    .frames(problems.iter().map(|finding| &finding.problem)),
                frameless: self.broken.len(),
                unshown: problems.len().saturating_sub(MOST),
                failures,
                warnings,
            })),
        }
    }
}

/// Is it a field or table of that table?
fn is_below(path: &str, table: &str) -> bool {
    path.strip_prefix(table)
        .is_some_and(|rest| rest.starts_with('.'))
}

fn code(class: Class) -> &'static Code {
    match class {
        Class::Syntax => &codes::META_SYNTAX,
        Class::Schema => &codes::META_SCHEMA,
        Class::UnknownKey => &codes::META_UNKNOWN_KEY,
        Class::Value => &codes::META_INVALID,
        Class::Reference => &codes::META_REFERENCE,
        Class::Missing => &codes::META_REQUIRED,
        Class::Unlikely => &codes::META_UNLIKELY,
    }
}

fn failure(merged: &Merged, finding: &Finding) -> Failure {
    let problem = &finding.problem;
    let what = if problem.field.is_empty() {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.field, problem.message)
    };
    let mut failure = Failure::new(code(finding.class), what).source(merged.place_of(problem));
    if let Some(hint) = &problem.hint {
        failure = failure.remedy(hint.as_str());
    }
    if finding.class == Class::Value && !problem.field.is_empty() {
        failure = failure.next_command(format!("sf-firstboot explain {}", problem.field));
    }
    failure
}

fn missing(looked: &[Looked], target: Target<'_>) -> Failure {
    let mut failure = Failure::new(
        &codes::META_MISSING,
        format!("no metadata was found for this node of role {}", target.role),
    )
    .remedy(format!(
        "Give it the credential sf.metadata, or write {}, mode 0600; the shortest that works:\n\n{}",
        super::FILE,
        example::shortest(target.release, target.role)
    ))
    .next_command("sf-firstboot check");
    failure.causes = looked
        .iter()
        .map(|place| format!("looked at {place}"))
        .collect();
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sf-image metadata check` says the same codes without this crate.
    #[test]
    fn the_desk_and_the_node_use_the_same_codes() {
        for class in [
            Class::Syntax,
            Class::Schema,
            Class::UnknownKey,
            Class::Value,
            Class::Reference,
            Class::Missing,
            Class::Unlikely,
        ] {
            assert_eq!(code(class).id, class.code());
        }
    }
}
