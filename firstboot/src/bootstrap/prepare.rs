//! From a verdict to statements: the record first, then what is missing.

use super::judge::Judgement;
use super::observe::Observed;
use super::operation::Operation;
use super::plan::Author;
use super::secrets::{self, NewKey, WITHHELD};
use crate::database::{Arg, SEED_KEY, Statement};
use crate::failure::Failure;
use sf_contract::secret::Secret;
use sf_contract::series::Series;

/// Random values that all attempts at one operation share, so that an attempt
/// after a lost answer would write the same again.
#[derive(Default)]
pub(super) struct Material {
    seed: Option<Secret>,
    key: Option<NewKey>,
}

/// One operation's transaction.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Insertion of the record, always the first statement.
    pub(super) record: Statement,
    /// Insertion of the artefact, or of what is missing of it; empty when it is
    /// adopted whole.
    pub(super) artefact: Vec<Statement>,
    /// `created` or `adopted`.
    pub(super) outcome: &'static str,
}

/// Makes the statements for a verdict that calls for any.
pub(super) fn prepare(
    operation: &Operation,
    judgement: &Judgement,
    observed: &Observed,
    author: &Author,
    now: f64,
    material: &mut Material,
) -> Result<Option<Prepared>, Failure> {
    let outcome = match judgement {
        Judgement::Create => "created",
        Judgement::Adopt => "adopted",
        Judgement::Done(_) | Judgement::Refuse(_) => return Ok(None),
    };
    let create = outcome == "created";
    let mut artefact = Vec::new();
    let fingerprint = match (operation, observed) {
        (
            Operation::ClusterSeries {
                series,
                predecessor,
                release,
            },
            _,
        ) => {
            if create {
                artefact.push(cluster_series(*series, *predecessor, release, author, now));
            }
            secrets::plain(&series.to_string())
        }
        (
            Operation::Namespace,
            Observed::Namespace {
                row,
                attributes,
                state,
            },
        ) => {
            if create {
                artefact = namespace(*row, *attributes, state.is_some(), now);
            }
            secrets::plain("system")
        }
        (Operation::Key(key), Observed::Key(stored)) => {
            match stored.as_ref().and_then(|key| key.stored.as_ref()) {
                Some(hash) if !create => {
                    // The last that another deployer writes of a key.
                    if let Some(key) = stored.as_ref().filter(|key| key.state.is_none()) {
                        artefact.push(object_state(KEY_DOING, "NAMESPACE_KEY", &key.dashed, now));
                    }
                    secrets::stored_key(hash)
                }
                _ => {
                    let new = match &material.key {
                        Some(new) => new.clone(),
                        None => material.key.insert(NewKey::new(&key.secret)?).clone(),
                    };
                    let fingerprint = secrets::stored_key(&new.stored);
                    artefact = new_key(&key.name, &new, now);
                    fingerprint
                }
            }
        }
        (Operation::Config { key, value }, _) => {
            if create {
                artefact.push(cluster_config(key, Arg::Text(value.to_string()), now));
            }
            secrets::setting(key, value)
        }
        (Operation::AuthSecretSeed { given }, _) => {
            if create {
                let seed = match (given, &material.seed) {
                    (Some(seed), _) | (None, Some(seed)) => seed.clone(),
                    (None, None) => material.seed.insert(secrets::new_seed()?).clone(),
                };
                let json = serde_json::Value::from(seed.expose()).to_string();
                artefact.push(cluster_config(
                    SEED_KEY,
                    Arg::Secret(Secret::new(json)),
                    now,
                ));
            }
            match &material.seed {
                Some(seed) if create && given.is_none() => secrets::generated_seed(seed)?,
                _ => WITHHELD.to_owned(),
            }
        }
        _ => String::new(),
    };
    Ok(Some(Prepared {
        record: Statement {
            doing: "recording the operation",
            sql: "INSERT INTO bootstrap_operations (name, outcome, fingerprint, completed_at, \
                  completed_by, agent_version, image_version) VALUES (?, ?, ?, ?, ?, ?, ?)",
            args: vec![
                operation.name().into(),
                outcome.into(),
                fingerprint.into(),
                Arg::Real(now),
                author.fqdn.as_str().into(),
                author.agent_version.as_str().into(),
                author.image_version.as_str().into(),
            ],
        },
        artefact,
        outcome,
    }))
}

fn cluster_series(
    series: Series,
    predecessor: Option<Series>,
    release: &str,
    author: &Author,
    now: f64,
) -> Statement {
    Statement {
        doing: "recording the cluster's series",
        sql: "INSERT INTO cluster_series (slot, series, predecessor, release_version, \
              introduced_at, introduced_by) VALUES (0, ?, ?, ?, ?, ?)",
        args: vec![
            series.to_string().into(),
            predecessor.map(|series| series.to_string()).into(),
            release.into(),
            Arg::Real(now),
            author.fqdn.as_str().into(),
        ],
    }
}

