//! One function for each parser of foreign input. Beside not crashing, each
//! holds its parser to what it promises: what is shown has no secret, what is
//! written is read as the same.

use std::fmt::Write as _;
use std::sync::OnceLock;

use sf_contract::manifest::Manifest;
use sf_contract::metadata::dsn::Dsn;
use sf_contract::metadata::explain::explain;
use sf_contract::metadata::{
    Fragment, Layer, Merged, Origin, Reference, Resolved, Target, Unresolved, Value, check,
    check_roles, document, merge,
};
use sf_contract::problem::Disclosure;
use sf_contract::release::{self, Release};
use sf_contract::role::Role;
use sf_contract::secret::{self, Secret};
use sf_contract::series::{Series, Version};
use sf_firstboot::configure::hosts::outside;
use sf_firstboot::database;
use sf_firstboot::pki::{self, Item, Set, Usage};
use sf_firstboot::sources::http::{Fingerprint, Trust, Url};
use sf_firstboot::sources::{drive, envelope, kernel};

// The corpus test has this file at another place.
#[path = "targets/answer.rs"]
mod answer;

pub use answer::answer;

/// A target.
pub type Run = fn(&[u8]);

/// Every target by its name, which is that of its corpus.
pub const TARGETS: &[(&str, Run)] = &[
    ("metadata", metadata),
    ("credential", credential),
    ("dsn", dsn),
    ("release", release_descriptor),
    ("manifest", manifest),
    ("version", version),
    ("redaction", redaction),
    ("pem", pem),
    ("drive", config_drive),
    ("kernel", kernel_command_line),
    ("user_data", user_data),
    ("url", url),
    ("answer", answer),
    ("hosts", hosts),
    ("server", server),
];

/// A text that marks a secret: where it stands only in secrets, it must not be
/// in anything that is shown.
const MARK: &str = "S3CR3T";

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

fn releases() -> &'static [Release] {
    static RELEASES: OnceLock<Vec<Release>> = OnceLock::new();
    RELEASES.get_or_init(|| {
        [
            ("0.7", include_str!("../../releases/0.7/release.toml")),
            (
                "develop",
                include_str!("../../releases/develop/release.toml"),
            ),
        ]
        .into_iter()
        .map(|(name, text)| release::read(name, "release.toml", text).expect("our own descriptor"))
        .collect()
    })
}

/// Several documents, a NUL between them, through every stage up to what an
/// operator is shown.
pub fn metadata(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let layers = [Layer::File, Layer::Credential, Layer::CommandLine];
    let fragments: Vec<Fragment> = (0_u32..)
        .zip(text.split('\0').take(layers.len()))
        .map(|(order, text)| {
            let layer = layers[order as usize];
            Fragment::read(Origin::new(layer, order, format!("source {order}")), text)
        })
        .collect();
    let mut shown = format!("{fragments:?}");
    let merged = merge(fragments);
    let nowhere = merged.resolve(|_, reference| {
        Err(Unresolved {
            message: format!("no {reference}"),
            hint: "give it".into(),
        })
    });
    let somewhere = merged.resolve(|_, _| Ok(Secret::new("S3CR3T-0123456789abcdef")));
    // One of all combinations, by the length of the input: all of them at each
    // input would cost ten times the time.
    let pick = data.len();
    let resolved = [&nowhere, &somewhere][pick % 2];
    let role = Role::ALL[pick / 2 % Role::ALL.len()];
    let release = &releases()[pick / 8 % 2];
    judge(&merged, resolved, Target { role, release }, &mut shown);
    if pick.is_multiple_of(16) {
        let _ = write!(
            shown,
            "{:?}",
            check_roles(&merged, resolved, release, &Role::ALL)
        );
    }
    if !plain_text_has_mark(&merged) {
        assert!(!shown.contains(MARK), "a secret is shown");
    }
    read_again(&merged);
}

