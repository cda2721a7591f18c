//! Shaken Fist's log contract, field by field, on every line that whole runs
//! write; and the metrics that they leave.

use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;
use sf_command::{Cmd, Sink};

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
    assert_eq!(string("function"), "", "{text}");
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

/// The one line of level ERROR, each line being held against the contract; it
/// has all that an operator is told.
fn failure(stderr: &str, code: &str) -> Value {
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| keeps_the_contract(line) == "ERROR")
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    let line: Value = serde_json::from_str(errors[0]).unwrap();
    assert_eq!(line["code"], code, "{line}");
    assert_eq!(line["exception_class"], code, "{line}");
    for key in ["remedy", "value", "source", "causes", "next_command"] {
        let given = line.get(key).map(Value::as_str);
        assert!(
            given.is_none_or(|text| text.is_some_and(|text| !text.is_empty())),
            "{key} in {line}"
        );
    }
    assert!(line["remedy"].is_string(), "{line}");
    line
}

/// Commands of units that say how they end by their last word alone.
#[test]
fn a_failure_of_any_unit_keeps_the_contract() {
    let mut server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(
        server.port,
        "[report]\nurl = \"http://127.0.0.1:1/?token=marker-token-31\"\n",
    );
    let path = "usr/lib/sf-image/release.toml";
    let release = node
        .read(path)
        .replace("within_seconds = 5", "within_seconds = 0");
    std::fs::write(node.root().join(path), release).unwrap();
    assert_eq!(node.agent(&["run"]).code, 0);

    let ran = node.agent(&["ready"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let line = failure(&ran.stderr, "SF-DAEMON-NOT-READY");
    assert_eq!(line["source"], "release descriptor");
    assert_eq!(line["next_command"], "journalctl -b -u sf-api.service");
    assert!(
        line["value"].as_str().unwrap().starts_with("GET "),
        "{line}"
    );

    let ran = node.agent(&["report"]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    let line = failure(&ran.stderr, "SF-REPORT-UNSENT");
    assert_eq!(line["source"], "metadata field report.url");
    assert!(line["causes"].is_string(), "{line}");
    assert!(!ran.stderr.contains("marker-token-31"), "{}", ran.stderr);

    // As systemd runs it: with an environment that says nothing.
    std::fs::remove_file(node.root().join("run/sf-firstboot/clearance.json")).unwrap();
    server.stop();
    let errors = node.root().join("errors");
    let code_and_words = |command: Cmd| {
        std::fs::write(&errors, "").unwrap();
        let child = command.stderr(Sink::File(errors.clone())).spawn();
        let status = child.unwrap().wait().unwrap();
        (status.code(), std::fs::read_to_string(&errors).unwrap())
    };
    let gate = |format: &str| {
        Cmd::path("/usr/bin/env")
            .args(["-i", env!("CARGO_BIN_EXE_sf-firstboot"), "gate"])
            .args(["--log-format", format, "sf-api.service", "--root"])
            .arg(node.root())
    };
    let (code, said) = code_and_words(gate("json"));
    assert_eq!(code, Some(75), "{said}");
    let line = failure(&said, "SF-GATE-NO-CLEARANCE");
    let why = line["causes"].as_str().unwrap();
    assert!(why.starts_with("SF-DB-REFUSED: "), "{line}");
    // For a person the same is text.
    let (code, said) = code_and_words(gate("human"));
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("error: SF-GATE-NO-CLEARANCE: "), "{said}");

    let command = super::ended::stopping(&node, "dumped", "SEGV", "core-dump");
    let (code, said) = code_and_words(command);
    assert_eq!(code, Some(0), "{said}");
    let line = failure(&said, "SF-INTERNAL");
    assert_eq!(line["source"], "sf-firstboot.service");
    assert_eq!(line["next_command"], "journalctl -b -u sf-firstboot");
}
