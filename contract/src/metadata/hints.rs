//! What to say about a key or a path that the schema does not have.

use super::fields::{FIELDS, FieldSpec, is_config_key};
use crate::document::did_you_mean;

/// The names that may stand directly in a table; `""` is the document.
fn names_in(table: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = FIELDS
        .iter()
        .filter_map(|spec| {
            let rest = if table.is_empty() {
                spec.path
            } else {
                spec.path.strip_prefix(table)?.strip_prefix('.')?
            };
            rest.split('.').next()
        })
        .filter(|name| !name.starts_with('<'))
        .collect();
    if table.is_empty() {
        names.insert(0, "schema");
    }
    names.dedup();
    names
}

/// What to say about a key that the schema does not have in `table`: the
/// nearest key there, the table that it belongs to, or what there is.
pub(super) fn unknown_key_hint(table: &str, key: &str) -> String {
    let here = names_in(table);
    if let Some(near) = did_you_mean(key, here.iter().copied()) {
        return format!("did you mean \"{near}\"?");
    }
    let known = if table.is_empty() {
        format!("known at the top: {}", here.join(", "))
    } else {
        format!("known in [{table}]: {}", here.join(", "))
    };
    if let Some(hint) = other_table(key) {
        // Or the table is right, and the key is what another program calls it.
        return format!("{hint}; {known}");
    }
    if let Some(path) = tables().find(|path| path.rsplit('.').next() == Some(key)) {
        return format!("that table is [{path}]");
    }
    if is_config_key(key) {
        return format!(
            "a SHAKENFIST_* setting stands in [config]: {}",
            key.trim_start_matches("SHAKENFIST_")
        );
    }
    let all = FIELDS.iter().filter(|spec| spec.family().is_none());
    if let Some(near) = did_you_mean(key, all.clone().map(last)) {
        let path = all
            .filter(|spec| last(spec) == near)
            .map(|spec| spec.path)
            .next()
            .unwrap_or(near);
        return format!("did you mean {path}?");
    }
    known
}

/// The tables that have a field of this name, if any does.
pub(super) fn other_table(key: &str) -> Option<String> {
    let paths: Vec<&'static str> = FIELDS
        .iter()
        .filter(|spec| last(spec) == key)
        .map(|spec| spec.path)
        .collect();
    (!paths.is_empty())
        .then(|| format!("that key belongs to another table: {}", paths.join(" or ")))
}

/// The last part of a field's path.
fn last(spec: &FieldSpec) -> &'static str {
    spec.path.rsplit('.').next().unwrap_or(spec.path)
}

/// Every table that fields stand in.
fn tables() -> impl Iterator<Item = &'static str> {
    let mut all: Vec<&'static str> = FIELDS
        .iter()
        .flat_map(|spec| {
            spec.path
                .match_indices('.')
                .map(|(end, _)| &spec.path[..end])
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

/// The field path nearest to a mistyped one, for `explain` and credentials.
pub fn nearest(path: &str) -> Option<&'static str> {
    did_you_mean(path, FIELDS.iter().map(|spec| spec.path))
}

/// The same, or what is meant by a field's name without its table; for
/// `explain` alone: a credential `sf.ca` may well be no field.
pub(super) fn meant(path: &str) -> Option<&'static str> {
    nearest(path)
        .or_else(|| {
            let spec = FIELDS.iter().find(|spec| last(spec) == path);
            spec.map(|spec| spec.path)
        })
        // A setting of the release stands in a table of its own.
        .or_else(|| is_config_key(path).then_some("config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_without_its_table() {
        for (path, near) in [
            ("databse.dsn", Some("database.dsn")),
            ("zone", Some("cluster.zone")),
            ("system_key", Some("secrets.system_key")),
            ("ETCD_HOST", Some("config")),
            ("colour", None),
        ] {
            assert_eq!(meant(path), near, "{path}");
        }
    }

    #[test]
    fn hints_know_the_neighbours_and_the_other_tables() {
        for (table, key, hint) in [
            ("node", "nmae", "did you mean \"name\"?"),
            ("", "nodes", "did you mean \"node\"?"),
            (
                "node",
                "dsn",
                "that key belongs to another table: database.dsn; \
                 known in [node]: name, mesh, egress, reservations",
            ),
            (
                "database",
                "url",
                "that key belongs to another table: report.url; \
                 known in [database]: dsn, connect_timeout, wait",
            ),
            (
                "node",
                "address",
                "that key belongs to another table: node.mesh.address or node.egress.address; \
                 known in [node]: name, mesh, egress, reservations",
            ),
            ("node", "libvirt_spice", "that table is [pki.libvirt_spice]"),
            (
                "node",
                "ETCD_HOST",
                "a SHAKENFIST_* setting stands in [config]: ETCD_HOST",
            ),
            (
                "cluster",
                "SHAKENFIST_NODE_NAME",
                "a SHAKENFIST_* setting stands in [config]: NODE_NAME",
            ),
            ("node", "system_kye", "did you mean secrets.system_key?"),
            (
                "secrets",
                "colour",
                "known in [secrets]: auth_secret_seed, system_key, system_key_name",
            ),
        ] {
            assert_eq!(unknown_key_hint(table, key), hint, "{table} {key}");
        }
    }
}
