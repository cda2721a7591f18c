//! The shortest metadata that works, for one release and role.

use std::fmt::Write as _;

use super::fields::{self, FIELDS, FieldSpec};
use super::release_rules::required_fields;
use crate::release::Release;
use crate::role::Role;

/// A document with every required field and nothing else; values are examples.
/// It is valid for a node of `role` (tested for every role).
pub fn shortest(release: &Release, role: Role) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let mut required = required_fields(release, role);
    required.sort_by_key(|path| {
        let spec = fields::find(path);
        FIELDS
            .iter()
            .position(|known| spec.is_some_and(|spec| spec.path == known.path))
    });
    for path in required {
        let Some(spec) = fields::find(&path) else {
            continue;
        };
        let line = (spec.table(), line(spec, &path));
        // `mesh = { … }` stands for two fields.
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let mut text = String::from("schema = 1\n");
    let mut tables: Vec<&str> = Vec::new();
    for (table, _) in &lines {
        if !tables.contains(table) {
            tables.push(table);
        }
    }
    for table in tables {
        let _ = writeln!(text, "\n[{table}]");
        for (_, line) in lines.iter().filter(|(other, _)| *other == table) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// The line of TOML that sets a field, as it stands under its table's header.
pub(super) fn line(spec: &FieldSpec, path: &str) -> String {
    match spec.family() {
        Some(prefix) if !spec.example.starts_with(&path[prefix.len()..]) => {
            format!("{} = \"…\"", &path[prefix.len()..])
        }
        _ => spec.example.to_owned(),
    }
}
