//! An event's fields as JSON values, secrets masked by the name of their key.

use std::fmt::Debug;

use serde_json::{Map, Value};
use sf_contract::secret::{MASK, is_secret_key, mask_urls};
use tracing::field::{Field, Visit};

/// The fields of one event, keys in lower case, as the log contract has them.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    pub(super) fn of(event: &tracing::Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    /// Takes the message out.
    pub(super) fn message(&mut self) -> String {
        match self.0.remove("message") {
            Some(Value::String(message)) => message,
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        let key = field.name().to_ascii_lowercase();
        let value = if is_secret_key(&key) {
            Value::String(MASK.into())
        } else if let Value::String(text) = value {
            Value::String(mask_urls(&text))
        } else {
            value
        };
        self.0.insert(key, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Value::String(value.to_string()));
    }
}