fn judge(merged: &Merged, resolved: &Resolved, target: Target<'_>, shown: &mut String) {
    let checked = check(merged, resolved, target);
    assert_eq!(checked.metadata.is_none(), !checked.problems.is_empty());
    let _ = write!(shown, "{checked:?} {merged:?} {resolved:?}");
    for (index, finding) in checked.problems.iter().chain(&checked.warnings).enumerate() {
        let problem = &finding.problem;
        let _ = write!(shown, "{problem}");
        // Each frame masks the whole text: a few of many are enough.
        if index < 4 {
            shown.push_str(&merged.frame(problem));
        }
    }
    for explained in explain(merged, None).expect("no path was asked for") {
        let _ = write!(shown, "{explained} {explained:?}");
    }
}

/// Does the mark stand where it may be shown: in a name, or in a value that is
/// no secret? Such a value has one line, and no user in front of a host.
fn plain_text_has_mark(merged: &Merged) -> bool {
    // Of what the sources are blamed for, only the name is theirs.
    let in_problem = merged
        .problems()
        .iter()
        .any(|finding| finding.problem.field.contains(MARK));
    let plain = |text: &String| {
        let one_line = !text.contains(['\n', '\r']);
        assert!(
            one_line && !secret::has_user(text) && secret::mask_urls(text) == *text,
            "a value that must not be shown is plain"
        );
        text.contains(MARK)
    };
    let has_mark = |path: &str, value: &Value| match value {
        // Of a DSN with a password everything else is shown.
        Value::Secret(secret) if path == "database.dsn" => {
            secret.expose().parse::<Dsn>().is_ok_and(|dsn| {
                dsn.password().is_some() && shown_without_password(&dsn).contains(MARK)
            })
        }
        Value::Secret(_) | Value::Integer(_) | Value::Boolean(_) => false,
        Value::Text(text)
        | Value::Float(text)
        | Value::Reference(Reference::Credential(text) | Reference::File(text)) => plain(text),
        Value::List(texts) => texts.iter().any(plain),
    };
    in_problem
        || merged.fields().any(|(path, field)| {
            path.contains(MARK)
                || std::iter::once(&field.winner)
                    .chain(&field.shadowed)
                    .any(|entry| has_mark(path, &entry.value))
        })
}

/// What is written of merged metadata is read as the same.
fn read_again(merged: &Merged) {
    let text = document::document(merged, |_| true);
    let origin = Origin::new(Layer::File, 0, "again");
    let again = merge([Fragment::read(origin, text.expose())]);
    assert!(again.problems().is_empty(), "{:?}", again.problems());
    assert_eq!(again.fields().count(), merged.fields().count());
    for (path, field) in merged.fields() {
        let read = again.get(path).map(|field| &field.winner.value);
        assert_eq!(read, Some(&field.winner.value), "{path}");
    }
}

/// The path of a field, a line break, and the text of its credential.
pub fn credential(data: &[u8]) {
    let Some((path, text)) = text(data).and_then(|text| text.split_once('\n')) else {
        return;
    };
    let origin = || Origin::new(Layer::FieldCredential, 0, "credential");
    let fragment = Fragment::single(origin(), path, text);
    assert_eq!(fragment.entries.len() + fragment.problems.len(), 1);
    if let Some(entry) = fragment.entries.first()
        && let Some(again) = document::single(entry)
    {
        let again = Fragment::single(origin(), path, again.expose());
        assert_eq!(
            again.entries.first().map(|entry| &entry.value),
            Some(&entry.value)
        );
    }
    let merged = merge([fragment]);
    let resolved = merged.resolve(|_, _| Ok(Secret::new(text)));
    let mut shown = String::new();
    let target = Target {
        role: Role::ALL[data.len() % Role::ALL.len()],
        release: &releases()[0],
    };
    judge(&merged, &resolved, target, &mut shown);
    if !plain_text_has_mark(&merged) && !path.contains(MARK) {
        assert!(!shown.contains(MARK), "a secret is shown");
    }
}

