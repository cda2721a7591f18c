//! What holds for all inputs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::metadata::Value;
use crate::metadata::explain::explain;
use crate::metadata::fields::{FIELDS, FieldSpec, Kind};

/// A path that is a field, for a family with a key.
fn path_of(spec: &FieldSpec, key: u8) -> String {
    match spec.family() {
        Some(prefix) if spec.kind == Kind::Address => format!("{prefix}k-{key}"),
        Some(prefix) => format!("{prefix}K_{key}"),
        None => spec.path.to_owned(),
    }
}

/// A value of the right TOML type, and its text in TOML.
fn literal(spec: &FieldSpec, path: &str, seed: u32) -> (Value, String) {
    let text = format!("canary{seed}");
    match spec.kind {
        Kind::Amount | Kind::Mtu => (Value::Integer(seed.into()), seed.to_string()),
        Kind::Hosts => (Value::List(vec![text.clone()]), format!("[\"{text}\"]")),
        Kind::ClusterConfig if seed.is_multiple_of(2) => (Value::Boolean(true), "true".into()),
        Kind::Pem if seed.is_multiple_of(2) => (
            Value::Reference(Reference::Credential(text.clone())),
            format!("{{ credential = \"{text}\" }}"),
        ),
        _ => (
            Value::text(text.clone(), spec.is_secret(path)),
            format!("\"{text}\""),
        ),
    }
}

/// A document that sets these fields, one dotted key a line.
fn render(fields: &BTreeMap<String, String>) -> String {
    let mut text = String::from("schema = 1\n");
    for (path, value) in fields {
        writeln!(text, "{path} = {value}").unwrap();
    }
    text
}

fn picks() -> impl Strategy<Value = Vec<(usize, u8, u32)>> {
    vec((0..FIELDS.len(), 0..3_u8, 100..100_000_u32), 0..12)
}

