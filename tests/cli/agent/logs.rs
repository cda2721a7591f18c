//! Shaken Fist's log contract, field by field, on every line that whole runs
//! write; and the metrics that they leave.

use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

use super::node::{Node, Ran};
use super::server::Server;

/// Holds one line against the contract; gives its level.
fn keeps_the_contract(text: &str) -> String {
    let line: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let object = line
        .as_object()
        .unwrap_or_else(|| panic!("no object: {text}"));
    for key in object.keys() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(key.chars().all(plain), "{key} in {text}");
    }
    let string = |key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{key} is no string in {text}"))
    };
    for key in ["thread_name", "module", "message"] {
        assert!(!string(key).is_empty(), "{key} in {text}");
    }
    string("function");
    assert!(string("logger_name").starts_with("sf_firstboot"), "{text}");
    assert_eq!(string("program"), "sf-firstboot");
    let form: String = string("ts")
        .chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect();
    assert_eq!(form, "9999-99-99T99:99:99.999Z", "{text}");
    assert!(object["pid"].as_u64().is_some_and(|pid| pid > 1), "{text}");
    assert!(
        object.contains_key("stack_trace") && object["stack_trace"].is_null(),
        "{text}"
    );
    let level = string("level");
    match level {
        // A failure has its code where other daemons have their exception.
        "ERROR" => assert!(
            object["exception_class"].is_null() || string("exception_class").starts_with("SF-"),
            "{text}"
        ),
        "DEBUG" | "INFO" | "WARNING" => assert!(object["exception_class"].is_null(), "{text}"),
        other => panic!("level {other} in {text}"),
    }
    level.to_owned()
}

fn levels(ran: &Ran) -> Vec<String> {
    let levels: Vec<String> = ran.stderr.lines().map(keeps_the_contract).collect();
    assert!(!levels.is_empty());
    levels
}

fn metrics(node: &Node) -> String {
    let path = node.root().join("run/sf-firstboot/sf-firstboot.prom");
    assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o644);
    node.read("run/sf-firstboot/sf-firstboot.prom")
}

#[test]
fn every_line_keeps_the_contract_and_metrics_follow() {
    let mut server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, "");

    let well = node.agent(&["--log-level", "debug", "run"]);
    assert_eq!(well.code, 0, "{}", well.stderr);
    let said = levels(&well);
    assert!(
        said.contains(&"DEBUG".into()) && !said.contains(&"ERROR".into()),
        "{said:?}"
    );
    let text = metrics(&node);
    for line in [
        "sf_firstboot_state{state=\"started\"} 1",
        "sf_firstboot_attempts 1",
        "sf_firstboot_exit_code 0",
    ] {
        assert!(text.lines().any(|there| there == line), "{line} in {text}");
    }
    for phase in [
        "discover",
        "preflight",
        "bootstrap",
        "gate",
        "configure",
        "start",
    ] {
        let sample = format!("sf_firstboot_phase_seconds{{phase=\"{phase}\"}} ");
        assert!(text.contains(&sample), "{sample} in {text}");
    }
    assert!(!text.contains("sf_firstboot_failure"), "{text}");

    // The database is down, and then the metadata is wrong as well.
    server.stop();
    node.edit("wait = \"20s\"", "wait = \"0s\"");
    let down = node.agent(&["run"]);
    assert_eq!(down.code, 75, "{}", down.stderr);
    assert!(levels(&down).contains(&"ERROR".into()));
    let text = metrics(&node);
    assert!(
        text.contains("sf_firstboot_failure{code=\"SF-DB-REFUSED\",phase="),
        "{text}"
    );
    assert!(text.contains("sf_firstboot_attempts 2\n"), "{text}");
    assert!(text.contains("sf_firstboot_exit_code 75\n"), "{text}");
    node.edit("wait = \"0s\"", "wait = \"later\"");
    let wrong = node.agent(&["run"]);
    assert_eq!(wrong.code, 78, "{}", wrong.stderr);
    assert!(levels(&wrong).contains(&"ERROR".into()));
    assert!(metrics(&node).contains("{code=\"SF-META-INVALID\""));
}
