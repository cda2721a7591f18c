//! No piece of a secret is in anything that shows a type which carries it:
//! `Display`, `Debug`, JSON, source frames. Secrets are odd on purpose: with
//! quotes, control characters, percent signs and delimiters of URLs, written in
//! every way that TOML has.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::*;
use crate::metadata::document;
use crate::metadata::dsn::Dsn;
use crate::metadata::explain::explain;

/// Bytes of a secret that are a leak: less can be a coincidence.
const PIECE: usize = 8;

fn secret() -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        4 => "[A-Za-z0-9]",
        2 => "[\"'\\\\ =@:/?#%&,;\\[\\]{}$!*+_.~^|<>()`-]",
        1 => "[éßЖ漢🦀]",
        1 => "[\t\u{1}\u{1b}\u{7f}]",
    ];
    proptest::collection::vec(odd, PIECE..40)
        .prop_map(|parts| parts.concat())
        // A path in [pki] is shown, and so is what has no pieces to tell by.
        .prop_filter("tells nothing apart", |text| {
            let distinct: std::collections::BTreeSet<char> = text.chars().collect();
            distinct.len() >= 6 && !text.starts_with('/')
        })
}

/// The secret as it could be written in a TOML document.
#[derive(Clone, Copy, Debug)]
enum Writing {
    Basic,
    Unicode,
    Literal,
    MultiLine,
}

fn written(text: &str, writing: Writing) -> String {
    let plain = |c: char| !c.is_control() || c == '\t';
    match writing {
        Writing::Literal if text.chars().all(|c| plain(c) && c != '\'') => format!("'{text}'"),
        Writing::MultiLine if text.chars().all(|c| plain(c) && !matches!(c, '"' | '\\')) => {
            format!("\"\"\"\n{text}\"\"\"")
        }
        Writing::Unicode => {
            let mut escaped = String::from("\"");
            for c in text.chars() {
                let _ = write!(escaped, "\\U{:08X}", u32::from(c));
            }
            escaped + "\""
        }
        _ => document::quoted(text),
    }
}

/// The ways in which a text can come out.
fn forms(text: &str) -> Vec<String> {
    vec![
        text.to_owned(),
        text.escape_debug().to_string(),
        text.escape_default().to_string(),
        document::quoted(text).trim_matches('"').to_owned(),
        serde_json::to_string(text)
            .unwrap()
            .trim_matches('"')
            .to_owned(),
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
    ]
}

/// A piece of the secret that the text shows.
fn leak(shown: &str, secret: &str) -> Option<String> {
    let forms = forms(secret);
    let pieces: std::collections::HashSet<&[u8]> = forms
        .iter()
        .flat_map(|form| form.as_bytes().windows(PIECE))
        .collect();
    shown
        .as_bytes()
        .windows(PIECE)
        .find(|window| pieces.contains(window))
        .map(|window| String::from_utf8_lossy(window).into_owned())
}

/// What stands around the secret.
fn documents(secret: &str, writing: Writing) -> Vec<String> {
    let value = written(secret, writing);
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let dsn = format!("\"mysql://sf:{encoded}@db1.example.com:3306/shakenfist\"");
    let good = GOOD.replace(
        "\"mysql://sf:canary-pw@db1.example.com:3306/shakenfist\"",
        &dsn,
    );
    let url = format!("\"http://sf:{encoded}@proxy.example.com\"");
    let raw = document::quoted(&format!("mysql://sf:{secret}@db1.example.com/sf"));
    let raw_url = document::quoted(&format!("http://sf:{secret}@proxy.example.com:3128"));
    let no_scheme = document::quoted(&format!("sf:{secret}@proxy.example.com:3128"));
    vec![
        good.clone(),
        format!(
            "{good}X_PASSWORD = {value}\nPROXY = {url}\n[secrets]\nsystem_key = {value}\nauth_secret_seed = {value}\n"
        ),
        format!(
            "{good}[pki]\nca = {value}\nkey = {value}\ncertificate = {value}\nlibvirt_spice = {{ key = {value} }}\n"
        ),
        format!("{good}[cluster.config]\nX_TOKEN = {value}\nHTTP_PROXY_SERVER = {url}\n"),
        // Rules broken: too long, not encoded.
        format!(
            "schema = 1\n[secrets]\nsystem_key = {}\n",
            written(&secret.repeat(20), writing)
        ),
        format!("schema = 1\n[database]\ndsn = {raw}\n"),
        // TOML broken beside and within it.
        format!("schema = 1\n[secrets]\nsystem_key = {value}\nsystem_key = {value}\n"),
        format!("schema = 1\n[secrets]\nsystem_key = {value} {value}\n"),
        format!("schema = 1\n[secrets\nsystem_key = {value}\n"),
        format!(
            "schema = 1\nsecrets.system_key = {}\n",
            &value[..value.floor_char_boundary(value.len() - 1)]
        ),
        format!("schema = 1\n[secrets]\nsystem_key = [{value}, {value}]\n"),
        format!("schema = 1\n[secrets]\nsystem_key = {{ credentail = {value} }}\n"),
        format!("schema = 1\n[secrets]\nsystem_key = {{ credential = [{value}] }}\n"),
        format!("schema = 2\n[secrets]\nsystem_key = {value}\n"),
        format!("schema = {value}\n"),
        // In a field or a table that takes none.
        format!("{good}[cluster.hosts]\nsystem_key = {value}\n"),
        format!("{good}[report]\nurl = \"https://h/?token={encoded}\"\n"),
        // Not encoded, or without a scheme.
        format!(
            "{good}PROXY = {raw_url}\nPROXY_2 = {no_scheme}\n[cluster.config]\nHTTP_PROXY_SERVER = {raw_url}\n[report]\nurl = {raw_url}\n"
        ),
        format!(
            "schema = 1\n[node]\nname = {raw}\nmesh = {{ address = {no_scheme}, interface = {raw_url} }}\n[cluster]\nzone = {no_scheme}\ndatabase_nodes = [{raw}]\n[cluster.config]\nHTTP_PROXY_SERVER = {no_scheme}\n"
        ),
        // Swallowed by a string that was not closed, or by another quote.
        format!(
            "schema = 1\n[node]\nname = {{ x = 1 }}\n[cluster]\ndatabase_nodes = [\"\"\"a\ndsn = {raw}\n"
        ),
        format!("schema = 1\n[cluster]\ndatabase_nodes = ['''\nx = {value}\n''', 'b']\n"),
        format!("schema = 1\n[pki]\nca = '''/x\nkey = {value}\n"),
        format!("schema = 1\n[pki]\nca = {{ file = '''/x\nkey = {value}\n''' }}\n"),
        // Wrapped: its second half looks like a key.
        format!("{good}X_TOKEN = \"abc\n{secret}=\n{secret} = 1\n{value} = 2\n"),
        format!("{good}[cluster.hosts]\ntoken = \"abc\n{secret}=\n{secret} = 1\n{value} = 2\n"),
    ]
}

