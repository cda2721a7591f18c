//! What the image's release and role ask of the metadata: required fields,
//! keys that the release makes itself, the cluster-wide whitelist.

use super::checking::Check;
use super::example::line;
use super::fields::{self, COMPUTED};
use super::node::NodeMetadata;
use super::rules::{self, Wrong};
use super::value::{Value, shown};
use crate::document::did_you_mean;
use crate::release::{Release, Setting, SettingValue};
use crate::role::Role;

/// Keys of the cluster-wide table that come from fields of `[cluster]`.
pub(super) fn cluster_wide(release: &Release) -> impl Iterator<Item = (&str, &str)> {
    release.settings.iter().filter_map(|setting| {
        let SettingValue::Metadata(path) = &setting.value else {
            return None;
        };
        let wide = path.starts_with("cluster.")
            && !path.starts_with("cluster.config.")
            && !COMPUTED.contains(&path.as_str())
            && release.cluster_config.contains(&setting.key);
        wide.then_some((setting.key.as_str(), path.as_str()))
    })
}

/// The keys that `[cluster.config]` may hold.
pub(super) fn changeable(release: &Release) -> Vec<&str> {
    release
        .cluster_config
        .iter()
        .map(String::as_str)
        .filter(|known| *known != "AUTH_SECRET_SEED")
        .filter(|known| cluster_wide(release).all(|(wide, _)| wide != *known))
        .collect()
}

/// May the key stand in `[cluster.config]`?
pub(super) fn allowed(release: &Release, key: &str) -> Result<(), Wrong> {
    if key == "AUTH_SECRET_SEED" {
        return Err(Wrong::hint(
            "is a secret with a field of its own",
            "set secrets.auth_secret_seed instead",
        ));
    }
    if let Some((_, path)) = cluster_wide(release).find(|(wide, _)| *wide == key) {
        return Err(Wrong::hint(
            "has a field of its own",
            format!("set {path} instead"),
        ));
    }
    let known = changeable(release);
    if known.contains(&key) {
        return Ok(());
    }
    let hint = if known.is_empty() {
        format!(
            "release {} has no cluster-wide settings; set it in [config] on each node",
            release.name
        )
    } else if let Some(near) = did_you_mean(key, known.iter().copied()) {
        format!("did you mean \"{near}\"?")
    } else {
        format!(
            "allowed: {}; set others in [config] on each node",
            known.join(", ")
        )
    };
    Err(Wrong::hint(
        format!(
            "{} may not be set cluster-wide in release {}",
            shown(key),
            release.name
        ),
        hint,
    ))
}

pub(super) fn check(check: &mut Check<'_>, metadata: Option<&NodeMetadata>) {
    let release = check.target.release;
    for setting in &release.settings {
        own_key(check, setting);
        if let SettingValue::Metadata(path) = &setting.value {
            fits_config(check, path, release);
        }
    }
    for (path, key) in check.family("config.") {
        if release.cluster_config.contains(&key) {
            check.warn(
                &path,
                "the cluster-wide table overrides this key on every node once it is set there",
                "set it in [cluster.config] of the database tier",
            );
        }
    }
    missing(check);
    if check.whole
        && let Some(metadata) = metadata
        && metadata.bootstrap_mode.bootstraps(check.target.role)
        && !check.resolved.is_set("secrets.system_key")
    {
        check.warn(
            "secrets.system_key",
            "is not set: the bootstrap establishes no key, so nobody can use the API yet",
            "set it and restart the agent; the key is then added",
        );
    }
}

/// A key that the release renders itself cannot be set through `[config]`.
fn own_key(check: &mut Check<'_>, setting: &Setting) {
    let path = format!("config.{}", setting.key);
    if !check.resolved.is_set(&path) {
        return;
    }
    let hint = match &setting.value {
        SettingValue::Metadata(from) if *from == path => return,
        SettingValue::Metadata(from) if from == "cluster.auth_secret_seed" => {
            "set secrets.auth_secret_seed instead".to_owned()
        }
        SettingValue::Metadata(from) if COMPUTED.contains(&from.as_str()) => {
            "it is taken from database.dsn".to_owned()
        }
        SettingValue::Metadata(from) => format!("set {from} instead"),
        SettingValue::Constant(value) => format!("the image sets it to {}", shown(value)),
        SettingValue::TrueOn(_) => "the image's role decides it".to_owned(),
    };
    check.wrong(
        &path,
        Wrong::hint("is a setting that the agent makes itself", hint),
    );
}

/// What becomes a setting must be able to stand in `/etc/sf/config`.
fn fits_config(check: &mut Check<'_>, path: &str, release: &Release) {
    let path = match path {
        "cluster.auth_secret_seed" => "secrets.auth_secret_seed",
        // Checked where it is read.
        _ if path.starts_with("config.") => return,
        other => other,
    };
    let resolved = check.resolved;
    let text = match resolved.get(path).map(|field| &field.value) {
        Some(Value::Text(text)) => text.as_str(),
        Some(Value::Secret(secret)) => secret.expose(),
        _ => return,
    };
    if let Err(wrong) = rules::config_value(text, &release.forbidden_in_config) {
        check.wrong_value(path, wrong);
    }
}

/// The fields that a node of `role` cannot do without, in this release.
pub fn required_fields(release: &Release, role: Role) -> Vec<String> {
    let mut required = vec!["node.name".to_owned(), "database.dsn".to_owned()];
    for setting in &release.settings {
        let SettingValue::Metadata(path) = &setting.value else {
            continue;
        };
        let applies = setting.roles.is_empty() || setting.roles.contains(&role);
        if setting.required
            && applies
            && !COMPUTED.contains(&path.as_str())
            && !required.contains(path)
        {
            required.push(path.clone());
        }
    }
    required
}

/// Reports all missing fields. Not when a source could not be read as a whole:
/// they may well stand there.
fn missing(check: &mut Check<'_>) {
    if !check.whole {
        return;
    }
    let role = check.target.role;
    for path in required_fields(check.target.release, role) {
        if check.resolved.is_set(&path) || check.is_mistaken(&path) {
            continue;
        }
        let hint = example_of(&path);
        check.missing(
            &path,
            Wrong {
                message: format!("missing: a node of role {role} cannot do without it"),
                hint,
            },
        );
    }
}

/// The line that would set the field, with the table that it stands in.
fn example_of(path: &str) -> Option<String> {
    let spec = fields::find(path)?;
    Some(format!(
        "add under [{}]: {}",
        spec.table(),
        line(spec, path)
    ))
}
