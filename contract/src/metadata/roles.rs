//! Judging metadata at a desk where the role is not said: what is wrong on
//! every role is wrong; what is wrong on some is told per role.

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
        let Some((_, first)) = verdicts.first() else {
            return Vec::new();
        };
        list(first)
            .iter()
            .filter(|finding| {
                verdicts
                    .iter()
                    .all(|(_, checked)| list(checked).iter().any(|other| same(finding, other)))
            })
            .cloned()
            .collect()
    };
    let mut problems = common(|checked| &checked.problems);
    let warnings = common(|checked| &checked.warnings);
    let roles = verdicts
        .iter()
        .map(|(role, checked)| {
            let others = checked
                .problems
                .iter()
                .filter(|finding| !problems.iter().any(|known| same(known, finding)));
            (*role, others.cloned().collect())
        })
        .collect();
    for finding in &mut problems {
        if finding.class == Class::Missing {
            finding.problem.message = "missing: no node can do without it".into();
        }
    }
    ForRoles {
        problems,
        warnings,
        roles,
    }
}

fn same(one: &Finding, other: &Finding) -> bool {
    let (a, b) = (&one.problem, &other.problem);
    one.class == other.class
        && (&a.source, &a.field, &a.span) == (&b.source, &b.field, &b.span)
        && (one.class == Class::Missing || a.message == b.message)
}
