//! `/etc/sf/config`: one `SHAKENFIST_KEY="value"` a line. The release says
//! which keys there are and where their values come from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sf_contract::metadata::node::NodeMetadata;
use sf_contract::metadata::value::{SettingText, holds_no_secret};
use sf_contract::release::{Setting, SettingValue};
use sf_contract::role::Role;
use sf_contract::secret::{MASK, Secret, is_secret_key};

use super::FromCluster;
use crate::codes;
use crate::failure::Failure;
use crate::image::Image;

/// Is what the database contributes at hand?
#[derive(Clone, Copy, Debug)]
pub enum Cluster<'c> {
    /// Before the database was asked: values from it are taken to exist.
    Unknown,
    /// What it said.
    Known(&'c FromCluster),
}

/// Renders the file, or says everything that is wrong with the settings.
/// Precedence: a cluster-wide key of the database, then `[config]` of the
/// node, then what the release says.
pub fn render(
    image: &Image,
    metadata: &NodeMetadata,
    cluster: Cluster<'_>,
) -> Result<Secret, Vec<Failure>> {
    let role = image.role();
    let mut values: BTreeMap<&str, Value> = BTreeMap::new();
    let mut failures = Vec::new();
    for setting in image
        .release
        .settings
        .iter()
        .filter(|setting| on_role(setting, role))
    {
        match value_of(setting, role, metadata, cluster) {
            Some(text) => {
                let source = match &setting.value {
                    SettingValue::Metadata(field) => Source::Field(field),
                    SettingValue::Constant(_) => Source::Constant,
                    SettingValue::TrueOn(_) => Source::Role,
                };
                values.insert(&setting.key, Value { text, source });
            }
            None if setting.required => failures.push(missing(setting, role)),
            None => {}
        }
    }
    for (key, text) in &metadata.config {
        // Validation has refused keys that the release derives from other fields.
        values.insert(
            key,
            Value {
                text: text.clone(),
                source: Source::Extra,
            },
        );
    }
    if let Cluster::Known(cluster) = cluster {
        for (key, value) in &cluster.config {
            let text = json_text(value);
            let text = if is_secret_key(key) {
                SettingText::Secret(Secret::new(text))
            } else {
                SettingText::Plain(text)
            };
            // On releases that read the table it overrides the file; so it does here.
            values.insert(
                key,
                Value {
                    text,
                    source: Source::Database,
                },
            );
        }
    }
    let forbidden = image.release.forbidden_in_config.as_str();
    failures.extend(
        values
            .iter()
            .filter_map(|(key, value)| unfit(key, value, forbidden)),
    );
    if failures.is_empty() {
        Ok(text(&values))
    } else {
        Err(failures)
    }
}

struct Value<'m> {
    text: SettingText,
    source: Source<'m>,
}

enum Source<'m> {
    Field(&'m str),
    Constant,
    Role,
    Extra,
    Database,
}

impl Source<'_> {
    fn shown(&self, key: &str) -> String {
        match self {
            Self::Field(field) => format!("metadata field {field}"),
            Self::Constant => "release descriptor".into(),
            Self::Role => "role of the image".into(),
            Self::Extra => format!("metadata field config.{key}"),
            Self::Database => format!("cluster-wide key {key} in the database"),
        }
    }
}

fn text(values: &BTreeMap<&str, Value<'_>>) -> Secret {
    let mut file = String::from(
        "# Made by sf-firstboot on every boot, from the node's metadata and the cluster's database.\n\
         # Changes here are lost: change the metadata. `sf-firstboot explain FIELD` says where a value comes from.\n",
    );
    for (key, value) in values {
        let line = writeln!(file, "SHAKENFIST_{key}=\"{}\"", value.text.expose());
        // Writing to a String cannot fail.
        debug_assert!(line.is_ok());
    }
    Secret::new(file)
}

fn on_role(setting: &Setting, role: Role) -> bool {
    setting.roles.is_empty() || setting.roles.contains(&role)
}

fn value_of(
    setting: &Setting,
    role: Role,
    metadata: &NodeMetadata,
    cluster: Cluster<'_>,
) -> Option<SettingText> {
    match &setting.value {
        SettingValue::Constant(text) => Some(SettingText::Plain(text.clone())),
        SettingValue::TrueOn(roles) => {
            let on = if roles.contains(&role) {
                "True"
            } else {
                "False"
            };
            Some(SettingText::Plain(on.into()))
        }
        SettingValue::Metadata(field) => {
            computed(field, metadata, cluster).or_else(|| metadata.setting(field))
        }
    }
}

