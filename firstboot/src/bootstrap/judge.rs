//! What to do about an operation, from what is there. Pure, but for the time
//! that bcrypt takes.

use serde_json::Value;
use sf_contract::metadata::value::holds_no_secret;
use sf_contract::secret::{MASK, Secret, is_secret_key, mask_urls};

use super::observe::{Observed, StoredKey};
use super::operation::{Operation, plain_text, same_value};
use super::plan::SystemKey;
use super::secrets;
use crate::codes;
use crate::database::OperationRecord;
use crate::failure::Failure;

const SYSTEM_KEY: &str = "metadata field secrets.system_key";
const SYSTEM_KEY_NAME: &str = "metadata field secrets.system_key_name";

/// The verdict on one operation.
pub(super) enum Judgement {
    /// Its record is there. The note says what people changed since.
    Done(Option<String>),
    /// Nothing is there.
    Create,
    /// Its artefact is there, without a record, and agrees.
    Adopt,
    /// It contradicts, or is damaged.
    Refuse(Box<Failure>),
}

/// Judges `operation`. `server` names the database for texts.
pub(super) fn judge(
    operation: &Operation,
    record: Option<&OperationRecord>,
    observed: &Observed,
    server: &str,
) -> Judgement {
    match (operation, observed) {
        (Operation::ClusterSeries { series, .. }, Observed::Series(slots)) => {
            match (record, slots.as_slice()) {
                (Some(record), []) => damaged(record, "the cluster's series", server),
                (Some(_), _) => Judgement::Done(None),
                (None, []) => Judgement::Create,
                (None, slots) if slots.iter().any(|slot| slot.series == *series) => {
                    Judgement::Adopt
                }
                (None, slots) => {
                    let held: Vec<String> =
                        slots.iter().map(|slot| slot.series.to_string()).collect();
                    contradiction(
                        "image manifest, series",
                        format!(
                            "this image is of series {series}, and cluster_series at {server} \
                             holds {} without a record of who bootstrapped it",
                            held.join(" and ")
                        ),
                        format!("Boot an image of series {}.", held.join(" or ")),
                    )
                }
            }
        }
        (
            Operation::Namespace,
            Observed::Namespace {
                row,
                attributes,
                state,
            },
        ) => namespace(record, *row, *attributes, state.as_deref(), server),
        (Operation::Key(key), Observed::Key(stored)) => {
            judge_key(key, record, stored.as_ref(), server)
        }
        (Operation::Config { key, value }, Observed::Config(found)) => {
            config(key, value, record, found.as_ref(), server)
        }
        (Operation::AuthSecretSeed { given }, Observed::Seed(found)) => {
            seed(given.as_ref(), record, found.as_ref(), server)
        }
        (Operation::AuthSecretSeed { .. }, Observed::UnusableSeed) => unusable_seed(record, server),
        _ => Judgement::Refuse(Box::new(Failure::new(
            &codes::INTERNAL,
            format!("{} was compared with something else", operation.name()),
        ))),
    }
}

fn namespace(
    record: Option<&OperationRecord>,
    row: bool,
    attributes: bool,
    state: Option<&str>,
    server: &str,
) -> Judgement {
    let deleted = state.is_some_and(|state| state.contains("deleted"));
    match record {
        Some(record) if !row || deleted => damaged(record, "the namespace system", server),
        Some(_) => Judgement::Done(None),
        None if deleted => contradiction(
            "table object_states",
            format!(
                "the namespace system in the database at {server} is in state {}",
                state.unwrap_or_default()
            ),
            "Restore the namespace with Shaken Fist's own tools, or use another database."
                .to_owned(),
        ),
        None if row && attributes && state.is_some() => Judgement::Adopt,
        // Half a namespace is what a deployer without transactions leaves; the
        // rows that are there stay as they are. What a whole one trusts is no
        // contradiction: people change it with upstream's own tools.
        None => Judgement::Create,
    }
}