/// A data source name.
pub fn dsn(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<Dsn>() {
        Ok(dsn) => {
            let shown = dsn.to_string();
            if let Some(password) = dsn.password()
                && password.expose().contains(MARK)
                && !shown_without_password(&dsn).contains(MARK)
            {
                assert!(
                    !format!("{shown} {dsn:?}").contains(MARK),
                    "the password is shown"
                );
            }
            let again: Dsn = shown.parse().expect("what is shown parses");
            assert_eq!(again.hosts(), dsn.hosts());
            assert_eq!((again.user(), again.name()), (dsn.user(), dsn.name()));
        }
        Err(error) => {
            // An error's words are ours alone; what is wrong is not quoted.
            assert!(
                !format!("{error} {error:?}").contains(MARK),
                "an error quotes the DSN"
            );
        }
    }
}

fn shown_without_password(dsn: &Dsn) -> String {
    format!(
        "{} {:?} {} {:?}",
        dsn.user(),
        dsn.hosts(),
        dsn.name(),
        dsn.socket()
    )
}

/// A release descriptor.
pub fn release_descriptor(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match release::read("0.7", "release.toml", text) {
        Ok(release) => {
            for role in Role::ALL {
                let template = sf_contract::metadata::template::template(
                    &release,
                    role,
                    Some("n.example.com"),
                );
                let origin = Origin::new(Layer::File, 0, "template");
                let fragment = Fragment::read(origin, &template);
                assert!(fragment.problems.is_empty(), "{:?}", fragment.problems);
            }
        }
        Err(problems) => {
            for problem in problems {
                let _ = problem.frame(text, Disclosure::Full);
            }
        }
    }
}

/// An image's manifest.
pub fn manifest(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(manifest) = Manifest::parse(text) {
        let written = manifest.to_canonical_json();
        let again = Manifest::parse(&written).expect("our own words");
        assert_eq!(again.to_canonical_json(), written);
        let _ = manifest.without_digests();
    }
}

/// Versions, one a line: their order is total.
pub fn version(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for line in text.lines() {
        if let Ok(series) = line.parse::<Series>() {
            assert_eq!(series.to_string(), line);
        }
    }
    let versions: Vec<Version> = text
        .lines()
        .take(8)
        .filter_map(|line| line.parse().ok())
        .collect();
    for one in &versions {
        let again: Version = one.as_str().parse().expect("it was parsed before");
        assert_eq!(one.partial_cmp(&again), Some(std::cmp::Ordering::Equal));
        let _ = one.series().to_string();
        for other in &versions {
            let (order, reverse) = (one.partial_cmp(other), other.partial_cmp(one));
            assert_eq!(order.map(std::cmp::Ordering::reverse), reverse);
            for third in &versions {
                if one <= other && other <= third {
                    assert!(one <= third, "{one} {other} {third}");
                }
            }
        }
    }
}

/// A text from elsewhere, masked.
pub fn redaction(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let masked = secret::mask_urls(text);
    assert_eq!(secret::mask_urls(&masked), masked, "masking is idempotent");
    // As one word a user's password is gone, whatever is in it.
    let one_word = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'');
    let word: String = text.chars().filter(|c| one_word(*c)).collect();
    let shown = secret::mask_urls(&format!("http://u:{word}S3CR3T@h"));
    assert!(!shown.contains("S3CR3T"), "a password is masked to its end");
    let keys = sf_contract::problem::mask_values(text);
    assert_eq!(keys.len(), text.len(), "spans still fit");
    for line in text.lines() {
        let _ = secret::is_secret_key(line);
    }
}

