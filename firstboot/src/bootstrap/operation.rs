//! The five kinds of operation.

use serde_json::Value;
use sf_contract::secret::Secret;
use sf_contract::series::Series;

use super::plan::SystemKey;

/// One thing to establish. `Debug` shows no secret: they are of type [`Secret`].
#[derive(Clone, Debug)]
pub(super) enum Operation {
    /// The cluster's first recorded version.
    ClusterSeries {
        series: Series,
        predecessor: Option<Series>,
        release: String,
    },
    /// The namespace that administers the others.
    Namespace,
    /// A key of that namespace.
    Key(SystemKey),
    /// A cluster-wide setting.
    Config { key: String, value: Value },
    /// What signs API tokens.
    AuthSecretSeed { given: Option<Secret> },
}

impl Operation {
    /// The record's name.
    pub(super) fn name(&self) -> String {
        match self {
            Self::ClusterSeries { .. } => SERIES_OPERATION.to_owned(),
            Self::Namespace => "namespace/system".to_owned(),
            Self::Key(key) => format!("key/system/{}", key.name),
            Self::Config { key, .. } => format!("config/{key}"),
            Self::AuthSecretSeed { .. } => SEED_OPERATION.to_owned(),
        }
    }
}

/// The record of the operation that comes first.
pub(crate) const SERIES_OPERATION: &str = "cluster-series";

/// The record of the operation that comes last.
pub(crate) const SEED_OPERATION: &str = "auth-secret-seed";

/// A setting's value as text. Upstream's `set-config` stores what looks like a
/// number as a number, so `"8950"` and `8950` are the same value.
pub(super) fn plain_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Do two settings mean the same?
pub(super) fn same_value(one: &Value, other: &Value) -> bool {
    one == other || plain_text(one) == plain_text(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_their_digits_are_the_same_setting() {
        assert!(same_value(&json!("8950"), &json!(8950)));
        assert!(same_value(&json!("true"), &json!(true)));
        assert!(!same_value(&json!("8950"), &json!(1500)));
        assert!(!same_value(&json!("a"), &json!("b")));
    }
}