fn judge_key(
    key: &SystemKey,
    record: Option<&OperationRecord>,
    stored: Option<&StoredKey>,
    server: &str,
) -> Judgement {
    let name = &key.name;
    let deleted = |key: &StoredKey| {
        key.state
            .as_deref()
            .is_some_and(|state| state.contains("deleted"))
    };
    let hash = stored.and_then(|key| key.stored.as_deref());
    match (record, stored) {
        (Some(_), None) => Judgement::Done(Some(format!("key {name} was removed since"))),
        (Some(_), Some(stored)) if deleted(stored) => {
            Judgement::Done(Some(format!("key {name} was deleted since")))
        }
        (Some(record), Some(stored)) => match hash {
            Some(hash) if secrets::verify(&key.secret, hash) => Judgement::Done(
                stored
                    .expired
                    .map(|expiry| format!("key {name} expired at {}", time(expiry))),
            ),
            Some(hash) if let Some(cost) = secrets::excessive_cost(hash) => Judgement::Done(Some(
                format!("key {name} has a hash of cost {cost} since, which is not tried"),
            )),
            Some(hash) if secrets::stored_key(hash) == record.fingerprint => contradiction(
                SYSTEM_KEY,
                format!(
                    "secrets.system_key is not the secret of key {name} of namespace system in \
                     the database at {server}, {}",
                    record.by()
                ),
                format!(
                    "Write the secret that the cluster has into secrets.system_key, or change the \
                     key {name} with Shaken Fist's own tools first (sf-client namespace)."
                ),
            ),
            _ => Judgement::Done(Some(format!("key {name} was changed since"))),
        },
        (None, None) => Judgement::Create,
        (None, Some(stored)) if !deleted(stored) => match hash {
            None => half_a_key(name, server),
            Some(hash) if let Some(cost) = secrets::excessive_cost(hash) => {
                too_costly(name, cost, server)
            }
            Some(hash) if secrets::verify(&key.secret, hash) => match stored.expired {
                None => Judgement::Adopt,
                Some(expiry) => contradiction(
                    SYSTEM_KEY_NAME,
                    format!(
                        "key {name} of namespace system in the database at {server}, which \
                         another deployer made, expired at {}: nobody could log in with it",
                        time(expiry)
                    ),
                    format!("Give the key another name than {name}."),
                ),
            },
            Some(_) => contradiction(
                SYSTEM_KEY,
                format!(
                    "secrets.system_key is not the secret of key {name} of namespace system in \
                     the database at {server}, which another deployer made"
                ),
                format!(
                    "Write the secret that the cluster has into secrets.system_key, or give the \
                     key another name than {name}."
                ),
            ),
        },
        (None, Some(_)) => contradiction(
            SYSTEM_KEY_NAME,
            format!(
                "key {name} of namespace system in the database at {server} is deleted, and \
                 its name cannot be used again"
            ),
            format!("Give the key another name than {name}."),
        ),
    }
}

/// A hash that nobody can wait for.
fn too_costly(name: &str, cost: u32, server: &str) -> Judgement {
    contradiction(
        SYSTEM_KEY_NAME,
        format!(
            "key {name} of namespace system in the database at {server}, which another deployer \
             made, has a bcrypt hash of cost {cost}: to compare secrets.system_key with it would \
             take hours"
        ),
        format!("Give the key another name than {name}."),
    )
}

/// A deployer without transactions stopped before it had stored the secret. What
/// secret it had in mind is not known, so the agent does not choose one for it.
fn half_a_key(name: &str, server: &str) -> Judgement {
    contradiction(
        SYSTEM_KEY_NAME,
        format!(
            "key {name} of namespace system in the database at {server} has no row in \
             namespace_key_attributes: another deployer began to make it, and no secret opens it"
        ),
        // A name has no character that SQL reads in its own way.
        format!(
            "Give the key another name than {name}, or remove the half that is there, in the \
             database of database.dsn: USE `DATABASE`; DELETE k, s FROM namespace_keys k LEFT JOIN object_states s ON s.object_type = 'NAMESPACE_KEY' \
             AND REPLACE(s.object_uuid, '-', '') = k.uuid WHERE k.namespace = 'system' AND \
             k.name = '{name}';"
        ),
    )
}

