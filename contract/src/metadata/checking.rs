//! A check under way: how the rules get at values and report breaches, so that
//! no report quotes a secret.

use super::fields::FieldSpec;
use super::finding::{Class, Finding};
use super::hints;
use super::merged::{Merged, Resolved, ResolvedField};
use super::rules::Wrong;
use super::validate::Target;
use super::value::Value;
use crate::problem::Problem;

/// A check under way.
pub(super) struct Check<'c> {
    pub(super) merged: &'c Merged,
    pub(super) resolved: &'c Resolved,
    pub(super) target: Target<'c>,
    /// Could all sources be read to their end? If not, what is absent may well be in them.
    pub(super) whole: bool,
    pub(super) problems: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

impl Check<'_> {
    /// Does what stands for the field, or for its table, have a mistake? Then
    /// it is not absent.
    pub(super) fn is_mistaken(&self, path: &str) -> bool {
        self.merged.problems().iter().any(|finding| {
            path.strip_prefix(&finding.problem.field)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Paths and keys of a family's fields that are set.
    pub(super) fn family(&self, prefix: &str) -> Vec<(String, String)> {
        self.resolved
            .fields()
            .filter_map(|(path, _)| {
                let key = path.strip_prefix(prefix)?;
                Some((path.to_owned(), key.to_owned()))
            })
            .collect()
    }

    /// The value of a field as `rule` sees it; `None` when it is absent or wrong.
    /// Rules quote what they refuse, so of a secret that strayed into the field
    /// their words are not told.
    pub(super) fn rule<T>(
        &mut self,
        path: &str,
        rule: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let ResolvedField { value, spec, .. } = self.resolved.get(path)?;
        let stray = matches!(value, Value::Secret(_));
        self.discreet_rule(path, |text| {
            rule(text).map_err(|wrong| {
                if stray {
                    stray_secret(path, spec)
                } else {
                    wrong
                }
            })
        })
    }

    /// The same for rules that quote nothing of the text: those of fields where
    /// a secret belongs, or may come as part of a URL.
    pub(super) fn discreet_rule<T>(
        &mut self,
        path: &str,
        rule: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let text = match &self.resolved.get(path)?.value {
            Value::Text(text) => text.as_str(),
            Value::Secret(secret) => secret.expose(),
            _ => return None,
        };
        match rule(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.wrong_value(path, wrong);
                None
            }
        }
    }

    /// A breach by the value itself, which can stand elsewhere.
    pub(super) fn wrong_value(&mut self, path: &str, mut wrong: Wrong) {
        if let Some(reference) = self.resolved.get(path).and_then(|field| field.via.as_ref()) {
            wrong.message = format!("{reference}: {}", wrong.message);
        }
        self.wrong(path, wrong);
    }

    pub(super) fn amount(&mut self, path: &str, least: u32, most: u32) -> Option<u32> {
        let Value::Integer(number) = self.resolved.get(path)?.value else {
            return None;
        };
        match u32::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                let wrong = Wrong::new(format!("{number} is out of range: {least} to {most}"));
                self.wrong(path, wrong);
                None
            }
        }
    }

    pub(super) fn wrong(&mut self, path: &str, wrong: Wrong) {
        let problem = self.problem(path, wrong);
        self.problems.push(Finding {
            class: Class::Value,
            problem,
        });
    }

    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        let problem = self.problem(path, Wrong::hint(message, hint));
        self.warnings.push(Finding {
            class: Class::Unlikely,
            problem,
        });
    }

    pub(super) fn missing(&mut self, path: &str, wrong: Wrong) {
        let problem = self.problem(path, wrong);
        self.problems.push(Finding {
            class: Class::Missing,
            problem,
        });
    }

    /// A problem at the field's place; an absent field has none.
    fn problem(&self, path: &str, wrong: Wrong) -> Problem {
        let place = self.resolved.get(path).map(|field| &field.place);
        Problem {
            source: place.map_or_else(|| "node metadata".into(), |place| place.origin.name.clone()),
            field: path.to_owned(),
            span: place.and_then(|place| place.span.clone()),
            message: wrong.message,
            hint: wrong.hint,
        }
    }
}

/// What to say about a secret in a field that takes none.
fn stray_secret(path: &str, spec: &FieldSpec) -> Wrong {
    let key = path.rsplit('.').next().unwrap_or(path);
    let strayed = spec.family().and_then(|_| hints::other_table(key));
    Wrong::hint(
        format!(
            "expected {}; what stands there is not shown, since it looks like a secret",
            spec.kind.wanted()
        ),
        strayed.unwrap_or_else(|| "look for a quote that is not closed, or not as it began".into()),
    )
}
