//! What the desk makes of metadata: templates, documents written again, and
//! judgement without a role.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::*;
use crate::metadata::template::{PLACEHOLDER, template};
use crate::metadata::{Class, check_roles, document};

/// Fills a template in as its comments say.
fn filled(template: &str) -> String {
    let mut text = String::new();
    let mut example = "\"10.0.0.1\"";
    for line in template.lines() {
        if let Some((_, value)) = line
            .strip_prefix("# For example: ")
            .and_then(|line| line.split_once(" = "))
        {
            example = value;
        }
        match line.split_once(" = ") {
            Some((key, value)) if !line.starts_with('#') && value.contains(PLACEHOLDER) => {
                let _ = writeln!(text, "{key} = {example}");
                example = "\"10.0.0.1\"";
            }
            _ => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

/// The lines that a template offers, with the comment mark taken off.
fn all_uncommented(template: &str) -> String {
    template
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .map(|line| line.replace(&format!("{PLACEHOLDER:?}"), "\"x\"") + "\n")
        .collect()
}

#[test]
fn a_filled_template_is_valid_and_an_unfilled_one_is_refused_field_by_field() {
    let mut fields_seen = BTreeSet::new();
    for name in ["0.7", "develop"] {
        let release = release_named(name).unwrap();
        for role in Role::ALL {
            let target = Target {
                role,
                release: &release,
            };
            let text = template(&release, role, None);
            let merged = merge([file(&text)]);
            let checked = check(&merged, &resolve(&merged), target);
            let mut refused: Vec<&str> = Vec::new();
            for finding in &checked.problems {
                assert_eq!(finding.class, Class::Value, "{finding:?}");
                assert!(finding.problem.message.contains(PLACEHOLDER), "{finding:?}");
                refused.push(&finding.problem.field);
            }
            refused.sort_unstable();
            let mut required = crate::metadata::required_fields(&release, role);
            required.sort_unstable();
            assert_eq!(refused, required, "{name} {role}");

            let text = filled(&text);
            let merged = merge([file(&text)]);
            let checked = check(&merged, &resolve(&merged), target);
            assert_eq!(checked.problems, [], "{name} {role}\n{text}");

            let all = file(&all_uncommented(&template(&release, role, None)));
            assert_eq!(all.problems, [], "{name} {role}");
            fields_seen.extend(all.entries.iter().map(|entry| entry.spec.path));
        }
    }
    let all: BTreeSet<&str> = fields::FIELDS.iter().map(|spec| spec.path).collect();
    assert_eq!(fields_seen, all, "a field that no template offers");
}

#[test]
fn a_template_reads_well() {
    let text = template(&release(), Role::DatabaseTier, Some("db1.example.com"));
    insta::assert_snapshot!(text);
}

/// The keys of `[cluster.config]` are judged though the DSN is elsewhere.
#[test]
fn a_dsn_elsewhere_hides_no_other_mistake() {
    let text = GOOD.replace(
        "\"mysql://sf:canary-pw@db1.example.com:3306/shakenfist\"",
        "{ credential = \"sf.dsn\" }",
    ) + "[cluster.config]\nNOPE_X = 1\n";
    let merged = merge([file(&text)]);
    let resolved = merged.resolve(|_, _| {
        Err(crate::metadata::Unresolved {
            message: "elsewhere".into(),
            hint: String::new(),
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
    let fields: Vec<&str> = checked
        .problems
        .iter()
        .map(|finding| finding.problem.field.as_str())
        .collect();
    assert_eq!(fields, ["database.dsn", "cluster.config.NOPE_X"]);
}

#[test]
fn without_a_role_only_what_is_wrong_everywhere_is_a_problem() {
    let develop = release_named("develop").unwrap();
    let text = "schema = 1\nnode.name = \"HV1\"\ncluster.network_node = \"10.0.0.2\"\n";
    let merged = merge([file(text)]);
    let verdict = check_roles(&merged, &resolve(&merged), &develop, &Role::ALL);
    let lines: Vec<String> = verdict
        .problems
        .iter()
        .map(|finding| format!("{} {}", finding.class.code(), finding.problem))
        .collect();
    assert!(
        lines.contains(
            &"SF-META-REQUIRED node metadata: database.dsn: missing: no node can do without it \
              (add under [database]: dsn = \"mysql://sf:PASSWORD@db1.example.com:3306/shakenfist\")"
                .to_owned()
        ),
        "{lines:#?}"
    );
    assert!(lines[0].starts_with("SF-META-INVALID metadata.toml: node.name: \"HV1\""));
    assert_eq!(verdict.roles.len(), Role::ALL.len());
    for (role, more) in &verdict.roles {
        for finding in more {
            assert!(!lines.contains(&finding.problem.to_string()), "{role}");
        }
    }
}

#[test]
fn a_document_written_again_says_the_same() {
    let text = format!(
        "{GOOD}{}",
        "X_FLAG = true\nX_RATIO = 1.5\nX_PASSWORD = \"a\\\"b\\\\c\\nd\\u0001é\"\n\
         [pki]\nca = \"/etc/ca.pem\"\nkey = { credential = \"k\" }\ncertificate = '''\nPEM\nPEM'''\n\
         [cluster.hosts]\n\"db1.example.com\" = \"10.0.0.1\"\nplain = \"10.0.0.3\"\n"
    );
    let merged = merge([file(&text)]);
    assert_eq!(merged.problems(), []);
    let again = merge([file(document::document(&merged, |_| true).expose())]);
    assert_eq!(again.problems(), []);
    let values = |merged: &Merged| -> Vec<(String, crate::metadata::Value)> {
        merged
            .fields()
            .map(|(path, field)| (path.to_owned(), field.winner.value.clone()))
            .collect()
    };
    assert_eq!(values(&again), values(&merged));
}
