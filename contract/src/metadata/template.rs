//! The commented template that `sf-image metadata new` writes: every field of
//! the table, so that a new one appears by itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::document::quoted;
use super::fields::{FIELDS, FieldSpec, Kind};
use super::release_rules::{changeable, required_fields};
use crate::release::{Release, SettingValue};
use crate::role::Role;

/// What stands in a template where a value must be written. It is no value of
/// any field: validation refuses it by name.
pub const PLACEHOLDER: &str = "<fill in>";

/// A document with every field that a node of `role` can have: required ones
/// with [`PLACEHOLDER`], the others commented out, each with what it is and an
/// example. `node` is the node's name, when it is known.
pub fn template(release: &Release, role: Role, node: Option<&str>) -> String {
    let required = required_fields(release, role);
    let mut text = format!(
        "# Metadata of a {role} node, for release {name} of Shaken Fist.\n\
         # Replace every {PLACEHOLDER:?}; lines that start with `#` are optional.\n\
         # Then: sf-image metadata check FILE --profile PROFILE\n\
         schema = 1\n",
        name = release.name,
    );
    let mut tables: Vec<&str> = Vec::new();
    for spec in FIELDS {
        if !tables.contains(&spec.table()) {
            tables.push(spec.table());
        }
    }
    for table in tables {
        let _ = write!(text, "\n[{table}]\n");
        for spec in FIELDS.iter().filter(|spec| spec.table() == table) {
            match (spec.family(), spec.kind) {
                (None, _) => {
                    let is_required = required.iter().any(|path| path == spec.path);
                    field(&mut text, spec, role, is_required, node);
                }
                (Some(_), Kind::Config) => config(&mut text, spec, release, role, &required),
                (Some(_), Kind::ClusterConfig) => cluster_config(&mut text, spec, release),
                (Some(_), _) => {
                    comment(&mut text, spec.doc);
                    let _ = writeln!(text, "#{}", spec.example);
                }
            }
        }
    }
    text
}

fn field(text: &mut String, spec: &FieldSpec, role: Role, required: bool, node: Option<&str>) {
    comment(text, spec.doc);
    if let Some(default) = spec.default {
        let _ = writeln!(text, "# Default: {default}.");
    }
    let key = &spec.path[spec.table().len() + 1..];
    let example = example_value(spec);
    if spec.kind.is_secret() && !example.starts_with('{') {
        let _ = writeln!(
            text,
            "# Or, not in this file: {{ credential = \"name\" }} or {{ file = \"/path\" }}."
        );
    }
    if !required {
        if spec.kind == Kind::SystemKey && role.bootstraps() {
            comment(
                text,
                "Recommended on this role: without it nobody can use the API yet.",
            );
        }
        let _ = writeln!(text, "#{key} = {example}");
        return;
    }
    let value = match (spec.kind, node) {
        (Kind::HostName, Some(node)) => quoted(node),
        (Kind::Hosts, _) => format!("[{PLACEHOLDER:?}]"),
        _ => quoted(PLACEHOLDER),
    };
    let _ = writeln!(text, "# For example: {key} = {example}\n{key} = {value}");
}

/// Keys of the family that the release asks for, and one that it does not.
fn config(text: &mut String, spec: &FieldSpec, release: &Release, role: Role, required: &[String]) {
    comment(text, spec.doc);
    let prefix = spec.family().unwrap_or_default();
    let mut seen = BTreeSet::new();
    for setting in &release.settings {
        let SettingValue::Metadata(path) = &setting.value else {
            continue;
        };
        let Some(key) = path.strip_prefix(prefix) else {
            continue;
        };
        let applies = setting.roles.is_empty() || setting.roles.contains(&role);
        if !applies || !seen.insert(key) {
            continue;
        }
        if let Some(about) = &setting.about {
            comment(text, &format!("{key}: {about}."));
        }
        let mark = if required.contains(path) { "" } else { "#" };
        let _ = writeln!(text, "{mark}{key} = {}", quoted(PLACEHOLDER));
    }
    if seen.is_empty() {
        let _ = writeln!(text, "#{}", spec.example);
    }
}

fn cluster_config(text: &mut String, spec: &FieldSpec, release: &Release) {
    comment(text, spec.doc);
    let keys = changeable(release);
    if keys.is_empty() {
        let _ = writeln!(text, "# Release {} has none.", release.name);
    } else {
        comment(
            text,
            &format!("Release {} allows {}.", release.name, keys.join(", ")),
        );
        if keys.iter().any(|key| spec.example.starts_with(key)) {
            let _ = writeln!(text, "#{}", spec.example);
        }
    }
}

/// The field's own value in its example, as TOML.
fn example_value(spec: &FieldSpec) -> String {
    let mut value = spec
        .example_block()
        .parse::<toml::Table>()
        .map(toml::Value::Table)
        .ok();
    for part in spec.path.split('.') {
        value = value.and_then(|value| value.get(part).cloned());
    }
    value.map_or_else(|| quoted(PLACEHOLDER), |value| inline(&value))
}

fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => quoted(text),
        toml::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        toml::Value::Table(table) => {
            let items: Vec<String> = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", inline(value)))
                .collect();
            format!("{{ {} }}", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Comment lines of at most 100 characters.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.len() + word.len() > 98 && line.len() > 1 {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}