/// Do the daemons of this image get the database's credentials?
pub fn gives_database(image: &Image) -> bool {
    image.release.settings.iter().any(|setting| {
        let from = SettingValue::Metadata("database.password".into());
        setting.value == from && on_role(setting, image.role())
    })
}

/// What the release's schema command is told, as variables of its environment:
/// the settings of the role, of the secrets among them the database's alone.
pub fn for_schema_command(image: &Image, metadata: &NodeMetadata) -> Vec<(String, SettingText)> {
    let role = image.role();
    let nothing = FromCluster::default();
    image
        .release
        .settings
        .iter()
        .filter(|setting| on_role(setting, role))
        .filter_map(|setting| {
            let text = value_of(setting, role, metadata, Cluster::Known(&nothing))?;
            let database = matches!(
                &setting.value,
                SettingValue::Metadata(field) if field.starts_with("database.")
            );
            let plain = matches!(text, SettingText::Plain(_)) && !is_secret_key(&setting.key);
            (database || plain).then(|| (format!("SHAKENFIST_{}", setting.key), text))
        })
        .collect()
}

/// Values that are not in the metadata as such.
fn computed(field: &str, metadata: &NodeMetadata, cluster: Cluster<'_>) -> Option<SettingText> {
    let dsn = &metadata.database.dsn;
    match field {
        "cluster.auth_secret_seed" => match cluster {
            Cluster::Unknown => Some(SettingText::Secret(Secret::new("unknown"))),
            Cluster::Known(cluster) => cluster.auth_secret_seed.clone().map(SettingText::Secret),
        },
        "database.host" => Some(SettingText::Plain(dsn.host().to_owned())),
        "database.port" => Some(SettingText::Plain(dsn.port().to_string())),
        "database.name" => Some(SettingText::Plain(dsn.name().to_owned())),
        // Shaken Fist pastes user and password into a URL as they are.
        "database.user" => Some(SettingText::Plain(percent_encoded(dsn.user()))),
        "database.password" => dsn
            .password()
            .map(|password| SettingText::Secret(Secret::new(percent_encoded(password.expose())))),
        _ => None,
    }
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let digits = write!(encoded, "%{byte:02X}");
            debug_assert!(digits.is_ok());
        }
    }
    encoded
}

/// A JSON value as Shaken Fist's configuration writes it.
fn json_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Bool(true) => "True".into(),
        serde_json::Value::Bool(false) => "False".into(),
        other => other.to_string(),
    }
}

fn missing(setting: &Setting, role: Role) -> Failure {
    let key = &setting.key;
    let what = format!("SHAKENFIST_{key} has no value, and a node of role {role} needs it");
    let failure = Failure::new(&codes::CONFIG_MISSING, what);
    match &setting.value {
        SettingValue::Metadata(field) if field == "cluster.auth_secret_seed" => failure
            .source("the cluster's database")
            .remedy("The cluster has no auth secret seed: bootstrap it from a database-tier node."),
        SettingValue::Metadata(field) => failure
            .source("the node's metadata")
            .remedy(format!("Set {field} in the node's metadata."))
            .next_command(format!("sf-firstboot explain {field}")),
        _ => failure.source("release descriptor"),
    }
}

/// What a value may have at most, in bytes; a line of the file is read whole.
const LONGEST: usize = 64 << 10;

fn unfit(key: &str, value: &Value<'_>, forbidden: &str) -> Option<Failure> {
    let text = value.text.expose();
    let bad = text
        .chars()
        .find(|c| matches!(c, '"' | '\'' | '\\') || c.is_control() || forbidden.contains(*c));
    let named = match bad {
        None if text.len() > LONGEST => format!("{} bytes, more than {LONGEST}", text.len()),
        None => return None,
        Some('"' | '\'') => "a quote".to_owned(),
        Some('\\') => "a backslash".into(),
        Some('=') => "an equals sign".into(),
        Some('\n' | '\r') => "a line break".into(),
        Some(other) => format!("the control character U+{:04X}", u32::from(other)),
    };
    Some(
        Failure::new(
            &codes::CONFIG_VALUE,
            format!("the value of SHAKENFIST_{key} holds {named}"),
        )
        .value(shown(key, &value.text))
        .source(value.source.shown(key)),
    )
}

