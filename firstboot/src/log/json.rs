//! Shaken Fist's log contract: one JSON object a line, with keys that its
//! dashboards and parsers rely on.

use serde_json::{Map, Value, json};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::fields::Fields;

/// The layer that writes the lines.
pub(super) struct Json;

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        super::line(&render(event.metadata(), Fields::of(event)));
    }
}

pub(super) fn render(metadata: &Metadata<'_>, mut fields: Fields) -> String {
    let message = fields.message();
    let module = metadata.module_path().unwrap_or(metadata.target());
    let mut object = Map::new();
    // Last, so that no field of an event can pass for one of the contract.
    let null = |fields: &mut Fields, key| fields.0.remove(key).unwrap_or(Value::Null);
    let exception_class = null(&mut fields, "exception_class");
    let stack_trace = null(&mut fields, "stack_trace");
    object.append(&mut fields.0);
    let contract = json!({
        "logger_name": metadata.target().replace("::", "."),
        "ts": crate::clock::now(),
        "level": level(*metadata.level()),
        "thread_name": std::thread::current().name().unwrap_or("unnamed"),
        "pid": std::process::id(),
        "module": module.rsplit("::").next().unwrap_or(module),
        // Rust knows no function's name at run time, and the contract wants the key.
        "function": "",
        "message": message,
        "exception_class": exception_class,
        "stack_trace": stack_trace,
        "program": env!("CARGO_PKG_NAME"),
    });
    if let Value::Object(mut contract) = contract {
        object.append(&mut contract);
    }
    Value::Object(object).to_string()
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Capture(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let line = render(event.metadata(), Fields::of(event));
            self.0.lock().unwrap().push(line);
        }
    }

    fn logged(log: impl FnOnce()) -> Value {
        let capture = Capture::default();
        let subscriber = tracing_subscriber::registry().with(capture.clone());
        tracing::subscriber::with_default(subscriber, log);
        let lines = capture.0.lock().unwrap();
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains('\n'));
        serde_json::from_str(&lines[0]).unwrap()
    }

    #[test]
    fn every_field_of_the_contract_is_there() {
        let line = logged(|| {
            tracing::warn!(host = "db1", attempt = 3, "waiting\nfor it");
        });
        let keys: Vec<&str> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        for key in [
            "logger_name",
            "ts",
            "level",
            "thread_name",
            "pid",
            "module",
            "function",
            "message",
            "exception_class",
            "stack_trace",
            "program",
        ] {
            assert!(keys.contains(&key), "{key} is missing");
        }
        assert_eq!(line["logger_name"], "sf_firstboot.log.json.tests");
        assert_eq!(line["level"], "WARNING");
        assert_eq!(line["pid"], std::process::id());
        assert_eq!(line["module"], "tests");
        assert_eq!(line["function"], "");
        assert_eq!(line["message"], "waiting\nfor it");
        assert_eq!(line["program"], "sf-firstboot");
        assert!(line["exception_class"].is_null() && line["stack_trace"].is_null());
        assert_eq!(
            (&line["host"], &line["attempt"]),
            (&"db1".into(), &3.into())
        );
        let ts = line["ts"].as_str().unwrap();
        assert_eq!(ts.len(), "2026-01-01T00:00:00.000Z".len());
        assert!(
            ts.ends_with('Z') && &ts[10..11] == "T" && &ts[19..20] == ".",
            "{ts}"
        );
        assert!(line["thread_name"].is_string());
    }

    #[test]
    fn secrets_are_masked_by_key_and_in_urls() {
        let line = logged(|| {
            tracing::error!(
                system_key = "hunter2",
                AUTH_SECRET_SEED = 5,
                url = "mysql://sf:hunter2@db1/x",
                exception_class = "SF-X",
                "at mysql://sf:hunter2@db1/x"
            );
        });
        assert!(!line.to_string().contains("hunter2"), "{line}");
        assert_eq!(line["system_key"], "******");
        assert_eq!(line["auth_secret_seed"], "******");
        assert_eq!(line["url"], "mysql://sf:******@db1/x");
        assert_eq!(line["exception_class"], "SF-X");
        assert_eq!(line["level"], "ERROR");
    }
}
