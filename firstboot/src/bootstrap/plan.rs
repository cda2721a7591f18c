//! From the metadata to a plan: what may be bootstrapped at all.

use std::collections::BTreeMap;

use sf_contract::secret::Secret;
use sf_contract::series::Series;

use super::operation::Operation;
use crate::codes;
use crate::database::SEED_KEY;
use crate::failure::Failure;
use crate::gate::Image;

/// bcrypt reads no more than this many bytes; upstream refuses longer keys.
const LONGEST_KEY: usize = 72;

/// What the plan is made from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Series of the image's release.
    pub series: Series,
    /// The series that may run beside it.
    pub predecessor: Option<Series>,
    /// Shaken Fist's version.
    pub release: String,
    /// `secrets.auth_secret_seed`; generated when absent.
    pub auth_secret_seed: Option<Secret>,
    /// `secrets.system_key`; without it no key is made.
    pub system_key: Option<SystemKey>,
    /// `[cluster.config]`, keys without the `SHAKENFIST_` prefix.
    pub config: BTreeMap<String, serde_json::Value>,
    /// Keys that the release allows cluster-wide.
    pub whitelist: Vec<String>,
}

/// The key of the namespace `system` that the operator logs in with.
#[derive(Clone, Debug)]
pub struct SystemKey {
    /// Its name, part of the operation's name.
    pub name: String,
    /// What is typed to log in.
    pub secret: Secret,
}

/// Who does the work, for the records.
#[derive(Clone, Debug)]
pub struct Author {
    /// FQDN of the node.
    pub fqdn: String,
    /// Version of this program.
    pub agent_version: String,
    /// Version of the node's image.
    pub image_version: String,
}

/// Operations in the order in which they are done.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) operations: Vec<Operation>,
    pub(super) image: Image,
}

impl Plan {
    /// Checks the inputs and orders the operations. All problems come at once.
    pub fn new(inputs: Inputs) -> Result<Self, Vec<Failure>> {
        let mut problems = Vec::new();
        if let Some(seed) = &inputs.auth_secret_seed {
            problems.extend(check_seed(seed));
        }
        if let Some(key) = &inputs.system_key {
            problems.extend(check_key(key));
        }
        problems.extend(
            inputs
                .config
                .iter()
                .filter_map(|(key, value)| check_config(key, value, &inputs.whitelist)),
        );
        if !problems.is_empty() {
            return Err(problems);
        }
        let image = Image {
            series: inputs.series,
            predecessor: inputs.predecessor,
            release: inputs.release.clone(),
            image_version: String::new(),
        };
        let mut operations = vec![
            Operation::ClusterSeries {
                series: inputs.series,
                predecessor: inputs.predecessor,
                release: inputs.release,
            },
            Operation::Namespace,
        ];
        operations.extend(inputs.system_key.map(Operation::Key));
        operations.extend(
            inputs
                .config
                .into_iter()
                .map(|(key, value)| Operation::Config { key, value }),
        );
        // Last: its record says that the whole plan is done.
        operations.push(Operation::AuthSecretSeed {
            given: inputs.auth_secret_seed,
        });
        Ok(Self { operations, image })
    }

    /// Names of the operations, in their order.
    pub fn names(&self) -> Vec<String> {
        self.operations.iter().map(Operation::name).collect()
    }
}

fn check_seed(seed: &Secret) -> Option<Failure> {
    let text = seed.expose();
    let what = if text.is_empty() {
        "secrets.auth_secret_seed is empty"
    } else if text.len() > 255 {
        "secrets.auth_secret_seed is longer than 255 characters"
    } else if let Some(bad) = text.chars().find(|c| !seed_character(*c)) {
        return Some(Failure::new(
            &codes::BOOTSTRAP_SEED,
            format!(
                "secrets.auth_secret_seed has {} which Shaken Fist's configuration file cannot hold",
                describe(bad)
            ),
        ));
    } else {
        return None;
    };
    Some(Failure::new(&codes::BOOTSTRAP_SEED, what))
}

/// `/etc/sf/config` is read by systemd and by Shaken Fist, which unquote
/// differently; and release 0.7 splits lines at `=`.
fn seed_character(character: char) -> bool {
    character.is_ascii_graphic() && !matches!(character, '=' | '"' | '\'' | '`' | '\\' | '$' | '#')
}

/// The kind of a character, never the character: it is part of a secret.
fn describe(character: char) -> &'static str {
    match character {
        '=' => "an equals sign,",
        '"' | '\'' | '`' => "a quote,",
        '\\' | '$' | '#' => "a backslash, dollar or hash sign,",
        c if c.is_whitespace() || c.is_control() => "a space, line break or control character,",
        _ => "a character outside ASCII,",
    }
}

fn check_key(key: &SystemKey) -> Option<Failure> {
    let secret = key.secret.expose();
    let name_fits = !key.name.is_empty()
        && key.name.len() <= 128
        && key
            .name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let what = if !name_fits {
        "the system key's name is not 1 to 128 letters, digits, dashes, dots and underscores"
            .to_owned()
    } else if secret.is_empty() {
        "secrets.system_key is empty".to_owned()
    } else if secret.len() > LONGEST_KEY {
        format!(
            "secrets.system_key has {} bytes, and bcrypt reads only the first {LONGEST_KEY}",
            secret.len()
        )
    } else if secret.starts_with("sfk_") {
        "secrets.system_key starts with sfk_, which Shaken Fist's API refuses".to_owned()
    } else if secret.chars().any(char::is_control) {
        "secrets.system_key has a line break or another control character".to_owned()
    } else {
        return None;
    };
    Some(Failure::new(&codes::BOOTSTRAP_KEY, what))
}