/// Nothing of a value that is a secret by its name, or that may hold one.
fn shown(key: &str, text: &SettingText) -> String {
    let text = text.to_string();
    if is_secret_key(key) || !holds_no_secret(&text) {
        return MASK.into();
    }
    let start: String = text.chars().take(80).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    format!("{}{rest}", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn rendered(role: Role, extra: &str, cluster: &FromCluster) -> Result<String, Vec<String>> {
        render(
            &testing::image(role),
            &testing::metadata(extra),
            Cluster::Known(cluster),
        )
        .map(|secret| secret.expose().to_owned())
        .map_err(|failures| {
            failures
                .iter()
                .map(|f| format!("{f} [{}]", f.source.clone().unwrap_or_default()))
                .collect()
        })
    }

    fn cluster() -> FromCluster {
        FromCluster {
            auth_secret_seed: Some(Secret::new("seed-of-the-cluster")),
            config: BTreeMap::from([("MAX_HYPERVISOR_MTU".into(), serde_json::json!(8950))]),
        }
    }

    #[test]
    fn a_file_in_full() {
        let file = rendered(
            Role::Hypervisor,
            "[config]\nNODE_TUNING = true\n",
            &cluster(),
        )
        .unwrap();
        insta::assert_snapshot!(file, @r#"
        # Made by sf-firstboot on every boot, from the node's metadata and the cluster's database.
        # Changes here are lost: change the metadata. `sf-firstboot explain FIELD` says where a value comes from.
        SHAKENFIST_AUTH_SECRET_SEED="seed-of-the-cluster"
        SHAKENFIST_MAX_HYPERVISOR_MTU="8950"
        SHAKENFIST_NODE_IS_DATABASE_NODE="False"
        SHAKENFIST_NODE_MESH_IP="10.0.0.5"
        SHAKENFIST_NODE_NAME="node5.example.com"
        SHAKENFIST_NODE_TUNING="True"
        SHAKENFIST_STORAGE_PATH="/srv/shakenfist"
        SHAKENFIST_ZONE="sf-1"
        "#);
    }

    #[test]
    fn database_credentials_are_on_their_roles_alone_and_encoded() {
        let on = rendered(Role::DatabaseTier, "", &cluster()).unwrap();
        assert!(
            on.contains("SHAKENFIST_MARIADB_PASSWORD=\"p%40ss%2Fw%23rd\"\n"),
            "{on}"
        );
        assert!(on.contains("SHAKENFIST_NODE_IS_DATABASE_NODE=\"True\"\n"));
        let off = rendered(Role::Network, "", &cluster()).unwrap();
        assert!(!off.contains("MARIADB_PASSWORD") && !off.contains("p%40ss"));
        assert!(off.contains("SHAKENFIST_NODE_IS_DATABASE_NODE=\"False\"\n"));
    }

    #[test]
    fn what_is_wrong_is_all_said() {
        let mut cluster = FromCluster::default();
        cluster.config.insert("A_NOTE".into(), "say \"hi\"".into());
        cluster.config.insert("B_NOTE".into(), "a\nb".into());
        let failures = rendered(Role::Hypervisor, "", &cluster).unwrap_err();
        let all = failures.join("\n");
        for part in [
            "SF-CONFIG-MISSING: SHAKENFIST_AUTH_SECRET_SEED",
            "A_NOTE holds a quote [cluster-wide key A_NOTE",
            "B_NOTE holds a line break",
        ] {
            assert!(all.contains(part), "{part} not in {all}");
        }
    }

    #[test]
    fn a_secret_that_does_not_fit_is_not_shown() {
        let metadata = testing::metadata("[config]\nX_PASSWORD = 'hunter=2'\n");
        let mut image = testing::image(Role::Hypervisor);
        assert!(render(&image, &metadata, Cluster::Unknown).is_ok());
        // Some releases' own reader of the file dies of an equals sign.
        image.release.forbidden_in_config = "=".into();
        let failures = render(&image, &metadata, Cluster::Unknown).unwrap_err();
        assert_eq!(failures.len(), 1);
        assert!(!serde_json::to_string(&failures).unwrap().contains("hunter"));
    }

    #[test]
    fn before_the_database_was_asked_nothing_is_missing() {
        assert!(
            render(
                &testing::image(Role::Network),
                &testing::metadata(""),
                Cluster::Unknown
            )
            .is_ok()
        );
    }

    proptest! {
        #[test]
        fn a_value_is_refused_or_comes_back_unharmed(value in "\\PC{0,20}") {
            let mut cluster = cluster();
            cluster.config.insert("X".into(), value.clone().into());
            if let Ok(file) = rendered(Role::Hypervisor, "", &cluster) {
                let line = file.lines().find_map(|line| line.strip_prefix("SHAKENFIST_X=\"")).unwrap();
                prop_assert_eq!(line.strip_suffix('"').unwrap(), value);
            }
        }
    }
}
