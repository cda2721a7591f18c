use super::*;
use crate::gate::Slot;
use serde_json::json;

fn record(fingerprint: &str) -> OperationRecord {
    OperationRecord {
        name: "x".into(),
        outcome: "created".into(),
        fingerprint: fingerprint.into(),
        completed_at: 1_750_000_000.5,
        completed_by: "db1.example".into(),
        agent_version: "1".into(),
        image_version: "1".into(),
    }
}

fn word(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Done(None) => "done".into(),
        Judgement::Done(Some(note)) => format!("done: {note}"),
        Judgement::Create => "create".into(),
        Judgement::Adopt => "adopt".into(),
        Judgement::Refuse(failure) => failure.code.id.trim_start_matches("SF-BOOTSTRAP-").into(),
    }
}

fn refused(judgement: &Judgement) -> &Failure {
    match judgement {
        Judgement::Refuse(failure) => failure,
        other => panic!("not refused: {}", word(other)),
    }
}

type Case<'a> = (Option<&'a Secret>, bool, Option<&'a Secret>, &'a str);

#[test]
fn seeds_are_never_changed() {
    let (one, other) = (Secret::new("hunter2"), Secret::new("hunter3"));
    let done = record("withheld");
    let table: [Case<'_>; 9] = [
        (None, false, None, "create"),
        (Some(&one), false, None, "create"),
        (None, false, Some(&one), "adopt"),
        (Some(&one), false, Some(&one), "adopt"),
        (Some(&one), false, Some(&other), "CONTRADICTION"),
        (None, true, Some(&one), "done"),
        (Some(&one), true, Some(&one), "done"),
        (Some(&one), true, Some(&other), "CONTRADICTION"),
        (None, true, None, "DAMAGED"),
    ];
    for (given, recorded, found, expected) in table {
        let operation = Operation::AuthSecretSeed {
            given: given.cloned(),
        };
        let judgement = judge(
            &operation,
            recorded.then_some(&done),
            &Observed::Seed(found.cloned()),
            "db:1",
        );
        assert_eq!(word(&judgement), expected, "{recorded}");
        if let Judgement::Refuse(failure) = &judgement {
            assert!(!format!("{failure:?}").contains("hunter"), "{failure:?}");
        }
    }
}

#[test]
fn keys_are_verified_and_left_alone() {
    let key = |secret: &str| {
        Operation::Key(SystemKey {
            name: "admin".into(),
            secret: Secret::new(secret),
        })
    };
    // Cost 4 keeps the table fast; verifying reads the cost from the hash.
    let hash = |secret: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(bcrypt::hash(secret, 4).unwrap())
    };
    let (good, rotated) = (hash("hunter2"), hash("hunter3"));
    let recorded = record(&secrets::stored_key(&good));
    let stored = |hash: Option<&String>, state: &str| {
        Observed::Key(Some(StoredKey {
            stored: hash.cloned(),
            state: Some(state.to_owned()).filter(|state| !state.is_empty()),
            dashed: String::new(),
            expired: None,
        }))
    };
    let expired = || {
        Observed::Key(Some(StoredKey {
            stored: Some(good.clone()),
            state: Some("created".into()),
            dashed: String::new(),
            expired: Some(1000.0),
        }))
    };
    let table = [
        (None, stored(Some(&good), ""), "adopt"),
        (None, expired(), "CONTRADICTION"),
        (
            Some(&recorded),
            expired(),
            "done: key admin expired at 1970-01-01T00:16:40Z",
        ),
        (None, Observed::Key(None), "create"),
        (None, stored(Some(&good), "created"), "adopt"),
        (None, stored(Some(&rotated), "created"), "CONTRADICTION"),
        (None, stored(None, "created"), "CONTRADICTION"),
        (None, stored(Some(&good), "deleted"), "CONTRADICTION"),
        (Some(&recorded), stored(Some(&good), "created"), "done"),
        // Rotated by people since: theirs to decide.
        (
            Some(&recorded),
            stored(Some(&rotated), "created"),
            "done: key admin was changed since",
        ),
        (
            Some(&recorded),
            stored(Some(&good), "deleted"),
            "done: key admin was deleted since",
        ),
        (
            Some(&recorded),
            Observed::Key(None),
            "done: key admin was removed since",
        ),
    ];
    for (record, observed, expected) in &table {
        let judgement = judge(&key("hunter2"), *record, observed, "db:1");
        assert_eq!(word(&judgement), *expected);
    }
    // The stored key is as it was bootstrapped: it is the metadata that changed.
    let judgement = judge(
        &key("hunter9"),
        Some(&recorded),
        &stored(Some(&good), "created"),
        "db:1",
    );
    let failure = refused(&judgement);
    insta::assert_snapshot!(failure.what, @"secrets.system_key is not the secret of key admin of namespace system in the database at db:1, created by db1.example at 2025-06-15T15:06:40Z");
    assert!(!format!("{failure:?}").contains("hunter"));
}