/// The rows of the namespace that are missing, in upstream's formats.
fn namespace(row: bool, attributes: bool, state: bool, now: f64) -> Vec<Statement> {
    const DOING: &str = "making the namespace system";
    let mut statements = Vec::new();
    if !row {
        statements.push(Statement {
            doing: DOING,
            sql: "INSERT INTO namespaces (name, version) VALUES ('system', 7)",
            args: Vec::new(),
        });
    }
    if !attributes {
        statements.push(Statement {
            doing: DOING,
            sql: "INSERT INTO namespace_attributes (name, `keys`, trust) \
                  VALUES ('system', '{\"nonced_keys\": {}}', '[\"system\"]')",
            args: Vec::new(),
        });
    }
    if !state {
        statements.push(object_state(DOING, "NAMESPACE", "system", now));
    }
    statements
}

const KEY_DOING: &str = "making the system key";

fn new_key(name: &str, key: &NewKey, now: f64) -> Vec<Statement> {
    const DOING: &str = KEY_DOING;
    vec![
        Statement {
            doing: DOING,
            sql: "INSERT INTO namespace_keys (uuid, namespace, name, version) \
                  VALUES (?, 'system', ?, 1)",
            args: vec![key.uuid.as_str().into(), name.into()],
        },
        Statement {
            doing: DOING,
            sql: "INSERT INTO namespace_key_attributes \
                  (uuid, `key`, nonce, expiry, scopes, provenance) \
                  VALUES (?, ?, ?, NULL, NULL, NULL)",
            args: vec![
                key.uuid.as_str().into(),
                Arg::Secret(Secret::new(key.stored.as_str())),
                key.nonce.as_str().into(),
            ],
        },
        object_state(DOING, "NAMESPACE_KEY", &key.dashed(), now),
    ]
}

fn object_state(doing: &'static str, kind: &str, uuid: &str, now: f64) -> Statement {
    Statement {
        doing,
        sql: "INSERT INTO object_states \
              (object_type, object_uuid, state_value, update_time, message) \
              VALUES (?, ?, 'created', ?, NULL)",
        args: vec![kind.into(), uuid.into(), Arg::Real(now)],
    }
}

fn cluster_config(key: &str, json: Arg, now: f64) -> Statement {
    Statement {
        doing: "writing the cluster's configuration",
        sql: "INSERT INTO cluster_config (key_name, value_json, updated_at) VALUES (?, ?, ?)",
        args: vec![key.into(), json, Arg::Real(now)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author() -> Author {
        Author {
            fqdn: "n".into(),
            agent_version: "1".into(),
            image_version: "2".into(),
        }
    }

    fn seed_plan(given: Option<&str>, judgement: &Judgement, material: &mut Material) -> Prepared {
        let operation = Operation::AuthSecretSeed {
            given: given.map(Secret::new),
        };
        prepare(
            &operation,
            judgement,
            &Observed::Seed(None),
            &author(),
            1.0,
            material,
        )
        .unwrap()
        .unwrap()
    }

    fn text(statement: &Statement, index: usize) -> String {
        match &statement.args[index] {
            Arg::Text(text) => text.clone(),
            Arg::Secret(secret) => secret.expose().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_generated_seed_is_the_same_in_every_attempt_and_never_shown() {
        let mut material = Material::default();
        let one = seed_plan(None, &Judgement::Create, &mut material);
        let two = seed_plan(None, &Judgement::Create, &mut material);
        assert_eq!(text(&one.artefact[0], 1), text(&two.artefact[0], 1));
        assert!(text(&one.record, 2).starts_with("hmac-sha256:"));
        let seed = text(&one.artefact[0], 1);
        assert!(!format!("{one:?}").contains(seed.trim_matches('"')));
    }

    #[test]
    fn a_seed_from_people_has_no_fingerprint() {
        let prepared = seed_plan(
            Some("hunter2"),
            &Judgement::Create,
            &mut Material::default(),
        );
        assert_eq!(text(&prepared.record, 2), "withheld");
        assert_eq!(text(&prepared.artefact[0], 1), "\"hunter2\"");
        let adopted = seed_plan(None, &Judgement::Adopt, &mut Material::default());
        assert_eq!(text(&adopted.record, 2), "withheld");
        assert!(adopted.artefact.is_empty());
    }

    #[test]
    fn only_missing_rows_of_a_namespace_are_made() {
        let tables = |row, attributes, state| {
            namespace(row, attributes, state, 1.0)
                .iter()
                .map(|s| s.sql.split(' ').nth(2).unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            tables(false, false, false),
            ["namespaces", "namespace_attributes", "object_states"]
        );
        assert_eq!(tables(true, false, true), ["namespace_attributes"]);
    }
}