/// An authority, a certificate and a key, a NUL between them; empty is absent.
pub fn pem(data: &[u8]) {
    /// 2026-12-01, within the corpus's certificates.
    const NOW: i64 = 1_796_083_200;
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut item = |field| {
        parts
            .next()
            .filter(|bytes| !bytes.is_empty())
            .map(|bytes| Item {
                field,
                source: "fuzz",
                file: None,
                bytes,
            })
    };
    let (ca, certificate, key) = (item("pki.ca"), item("pki.certificate"), item("pki.key"));
    let names = ["hv1.example.com".to_owned(), "10.0.0.11".to_owned()];
    for usage in [Usage::Node, Usage::Console] {
        let set = Set {
            ca,
            certificate,
            key,
            usage,
            names: &names,
        };
        let verdict = pki::judge(&set, NOW, Some(NOW - 86_400));
        let shown = format!("{verdict:?}");
        assert!(!shown.contains("PRIVATE KEY-----\n"), "a key is shown");
    }
    let _ = (pki::der_thing(data), pki::certificates(data));
}

/// An image of a config drive, ISO 9660 or FAT.
pub fn config_drive(data: &[u8]) {
    for path in [
        "user-data",
        "meta-data",
        "openstack/latest/user_data",
        "openstack/latest/meta_data.json",
    ] {
        match drive::read_file(data, path) {
            // A file cannot hold more than its drive, but for overlapping ISO extents.
            Ok(Some(content)) => assert!(content.len() <= 1 << 20, "{path} is not bounded"),
            Ok(None) => {}
            Err(error) => drop(error.to_string()),
        }
    }
}

/// The kernel command line, and what the agent makes of its parameters.
pub fn kernel_command_line(data: &[u8]) {
    let parameters = kernel::parameters(data);
    // A character for a byte that is wrong in a name, at most.
    let length: usize = parameters
        .iter()
        .map(|(name, value)| name.chars().count() + value.as_ref().map_or(0, Vec::len))
        .sum();
    assert!(length <= data.len(), "something was added");
    for value in parameters.iter().filter_map(|(_, value)| value.as_deref()) {
        if let Some(value) = text(value) {
            let _ = (Url::parse(value).is_ok(), Fingerprint::parse(value));
        }
    }
    if let Some(text) = text(data) {
        let _ = drive::unescaped(text);
    }
}

/// User data and the documents beside it, as clouds and drives give them.
pub fn user_data(data: &[u8]) {
    match envelope::user_data(data) {
        Ok(found) => drop(format!("{found:?}")),
        Err(foreign) => drop(format!("{foreign:?}")),
    }
    for id in [
        envelope::nocloud_instance_id(data),
        envelope::openstack_instance_id(data).ok().flatten(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!id.is_empty() && !id.contains(char::is_control), "{id:?}");
    }
}

/// A URL, then after a line break a bundle of authorities to believe.
pub fn url(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (url, pem) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(url) = Url::parse(url) {
        let shown = format!("{url} {url:?}");
        let path = url.target.split('?').next().unwrap_or_default();
        if !path.contains(MARK) && !url.authority.contains(MARK) {
            assert!(!shown.contains(MARK), "a query is shown");
        }
        assert!(!url.host.is_empty(), "{shown}");
    }
    let _ = Trust::authorities(pem, Fingerprint::parse(url)).is_ok();
}

/// What stands in /etc/hosts, in any encoding: what is outside the agent's
/// block is kept byte by byte.
pub fn hosts(data: &[u8]) {
    let kept = outside(data);
    assert_eq!(outside(&kept), kept, "a block is left");
    // Its lines are the file's, in their order.
    let mut lines = data.split_inclusive(|byte| *byte == b'\n');
    for line in kept.split_inclusive(|byte| *byte == b'\n') {
        assert!(lines.any(|one| one == line), "a line is another one");
    }
    if !data
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"# BEGIN sf-firstboot"))
    {
        assert_eq!(kept, data, "there is no block");
    }
}

/// What a database server says: its greeting, its version, its grants.
pub fn server(data: &[u8]) {
    let shown = database::understood(data);
    assert!(!shown.is_empty());
}