#[test]
fn settings_changed_by_people_stay_and_changed_metadata_is_refused() {
    let operation = |value| Operation::Config {
        key: "DNS_SERVER".into(),
        value,
    };
    let done = record(&secrets::setting("DNS_SERVER", &json!("9.9.9.9")));
    let table = [
        (json!("9.9.9.9"), None, None, "create"),
        (json!("9.9.9.9"), None, Some(json!("9.9.9.9")), "adopt"),
        (
            json!("9.9.9.9"),
            None,
            Some(json!("1.1.1.1")),
            "CONTRADICTION",
        ),
        (
            json!("9.9.9.9"),
            Some(&done),
            Some(json!("9.9.9.9")),
            "done",
        ),
        (
            json!("1.1.1.1"),
            Some(&done),
            Some(json!("1.1.1.1")),
            "done",
        ),
        (
            json!("9.9.9.9"),
            Some(&done),
            Some(json!("1.1.1.1")),
            "done: DNS_SERVER was changed since, to \"1.1.1.1\"",
        ),
        (
            json!("9.9.9.9"),
            Some(&done),
            None,
            "done: DNS_SERVER was removed since",
        ),
        (
            json!("8.8.8.8"),
            Some(&done),
            Some(json!("9.9.9.9")),
            "CONTRADICTION",
        ),
        (
            json!("8.8.8.8"),
            Some(&done),
            Some(json!("1.1.1.1")),
            "CONTRADICTION",
        ),
    ];
    for (wanted, record, found, expected) in table {
        let judgement = judge(
            &operation(wanted.clone()),
            record,
            &Observed::Config(found.clone()),
            "db:1",
        );
        assert_eq!(word(&judgement), expected, "{wanted} {found:?}");
    }
    let judgement = judge(
        &operation(json!("8.8.8.8")),
        None,
        &Observed::Config(Some(json!("9.9.9.9"))),
        "db:1",
    );
    insta::assert_snapshot!(refused(&judgement).what, @r#"cluster.config.DNS_SERVER is "8.8.8.8" in the metadata and "9.9.9.9" in the database at db:1, which another deployer wrote"#);
}

#[test]
fn passwords_in_settings_are_masked_on_both_sides() {
    for (one, other) in [
        ("http://u:hunter2@p:1", "http://u:hunter3@p:1"),
        ("u:hunter/2@p:1", "u:1 hunter3@p:1"),
    ] {
        let operation = Operation::Config {
            key: "HTTP_PROXY_SERVER".into(),
            value: json!(one),
        };
        let observed = Observed::Config(Some(json!(other)));
        let judgement = judge(&operation, Some(&record("withheld")), &observed, "db:1");
        assert!(!format!("{:?}", refused(&judgement)).contains("hunter"));
    }
}

#[test]
fn namespaces_and_series() {
    let observed = |row, attributes, state: Option<&str>| Observed::Namespace {
        row,
        attributes,
        state: state.map(str::to_owned),
    };
    let done = record("x");
    let table = [
        (None, observed(false, false, None), "create"),
        (None, observed(true, false, None), "create"),
        (None, observed(true, true, Some("created")), "adopt"),
        (None, observed(true, true, None), "create"),
        (None, observed(true, true, Some("deleted")), "CONTRADICTION"),
        (Some(&done), observed(true, true, Some("created")), "done"),
        (Some(&done), observed(false, false, None), "DAMAGED"),
        (
            Some(&done),
            observed(true, true, Some("deleted")),
            "DAMAGED",
        ),
    ];
    for (record, observed, expected) in &table {
        let judgement = judge(&Operation::Namespace, *record, observed, "db:1");
        assert_eq!(word(&judgement), *expected);
    }

    let operation = Operation::ClusterSeries {
        series: "0.7".parse().unwrap(),
        predecessor: None,
        release: "0.7.2".into(),
    };
    let slots = |series: &[&str]| {
        Observed::Series(
            series
                .iter()
                .zip(0..)
                .map(|(series, slot)| Slot {
                    slot,
                    series: series.parse().unwrap(),
                    predecessor: None,
                    release: String::new(),
                })
                .collect(),
        )
    };
    let table = [
        (None, slots(&[]), "create"),
        (None, slots(&["0.7"]), "adopt"),
        (None, slots(&["0.8"]), "CONTRADICTION"),
        (Some(&done), slots(&["0.8"]), "done"),
        (Some(&done), slots(&[]), "DAMAGED"),
    ];
    for (record, observed, expected) in &table {
        assert_eq!(
            word(&judge(&operation, *record, observed, "db:1")),
            *expected
        );
    }
}

#[test]
fn a_value_is_shown_where_no_word_of_it_can_be_of_a_password() {
    for (value, shown) in [
        ("http://proxy:3128", "\"http://proxy:3128\""),
        (
            "http://u:S3CR3T@proxy:3128",
            "\"http://u:******@proxy:3128\"",
        ),
        ("http://u:S3CR3T@a and b", "******"),
        ("http://u:S3C@R3T S3CR3T@proxy:3128", "******"),
        ("http://u:S3C@R3T\"S3CR3T@proxy:3128", "******"),
        ("-----BEGIN\nS3CR3T", "******"),
    ] {
        assert_eq!(show("HTTP_PROXY_SERVER", &value.into()), shown, "{value}");
    }
    assert_eq!(show("API_TOKEN", &"S3CR3T".into()), "******");
}
