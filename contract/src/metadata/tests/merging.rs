//! Precedence, shadowing, and what `explain` says about them.

use super::*;
use crate::metadata::explain::explain;

fn layers() -> [Fragment; 5] {
    [
        Fragment::read(
            Origin::new(Layer::File, 0, "/etc/sf/metadata.toml"),
            "schema = 1\n[node]\nname = \"file.example.com\"\n[database]\ndsn = \"mysql://a:canary@h/d\"\n[config]\nA = 1\nB = 1\n",
        ),
        Fragment::read(
            Origin::new(Layer::DropIn, 0, "/etc/sf/metadata.d/10.toml"),
            "schema = 1\n[node]\nname = \"ten.example.com\"\n[config]\nB = 2\n",
        ),
        Fragment::read(
            Origin::new(Layer::DropIn, 1, "/etc/sf/metadata.d/20.toml"),
            "schema = 1\n[node]\nname = \"twenty.example.com\"\n",
        ),
        Fragment::read(
            Origin::new(Layer::Credential, 0, "credential sf.metadata"),
            "schema = 1\n\n[database]\ndsn = { credential = \"dsn\" }\n",
        ),
        Fragment::single(
            Origin::new(Layer::FieldCredential, 0, "credential sf.node.name"),
            "node.name",
            "credential.example.com\n",
        ),
    ]
}

#[test]
fn explain_tells_winner_shadowed_and_default() {
    let merged = merge(layers());
    let shown = |path| {
        explain(&merged, Some(path))
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(shown("node.name"), @r#"
    node.name = "credential.example.com"
      from      credential sf.node.name
      shadowed  /etc/sf/metadata.d/20.toml:3 = "twenty.example.com"
      shadowed  /etc/sf/metadata.d/10.toml:3 = "ten.example.com"
      shadowed  /etc/sf/metadata.toml:3 = "file.example.com"
      takes     a host name, a string such as "db1.example.com"
      This node's fully qualified name; its identity in the cluster.
    "#);
    insta::assert_snapshot!(shown("database"), @r#"
    database.dsn = credential "dsn"
      from      credential sf.metadata:4
      shadowed  /etc/sf/metadata.toml:5 = mysql://a:******@h:3306/d
      takes     a string, { credential = "name" } or { file = "/path" }
      The operator's MariaDB; of several hosts the agent tries one after the other, the daemons get the first. Percent-encode what is special in user and password.
    database.connect_timeout is not set
      default   10s
      takes     a duration, a string such as "30s" or "5m"
      example   [database] connect_timeout = "10s"
      How long one attempt to connect may take, 1s to 5m.
    database.wait is not set
      default   5m
      takes     a duration, a string such as "30s" or "5m"
      example   [database] wait = "5m"
      How long one run waits for the database before it reports it and systemd tries again, 0s to 24h.
    "#);
    insta::assert_snapshot!(shown("config"), @r#"
    config.A = 1
      from      /etc/sf/metadata.toml:7
      takes     a string, a number or true or false
      A SHAKENFIST_* setting of this node, without the prefix.
    config.B = 2
      from      /etc/sf/metadata.d/10.toml:5
      shadowed  /etc/sf/metadata.toml:8 = 1
      takes     a string, a number or true or false
      A SHAKENFIST_* setting of this node, without the prefix.
    "#);
    assert_eq!(
        explain(&merged, None).unwrap().len(),
        super::super::fields::FIELDS.len() + 1
    );
    let error = explain(&merged, Some("node.nmae")).unwrap_err();
    assert_eq!(error.near, Some("node.name"));
    let json = serde_json::to_string(&explain(&merged, None).unwrap()).unwrap();
    assert!(!json.contains("canary"), "{json}");
}

#[test]
fn credentials_for_one_field_are_read_by_the_fields_type() {
    let one = |path: &str, text: &str| {
        Fragment::single(
            Origin::new(Layer::FieldCredential, 0, "credential x"),
            path,
            text,
        )
    };
    for (path, text, shown) in [
        ("node.name", "a.b\n", "\"a.b\""),
        ("node.reservations.cpu", "4\n", "4"),
        (
            "cluster.database_nodes",
            "10.0.0.1, 10.0.0.2",
            "[\"10.0.0.1\", \"10.0.0.2\"]",
        ),
        ("database.dsn", "mysql://canary\r\n", "******"),
        ("pki.ca", "/etc/ca.pem", "file \"/etc/ca.pem\""),
        ("config.X", "5", "\"5\""),
        ("cluster.config.X", "5", "5"),
        ("cluster.config.X", "1.5", "1.5"),
        ("cluster.config.X", "true", "true"),
        ("cluster.config.X", "a", "\"a\""),
    ] {
        let fragment = one(path, text);
        assert_eq!(fragment.problems, [], "{path}");
        assert_eq!(fragment.entries[0].value.to_string(), shown, "{path}");
    }
    for (path, text, wanted) in [
        (
            "node.nmae",
            "x",
            "credential x: node.nmae: there is no such field (did you mean \"node.name\"?)",
        ),
        (
            "node.reservations.cpu",
            "four",
            "credential x: node.reservations.cpu: expected a whole number (for example reservations = { cpu = 2 })",
        ),
    ] {
        assert_eq!(one(path, text).problems[0].problem.to_string(), wanted);
    }
}

#[test]
fn a_reference_that_leads_nowhere_is_named_at_its_place_and_is_not_missing_too() {
    let text = GOOD.replace(
        "\"mysql://sf:canary-pw@db1.example.com:3306/shakenfist\"",
        "{ credential = \"dsn\" }",
    );
    let merged = merge([file(&text)]);
    let resolved = merged.resolve(|field, reference| {
        assert_eq!(
            (field, reference.to_string().as_str()),
            ("database.dsn", "credential \"dsn\"")
        );
        Err(crate::metadata::Unresolved {
            message: "refers to nothing".into(),
            hint: "give it".into(),
        })
    });
    let release = release();
    let checked = check(
        &merged,
        &resolved,
        Target {
            role: Role::Hypervisor,
            release: &release,
        },
    );
    assert!(checked.metadata.is_none());
    assert_eq!(checked.problems.len(), 1);
    let problem = &checked.problems[0].problem;
    assert_eq!(
        problem.to_string(),
        "metadata.toml: database.dsn: refers to nothing (give it)"
    );
    assert_eq!(merged.place_of(problem), "metadata.toml:9");
}