/// Text that looks like metadata and often is not.
fn toml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        (0..FIELDS.len()).prop_map(|index| FIELDS[index].path.replace(['<', '>'], "")),
        (0..FIELDS.len()).prop_map(|index| FIELDS[index].example.to_owned()),
        (0..FIELDS.len()).prop_map(|index| FIELDS[index].example_block()),
        Just("schema = 1\n".to_owned()),
        "[\\[\\]{}=\"',.\\\\#\n\r\u{feff} \t]{1,3}",
        "\\PC{0,6}",
        "-?[0-9_.e:xTZ-]{1,12}",
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn everything_shown(fragments: Vec<Fragment>, role: Role, release: &Release) -> String {
    let mut shown = format!("{fragments:?}");
    let merged = merge(fragments);
    let resolved = resolve(&merged);
    let checked = check(&merged, &resolved, Target { role, release });
    let _ = write!(shown, "{merged:?} {resolved:?} {checked:?}");
    for finding in checked.problems.iter().chain(&checked.warnings) {
        let problem = &finding.problem;
        let _ = write!(shown, "{problem} {}", merged.frame(problem));
    }
    for explained in explain(&merged, None).unwrap() {
        let _ = write!(
            shown,
            "{explained} {explained:?} {}",
            serde_json::to_string(&explained).unwrap()
        );
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_rendered_is_read_back(picks in picks()) {
        let mut wanted = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for (index, key, seed) in picks {
            let spec = &FIELDS[index];
            let path = path_of(spec, key);
            let (value, text) = literal(spec, &path, seed);
            wanted.insert(path.clone(), value);
            texts.insert(path, text);
        }
        let fragment = file(&render(&texts));
        prop_assert_eq!(&fragment.problems, &[]);
        let read: BTreeMap<String, Value> = fragment
            .entries
            .into_iter()
            .map(|entry| (entry.path, entry.value))
            .collect();
        prop_assert_eq!(read, wanted);
    }

    /// The reference model: for each field the first layer, the last within it.
    #[test]
    fn precedence_does_not_depend_on_the_order_of_merging(
        sources in vec((0..Layer::ALL.len(), picks()), 1..7),
        shuffle in any::<prop::sample::Index>(),
        reverse: bool,
    ) {
        let mut fragments = Vec::new();
        let mut model: BTreeMap<String, Vec<(usize, u32, Value)>> = BTreeMap::new();
        for (order, (layer, picks)) in (0_u32..).zip(sources) {
            let mut texts = BTreeMap::new();
            for (index, key, seed) in picks {
                let spec = &FIELDS[index];
                let path = path_of(spec, key);
                texts.insert(path.clone(), literal(spec, &path, seed));
            }
            for (path, (value, _)) in &texts {
                model.entry(path.clone()).or_default().push((layer, order, value.clone()));
            }
            let rendered = texts.into_iter().map(|(path, (_, text))| (path, text)).collect();
            let origin = Origin::new(Layer::ALL[layer], order, format!("source {}", 9 - order));
            fragments.push(Fragment::read(origin, &render(&rendered)));
        }
        let at = shuffle.index(fragments.len());
        fragments.rotate_left(at);
        if reverse {
            fragments.reverse();
        }
        let merged = merge(fragments);
        // Every field is accounted for, and none is invented.
        prop_assert_eq!(merged.fields().count(), model.len());
        for (path, mut candidates) in model {
            candidates.sort_by_key(|(layer, order, _)| (*layer, std::cmp::Reverse(*order)));
            let field = merged.get(&path).unwrap();
            let found: Vec<&Value> = std::iter::once(&field.winner)
                .chain(&field.shadowed)
                .map(|entry| &entry.value)
                .collect();
            let wanted: Vec<&Value> = candidates.iter().map(|(_, _, value)| value).collect();
            prop_assert_eq!(found, wanted, "{}", path);
        }
    }

    /// Merging what was merged, or the same source twice, changes no winner;
    /// nor does a weaker source that says what a stronger one says.
    #[test]
    fn merging_again_changes_nothing(sources in vec((0..Layer::ALL.len(), picks()), 1..5)) {
        let mut fragments = Vec::new();
        for (order, (layer, picks)) in (0_u32..).zip(sources) {
            let texts: BTreeMap<String, String> = picks
                .into_iter()
                .map(|(index, key, seed)| {
                    let path = path_of(&FIELDS[index], key);
                    let text = literal(&FIELDS[index], &path, seed).1;
                    (path, text)
                })
                .collect();
            let origin = Origin::new(Layer::ALL[layer], order, format!("source {order}"));
            fragments.push(Fragment::read(origin, &render(&texts)));
        }
        let winners = |merged: &Merged| -> BTreeMap<String, Value> {
            merged
                .fields()
                .map(|(path, field)| (path.to_owned(), field.winner.value.clone()))
                .collect()
        };
        let once = merge(fragments.clone());
        let doubled = merge(fragments.iter().cloned().chain(fragments.clone()));
        prop_assert_eq!(winners(&doubled), winners(&once));
        let written = crate::metadata::document::document(&once, |_| true);
        let as_one = |layer| Fragment::read(Origin::new(layer, 99, "as one"), written.expose());
        let last = *Layer::ALL.last().unwrap();
        prop_assert_eq!(winners(&merge([as_one(last)])), winners(&once));
        let below = merge(fragments.into_iter().chain([as_one(last)]));
        prop_assert_eq!(winners(&below), winners(&once));
    }

    /// Secrets in every field that takes one, in valid, invalid and shadowed
    /// values, never come out. (What starts with a slash is a path in [pki].)
    #[test]
    fn no_secret_is_shown(
        secret in "[A-Za-z0-9%=+][A-Za-z0-9%=+/]{0,40}\"?S3CR3T[A-Za-z0-9 ]{0,40}",
        broken: bool,
        role in prop::sample::select(Role::ALL.to_vec()),
    ) {
        let mut text = String::from("schema = 1\n");
        let mut fragments = Vec::new();
        for spec in FIELDS.iter().filter(|spec| spec.kind.is_secret() && spec.path != "pki.ca") {
            let literal = secret.replace('"', "\\\"");
            let prefix = if spec.kind == Kind::Dsn { "mysql://u:" } else { "" };
            let _ = writeln!(text, "{} = \"{prefix}{literal}\"", spec.path);
            fragments.push(Fragment::single(
                Origin::new(Layer::FieldCredential, 0, format!("credential sf.{}", spec.path)),
                spec.path,
                &format!("{prefix}{secret}"),
            ));
        }
        let _ = writeln!(text, "config.X_PASSWORD = \"{}\"", secret.replace('"', ""));
        let _ = writeln!(text, "cluster.config.X_TOKEN = \"{}\"", secret.replace('"', ""));
        // A password as people write it: not encoded, with or without a scheme.
        let raw = secret.replace('"', "");
        for (path, value) in [
            ("config.PROXY", format!("http://u:{raw}@h:3128")),
            ("config.PROXY_2", format!("u:{raw}@h.example.com:3128")),
            ("cluster.config.HTTP_PROXY_SERVER", format!("http://u:{raw}@h:3128/x")),
            ("report.url", format!("https://u:{raw}@ops.example.com/sf")),
            ("node.name", format!("mysql://u:{raw}@db1/x")),
            ("cluster.zone", format!("u:{raw}@db1")),
            ("pki.ca", format!("{{ file = \"/u:{raw}@db1\" }}")),
        ] {
            let value = if value.starts_with('{') { value } else { format!("\"{value}\"") };
            let _ = writeln!(text, "{path} = {value}");
        }
        if broken {
            let _ = writeln!(text, "secrets.x = {secret}\nsecrets.y \"{secret}\n");
        }
        fragments.push(file(&text));
        let shown = everything_shown(fragments, role, &release());
        prop_assert!(!shown.contains("S3CR3T"), "{}", shown);
    }

    #[test]
    fn nothing_panics_on_text_that_is_nearly_metadata(text in toml_like()) {
        let release = release();
        everything_shown(vec![file(&text)], Role::DatabaseTier, &release);
        for spec in FIELDS {
            Fragment::single(Origin::new(Layer::FieldCredential, 0, "c"), spec.path, &text);
        }
    }

    #[test]
    fn nothing_panics_on_bytes(bytes in vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        everything_shown(vec![file(&format!("schema = 1\n{text}"))], Role::Hypervisor, &release());
        everything_shown(vec![file(&text)], Role::Hypervisor, &release());
    }
}