fn everything(fragments: Vec<Fragment>, role: Role) -> String {
    let release = release();
    let mut shown = format!("{fragments:?}");
    let merged = merge(fragments);
    let resolved = resolve(&merged);
    let checked = check(
        &merged,
        &resolved,
        Target {
            role,
            release: &release,
        },
    );
    let _ = write!(shown, "{merged:?} {resolved:?} {checked:?}");
    let _ = write!(
        shown,
        "{:?}",
        crate::metadata::check_roles(&merged, &resolved, &release, &Role::ALL)
    );
    if let Some(metadata) = &checked.metadata {
        let _ = write!(shown, "{} {:?}", metadata.database.dsn, metadata.pki);
        for text in metadata.config.values() {
            let _ = write!(shown, "{text} {text:?}");
        }
    }
    for finding in checked.problems.iter().chain(&checked.warnings) {
        let problem = &finding.problem;
        let _ = write!(
            shown,
            "{problem} {problem:?} {} {}",
            merged.frame(problem),
            merged.place_of(problem)
        );
    }
    for explained in explain(&merged, None).unwrap() {
        let json = serde_json::to_string(&explained).unwrap();
        let _ = write!(shown, "{explained} {explained:?} {json}");
    }
    for (_, field) in merged.fields() {
        let entry = &field.winner;
        let _ = write!(shown, "{} {entry:?} {}", entry.value, entry.place);
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_piece_of_a_secret_is_shown(
        secret in secret(),
        writing in prop::sample::select(vec![
            Writing::Basic, Writing::Unicode, Writing::Literal, Writing::MultiLine,
        ]),
        role in prop::sample::select(Role::ALL.to_vec()),
        pick in any::<prop::sample::Index>(),
        shadowed: bool,
    ) {
        let documents = documents(&secret, writing);
        let document = &documents[pick.index(documents.len())];
        let mut fragments = vec![Fragment::read(Origin::new(Layer::File, 0, "weak"), document)];
        if shadowed {
            fragments.push(Fragment::read(Origin::new(Layer::CommandLine, 0, "strong"), GOOD));
        }
        let shown = everything(fragments, role);
        let leaked = leak(&shown, &secret);
        prop_assert!(leaked.is_none(), "{leaked:?} of {secret:?} in\n{document}\n{shown}");
    }

    #[test]
    fn no_piece_of_a_credential_is_shown(
        secret in secret(),
        role in prop::sample::select(Role::ALL.to_vec()),
    ) {
        let singles: Vec<Fragment> = fields::FIELDS
            .iter()
            .filter(|spec| spec.kind.is_secret())
            .map(|spec| {
                let origin = Origin::new(Layer::FieldCredential, 0, format!("credential sf.{}", spec.path));
                Fragment::single(origin, spec.path, &secret)
            })
            .collect();
        let shown = everything(singles, role);
        prop_assert!(leak(&shown, &secret).is_none(), "{secret:?} in {shown}");
    }

    #[test]
    fn no_piece_of_a_password_is_in_a_dsn_or_its_errors(
        secret in secret(),
        rest in "[a-z0-9:/?&=@,%]{0,20}",
    ) {
        let encoded = utf8_percent_encode(&secret, NON_ALPHANUMERIC);
        for text in [
            format!("mysql://sf:{encoded}@db1:3306/sf"),
            format!("mysql://sf:{encoded}@db1:{rest}"),
            format!("mysql://sf:{secret}@db1:3306/sf"),
            format!("mysql:/sf:{encoded}@db1:3306/sf"),
            format!("postgres://sf:{encoded}@db1/sf"),
        ] {
            let shown = match text.parse::<Dsn>() {
                // What does not stand before the @ is no password.
                Ok(dsn) if dsn.password().is_none_or(|found| found.expose() != secret) => continue,
                Ok(dsn) => format!("{dsn} {dsn:?} {:?}", dsn.password()),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(leak(&shown, &secret).is_none(), "{text} in {shown}");
        }
    }

    #[test]
    fn no_piece_of_a_secret_is_in_its_own_types(text in secret()) {
        prop_assert!(leak(&["x", &text, "y"].concat(), &text).is_some());
        let secret = Secret::new(text.clone());
        let setting = crate::metadata::SettingText::Secret(secret.clone());
        let value = crate::metadata::Value::Secret(secret.clone());
        let shown = format!("{secret} {secret:?} {setting} {setting:?} {value} {value:?}");
        prop_assert!(leak(&shown, &text).is_none(), "{shown}");
    }
}
