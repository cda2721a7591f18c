//! The rules for names, keys and numbers of a descriptor.

use crate::document::{Field, Reader};

/// Names that may be given once, each with what it is.
#[derive(Default)]
pub(super) struct Seen {
    names: Vec<(&'static str, String)>,
    /// Keys whose value is this node's own.
    pub(super) node_keys: Vec<String>,
}

impl Seen {
    /// Records a name; a second one of its kind is a problem.
    pub(super) fn once(
        &mut self,
        at: &Reader<'_, '_>,
        key: &str,
        kind: &'static str,
        name: &Field<String>,
    ) {
        let entry = (kind, name.value.clone());
        if self.names.contains(&entry) {
            let message = format!("the {kind} \"{}\" is there twice", name.value);
            at.problem(key, Some(name.span.clone()), message, None);
        } else {
            self.names.push(entry);
        }
    }
}

/// The whitelist of the cluster-wide table. What stands in it overrides every
/// node's own file, so a key that is a node's own must never be there.
pub(super) fn read_cluster_config(root: &Reader<'_, '_>, seen: &Seen) -> Vec<String> {
    let keys = root.strings("cluster_config").unwrap_or_default();
    for key in &keys {
        if !is_key(&key.value) {
            let message = format!("\"{}\" is not a key", key.value);
            root.problem(
                "cluster_config",
                Some(key.span.clone()),
                message,
                Some(KEY_HINT.into()),
            );
        } else if seen.node_keys.contains(&key.value) || key.value.starts_with("NODE_") {
            root.problem(
                "cluster_config",
                Some(key.span.clone()),
                format!(
                    "{} is each node's own and would be overridden on all of them",
                    key.value
                ),
                Some("leave it out".into()),
            );
        }
    }
    keys.into_iter().map(|key| key.value).collect()
}

pub(super) const KEY_HINT: &str =
    "upper-case letters, digits and underscores, without the SHAKENFIST_ prefix";

pub(super) fn is_key(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with("SHAKENFIST_")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

pub(super) fn is_unit(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A TCP port or HTTP status: a whole number of 1 to 65535.
pub(super) fn short(reader: &Reader<'_, '_>, key: &str, number: &Field<i64>) -> Option<u16> {
    let found = u16::try_from(number.value)
        .ok()
        .filter(|number| *number > 0);
    if found.is_none() {
        let message = format!("{} is not between 1 and 65535", number.value);
        reader.problem(key, Some(number.span.clone()), message, None);
    }
    found
}
