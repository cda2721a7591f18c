//! Judging metadata at a desk where the role is not said: what is wrong on
//! every role is wrong; what is wrong on some is told per role.

use std::collections::HashSet;
use std::ops::Range;

use super::finding::{Class, Finding};
use super::merged::{Merged, Resolved};
use super::validate::{Checked, Target, check};
use crate::release::Release;
use crate::role::Role;

/// The verdict for several roles.
#[derive(Clone, Debug)]
pub struct ForRoles {
    /// Wrong on every role.
    pub problems: Vec<Finding>,
    /// Unlikely on every role.
    pub warnings: Vec<Finding>,
    /// Per role what else is wrong there, in the order given.
    pub roles: Vec<(Role, Vec<Finding>)>,
}

/// Checks against each of `roles`, and tells apart what does not depend on the
/// role. Findings are the same when they have class and place in common: the
/// sentence about a missing field names the role.
pub fn check_roles(
    merged: &Merged,
    resolved: &Resolved,
    release: &Release,
    roles: &[Role],
) -> ForRoles {
    let verdicts: Vec<(Role, Checked)> = roles
        .iter()
        .map(|&role| (role, check(merged, resolved, Target { role, release })))
        .collect();
    let common = |list: fn(&Checked) -> &[Finding]| -> Vec<Finding> {
        let Some(((_, first), others)) = verdicts.split_first() else {
            return Vec::new();
        };
        let others: Vec<HashSet<Mark<'_>>> = others
            .iter()
            .map(|(_, checked)| list(checked).iter().map(mark).collect())
            .collect();
        list(first)
            .iter()
            .filter(|finding| others.iter().all(|known| known.contains(&mark(finding))))
            .cloned()
            .collect()
    };
    let mut problems = common(|checked| &checked.problems);
    let warnings = common(|checked| &checked.warnings);
    let known: HashSet<Mark<'_>> = problems.iter().map(mark).collect();
    let roles = verdicts
        .iter()
        .map(|(role, checked)| {
            let others = checked
                .problems
                .iter()
                .filter(|finding| !known.contains(&mark(finding)));
            (*role, others.cloned().collect())
        })
        .collect();
    for finding in &mut problems {
        // One for which another field is missing does not name the role.
        if finding.class == Class::Missing && finding.problem.message.starts_with("missing") {
            finding.problem.message = "missing: no node can do without it".into();
        }
    }
    ForRoles {
        problems,
        warnings,
        roles,
    }
}

/// What findings that are the same have in common.
type Mark<'f> = (Class, &'f str, &'f str, Option<&'f Range<usize>>, &'f str);

fn mark(finding: &Finding) -> Mark<'_> {
    let problem = &finding.problem;
    let message = match finding.class {
        Class::Missing => "",
        _ => &problem.message,
    };
    let span = problem.span.as_ref();
    (
        finding.class,
        &problem.source,
        &problem.field,
        span,
        message,
    )
}