fn config(
    key: &str,
    wanted: &Value,
    record: Option<&OperationRecord>,
    found: Option<&Value>,
    server: &str,
) -> Judgement {
    match (record, found) {
        (None, None) => Judgement::Create,
        (None, Some(found)) if same_value(wanted, found) => Judgement::Adopt,
        (Some(_), None) => Judgement::Done(Some(format!("{key} was removed since"))),
        (Some(_), Some(found)) if same_value(wanted, found) => Judgement::Done(None),
        (Some(record), Some(found))
            if record.fingerprint != secrets::WITHHELD
                && record.fingerprint == secrets::setting(key, wanted) =>
        {
            Judgement::Done(Some(format!(
                "{key} was changed since, to {}",
                show(key, found)
            )))
        }
        (record, Some(found)) => contradiction(
            format!("metadata field cluster.config.{key}"),
            format!(
                "cluster.config.{key} is {} in the metadata and {} in the database at {server}, {}",
                show(key, wanted),
                show(key, found),
                record.map_or_else(
                    || "which another deployer wrote".to_owned(),
                    OperationRecord::by
                )
            ),
            format!(
                "Make the metadata agree, or change the cluster on purpose: \
                 sf-ctl set-config {key} VALUE."
            ),
        ),
    }
}

fn seed(
    given: Option<&Secret>,
    record: Option<&OperationRecord>,
    found: Option<&Secret>,
    server: &str,
) -> Judgement {
    match (record, found) {
        (Some(record), None) => damaged(record, "AUTH_SECRET_SEED in cluster_config", server),
        (record, Some(found)) if given.is_some_and(|given| given != found) => contradiction(
            "metadata field secrets.auth_secret_seed",
            format!(
                "secrets.auth_secret_seed differs from the AUTH_SECRET_SEED in the database at \
                 {server}, {}",
                record.map_or_else(
                    || "which another deployer wrote".to_owned(),
                    OperationRecord::by
                )
            ),
            "Leave secrets.auth_secret_seed out of the metadata: the cluster has its seed. \
             Changing it would void every token."
                .to_owned(),
        ),
        (Some(_), Some(_)) => Judgement::Done(None),
        (None, Some(_)) => Judgement::Adopt,
        (None, None) => Judgement::Create,
    }
}

/// What another deployer wrote there is not a seed, and what this one wrote is not
/// there any more.
fn unusable_seed(record: Option<&OperationRecord>, server: &str) -> Judgement {
    match record {
        Some(record) => damaged(record, "AUTH_SECRET_SEED in cluster_config", server),
        None => contradiction(
            "table cluster_config",
            format!(
                "AUTH_SECRET_SEED in the database at {server} is empty or no text, and was not \
                 written by an agent"
            ),
            "If the cluster has a seed, write it there: sf-ctl set-config AUTH_SECRET_SEED VALUE. \
             If it has none: DELETE FROM cluster_config WHERE key_name = 'AUTH_SECRET_SEED';"
                .to_owned(),
        ),
    }
}

/// A setting for a text, masked where it may hold a password.
fn show(key: &str, value: &Value) -> String {
    let text = plain_text(value);
    let masked = mask_urls(&text);
    // What is masked at its place may be shown around it; what is not, not at all.
    // That goes for one word: another one may be the rest of a password.
    let ends_word = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    let told = holds_no_secret(&text) || (masked != text && !text.contains(ends_word));
    if is_secret_key(key) || !told {
        MASK.to_owned()
    } else {
        format!("\"{masked}\"")
    }
}

/// UNIX seconds as a date. Times beyond the range of the calendar do not occur;
/// 1970 stands for them.
fn time(seconds: f64) -> jiff::Timestamp {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole seconds are enough to name a time"
    )]
    let seconds = seconds as i64;
    jiff::Timestamp::from_second(seconds).unwrap_or_default()
}

/// `source`: where the value stands that would have to change.
fn contradiction(source: impl Into<String>, what: String, remedy: String) -> Judgement {
    Judgement::Refuse(Box::new(
        Failure::new(&codes::BOOTSTRAP_CONTRADICTION, what)
            .source(source.into())
            .remedy(remedy),
    ))
}

fn damaged(record: &OperationRecord, what: &str, server: &str) -> Judgement {
    Judgement::Refuse(Box::new(Failure::new(
        &codes::BOOTSTRAP_DAMAGED,
        record.says_gone(what, server),
    )))
}

#[cfg(test)]
mod tests;
