//! Sizes against the budgets of a profile.

use std::collections::BTreeMap;

use super::{Finding, Rule};
use crate::profile::{Budget, Size};

/// Every size that is larger than its budget. `files` names what was measured.
pub fn judge(
    budgets: &BTreeMap<Budget, u64>,
    measured: &BTreeMap<Budget, u64>,
    files: &BTreeMap<Budget, String>,
) -> Vec<Finding> {
    budgets
        .iter()
        .filter_map(|(budget, limit)| {
            let size = measured.get(budget)?;
            (size > limit).then(|| Finding {
                rule: Rule::Size,
                path: files
                    .get(budget)
                    .cloned()
                    .unwrap_or_else(|| budget.name().to_owned()),
                what: format!(
                    "takes {}, {} more than its budget of {} (size_budgets.{budget})",
                    Size(*size),
                    Size(size - limit),
                    Size(*limit)
                ),
                owner: String::new(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_named_with_both_sizes() {
        let budgets = BTreeMap::from([
            (Budget::Usr, 100 << 20),
            (Budget::Uki, 10 << 20),
            (Budget::Raw, 1),
        ]);
        let measured = BTreeMap::from([(Budget::Usr, 110 << 20), (Budget::Uki, 10 << 20)]);
        let files = BTreeMap::from([(Budget::Usr, "x.usr.raw".to_owned())]);
        let shown: Vec<_> = judge(&budgets, &measured, &files)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            [
                "size: x.usr.raw takes 110 MiB, 10 MiB more than its budget of 100 MiB (size_budgets.usr)"
            ]
        );
    }
}