fn check_config(key: &str, value: &serde_json::Value, whitelist: &[String]) -> Option<Failure> {
    let field = format!("cluster.config.{key}");
    let what = if key == SEED_KEY {
        format!("{field} belongs to secrets.auth_secret_seed")
    } else if !whitelist.iter().any(|allowed| allowed == key) {
        let near = sf_contract::document::did_you_mean(key, whitelist.iter().map(String::as_str))
            .map(|near| format!("; did you mean {near}?"))
            .unwrap_or_default();
        let failure = Failure::new(
            &codes::BOOTSTRAP_CONFIG,
            format!("{field} may not be set for the whole cluster{near}"),
        );
        return Some(failure.remedy(format!(
            "Move {key} to [config] of the nodes. The release allows cluster-wide: {}.",
            whitelist.join(", ")
        )));
    } else if key.len() > 128 {
        format!("{field} is longer than 128 characters")
    } else if value.is_null() || value.is_array() || value.is_object() {
        format!("{field} is not a string, a number or a boolean")
    } else {
        return None;
    };
    Some(Failure::new(&codes::BOOTSTRAP_CONFIG, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inputs() -> Inputs {
        Inputs {
            series: "0.7".parse().unwrap(),
            predecessor: None,
            release: "0.7.2".into(),
            auth_secret_seed: None,
            system_key: None,
            config: BTreeMap::new(),
            whitelist: vec!["DNS_SERVER".into(), "MAX_HYPERVISOR_MTU".into()],
        }
    }

    fn codes_of(inputs: Inputs) -> Vec<&'static str> {
        match Plan::new(inputs) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|failure| failure.code.id).collect(),
        }
    }

    #[test]
    fn the_seed_comes_last() {
        let mut inputs = inputs();
        inputs.system_key = Some(SystemKey {
            name: "admin".into(),
            secret: "s".to_owned().into(),
        });
        inputs.config.insert("DNS_SERVER".into(), json!("9.9.9.9"));
        assert_eq!(
            Plan::new(inputs).unwrap().names(),
            [
                "cluster-series",
                "namespace/system",
                "key/system/admin",
                "config/DNS_SERVER",
                "auth-secret-seed"
            ]
        );
    }

    #[test]
    fn keys_that_shaken_fist_would_not_take_are_refused() {
        let key = |name: &str, secret: &str| {
            let mut inputs = inputs();
            inputs.system_key = Some(SystemKey {
                name: name.into(),
                secret: secret.to_owned().into(),
            });
            inputs
        };
        for (name, secret) in [
            ("admin", ""),
            ("admin", "sfk_abc"),
            ("admin", "a\nb"),
            ("admin", &"x".repeat(73)),
            // 37 characters, 74 bytes.
            ("admin", &"é".repeat(37)),
            ("", "good"),
            ("a/b", "good"),
        ] {
            assert_eq!(
                codes_of(key(name, secret)),
                ["SF-BOOTSTRAP-KEY"],
                "{name} {secret}"
            );
        }
        assert!(codes_of(key("admin", &"x".repeat(72))).is_empty());
    }

    #[test]
    fn seeds_that_the_configuration_cannot_hold_are_refused_without_showing_them() {
        for seed in [
            "",
            "hunter2=",
            "hunter2\"",
            "hunter 2",
            "hunter2\\",
            "hunter2é",
            "hunter2\n",
        ] {
            let mut inputs = inputs();
            inputs.auth_secret_seed = Some(seed.to_owned().into());
            let problems = Plan::new(inputs).unwrap_err();
            assert_eq!(problems[0].code.id, "SF-BOOTSTRAP-SEED", "{seed:?}");
            assert!(!format!("{problems:?}").contains("hunter"), "{problems:?}");
        }
        let mut inputs = inputs();
        inputs.auth_secret_seed = Some("abcDEF019.-_~!*:/+@".to_owned().into());
        assert!(codes_of(inputs).is_empty());
    }

    #[test]
    fn only_whitelisted_scalars_become_cluster_wide() {
        let mut inputs = inputs();
        inputs.config.insert("NODE_NAME".into(), json!("x"));
        inputs.config.insert("DNS_SERVERS".into(), json!("x"));
        inputs.config.insert("AUTH_SECRET_SEED".into(), json!("x"));
        inputs.config.insert("DNS_SERVER".into(), json!(["x"]));
        inputs
            .config
            .insert("MAX_HYPERVISOR_MTU".into(), json!(8950));
        let problems = Plan::new(inputs).unwrap_err();
        assert_eq!(problems.len(), 4);
        assert!(problems.iter().all(|f| f.code.id == "SF-BOOTSTRAP-CONFIG"));
        let near = problems
            .iter()
            .find(|f| f.what.contains("DNS_SERVERS"))
            .unwrap();
        assert!(
            near.what.ends_with("did you mean DNS_SERVER?"),
            "{}",
            near.what
        );
    }
}
