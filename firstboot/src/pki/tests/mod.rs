//! Every mistake with certificates has its own finding. The certificates are
//! made here; the time is given.

mod forms;
mod leaks;
mod real;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::*;
use crate::failure::Failure;

/// 2026-06-01.
const NOW: i64 = 1_780_272_000;

type Spoil = fn(&mut CertificateParams);
type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str, alternatives: &[&str]) -> CertificateParams {
    let names: Vec<String> = alternatives.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = named(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn node_params() -> CertificateParams {
    let mut params = named("hv1.example.com", &["hv1.example.com", "10.0.0.11"]);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

/// A good set, for tests to spoil.
struct Pair {
    ca: Authority,
    key: KeyPair,
}

impl Pair {
    fn new() -> Self {
        Self {
            ca: authority("Example Root"),
            key: KeyPair::generate().unwrap(),
        }
    }

    fn sign(&self, params: &CertificateParams) -> String {
        params.signed_by(&self.key, &self.ca).unwrap().pem()
    }
}

fn judged(usage: Usage, texts: [Option<&[u8]>; 3], now: i64) -> Verdict {
    let item = |field, bytes| Item {
        field,
        source: "/etc/sf/metadata.toml:9",
        file: None,
        bytes,
    };
    let names = ["hv1.example.com".to_owned(), "192.0.2.11".to_owned()];
    let set = Set {
        ca: texts[0].map(|bytes| item("pki.ca", bytes)),
        certificate: texts[1].map(|bytes| item("pki.certificate", bytes)),
        key: texts[2].map(|bytes| item("pki.key", bytes)),
        usage,
        names: &names,
    };
    judge(&set, now, Some(1_767_225_600))
}

fn node(ca: &str, certificate: &str, key: &str) -> Verdict {
    let texts = [ca, certificate, key].map(|text| Some(text.as_bytes()));
    judged(Usage::Node, texts, NOW)
}

/// `CODE what`, one line for each.
fn lines(failures: &[Failure]) -> Vec<String> {
    failures
        .iter()
        .map(|failure| format!("{} {}", failure.code.id, failure.what))
        .collect()
}

fn codes(verdict: &Verdict) -> Vec<&'static str> {
    let findings = verdict.findings.iter().chain(&verdict.warnings);
    findings.map(|failure| failure.code.id).collect()
}

#[test]
fn a_good_set_has_no_findings_and_can_be_shown() {
    let pair = Pair::new();
    let verdict = node(
        &pair.ca.pem(),
        &pair.sign(&node_params()),
        &pair.key.serialize_pem(),
    );
    assert_eq!(codes(&verdict), [""; 0]);
    assert_eq!(
        verdict.leaf.unwrap().to_string(),
        "subject CN=hv1.example.com, issuer CN=Example Root, valid 2026-01-01 00:00 UTC to \
         2027-01-01 00:00 UTC, names hv1.example.com, 10.0.0.11"
    );
    // A wildcard will do, and so will a certificate without usages.
    let mut loose = named("any", &["*.example.com"]);
    loose.is_ca = IsCa::NoCa;
    let verdict = node(
        &pair.ca.pem(),
        &pair.sign(&loose),
        &pair.key.serialize_pem(),
    );
    assert_eq!(codes(&verdict), [""; 0]);
}

#[test]
fn each_mistake_in_a_certificate_has_its_own_finding() {
    let pair = Pair::new();
    let table: [(&str, Spoil, &str); 9] = [
        (
            "SF-PKI-EXPIRED",
            |params| params.not_after = date_time_ymd(2026, 5, 29),
            "pki.certificate: CN=hv1.example.com expired on 2026-05-29 00:00 UTC, 3 days ago",
        ),
        (
            "SF-PKI-EXPIRING",
            |params| params.not_after = date_time_ymd(2026, 6, 11),
            "pki.certificate: CN=hv1.example.com expires on 2026-06-11 00:00 UTC: 10 days left",
        ),
        (
            "SF-PKI-NOT-YET-VALID",
            |params| params.not_before = date_time_ymd(2026, 6, 2),
            "pki.certificate: CN=hv1.example.com is valid only from 2026-06-02 00:00 UTC on",
        ),
        (
            "SF-PKI-NAME",
            |params| params.subject_alt_names = named("x", &["hv2.example.com"]).subject_alt_names,
            "pki.certificate: CN=hv1.example.com is not for hv1.example.com: it is for hv2.example.com",
        ),
        (
            "SF-PKI-NAME",
            |params| params.subject_alt_names = Vec::new(),
            "pki.certificate: CN=hv1.example.com is not for hv1.example.com: it carries no names at all: \
             the common name hv1.example.com has not counted since RFC 6125, only subjectAltName does",
        ),
        (
            "SF-PKI-USAGE",
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            "pki.certificate: the extended key usage of CN=hv1.example.com lacks clientAuth",
        ),
        (
            "SF-PKI-USAGE",
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
            "pki.certificate: the extended key usage of CN=hv1.example.com lacks serverAuth and clientAuth",
        ),
        (
            "SF-PKI-USAGE",
            |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            "pki.certificate: CN=hv1.example.com may not sign handshakes: its key usage lacks digitalSignature",
        ),
        (
            "SF-PKI-USAGE",
            |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "pki.certificate: CN=hv1.example.com is an authority's certificate (CA:TRUE), not a node's",
        ),
    ];
    for (code, spoil, what) in table {
        let mut params = node_params();
        spoil(&mut params);
        let verdict = node(
            &pair.ca.pem(),
            &pair.sign(&params),
            &pair.key.serialize_pem(),
        );
        let all: Vec<Failure> = verdict
            .findings
            .into_iter()
            .chain(verdict.warnings)
            .collect();
        assert_eq!(lines(&all), [format!("{code} {what}")]);
        let failure = &all[0];
        assert!(
            code != "SF-PKI-NAME"
                || failure.remedy_text()
                    == "Have it issued with subjectAltName = DNS:hv1.example.com, or correct node.name.",
            "no more than the rule asks for: {failure:?}"
        );
        assert!(
            failure
                .value
                .as_ref()
                .unwrap()
                .contains("issuer CN=Example Root"),
            "{failure:?}"
        );
        assert_eq!(failure.source.as_deref(), Some("/etc/sf/metadata.toml:9"));
    }
}

#[test]
fn a_clock_before_the_image_is_blamed_in_place_of_the_certificate() {
    let pair = Pair::new();
    let (ca, certificate) = (pair.ca.pem(), pair.sign(&node_params()));
    let texts = [Some(ca.as_bytes()), Some(certificate.as_bytes()), None];
    // 2019-07-01
    let verdict = judged(Usage::Node, texts, 1_561_939_200);
    assert_eq!(
        codes(&verdict),
        ["SF-PKI-NOT-YET-VALID", "SF-PKI-NOT-YET-VALID"]
    );
    let remedy = verdict.findings[0].remedy_text();
    assert!(
        remedy.contains("clock says 2019-07-01 00:00 UTC, and its image was made on 2026-01-01"),
        "{remedy}"
    );
    assert!(
        verdict.findings[0].kind().retried(),
        "time may be synchronised late"
    );
}

#[test]
fn chains_that_do_not_hold_say_where_they_break() {
    let pair = Pair::new();
    let key = pair.key.serialize_pem();
    let leaf = pair.sign(&node_params());

    let other = authority("Other Root");
    let verdict = node(&other.pem(), &leaf, &key);
    assert_eq!(
        lines(&verdict.findings),
        [
            "SF-PKI-CHAIN pki.certificate: CN=hv1.example.com was issued by CN=Example Root, which is \
          neither in the chain nor in pki.ca (CN=Other Root)"
        ]
    );
    let again = authority("Example Root");
    let verdict = node(&again.pem(), &leaf, &key);
    assert!(
        lines(&verdict.findings)[0].ends_with("was the authority made anew?"),
        "{:?}",
        lines(&verdict.findings)
    );
    let alone = node_params().self_signed(&pair.key).unwrap().pem();
    let verdict = node(&pair.ca.pem(), &alone, &key);
    assert_eq!(
        lines(&verdict.findings),
        [
            "SF-PKI-CHAIN pki.certificate: CN=hv1.example.com signed itself, and pki.ca is CN=Example Root"
        ]
    );
    let not_an_authority = node(&leaf, &leaf, &key);
    assert!(
        lines(&not_an_authority.findings)[0]
            .starts_with("SF-PKI-USAGE pki.ca: CN=hv1.example.com is no authority"),
        "{:?}",
        lines(&not_an_authority.findings)
    );
}

#[test]
fn intermediates_are_followed_and_the_leaf_comes_first() {
    let pair = Pair::new();
    let key = pair.key.serialize_pem();
    let between = CertifiedIssuer::signed_by(
        authority_params("Example Issuing"),
        KeyPair::generate().unwrap(),
        &pair.ca,
    )
    .unwrap();
    let leaf = node_params().signed_by(&pair.key, &between).unwrap().pem();
    let (root, middle) = (pair.ca.pem(), between.pem());

    assert_eq!(
        codes(&node(&root, &format!("{leaf}{middle}"), &key)),
        [""; 0]
    );
    // In the trust store is as good as in the chain.
    assert_eq!(
        codes(&node(&format!("{root}{middle}"), &leaf, &key)),
        [""; 0]
    );
    let verdict = node(&root, &leaf, &key);
    assert!(
        lines(&verdict.findings)[0].contains("was issued by CN=Example Issuing, which is neither"),
        "{:?}",
        lines(&verdict.findings)
    );
    let verdict = node(&root, &format!("{middle}{root}{leaf}"), &key);
    assert_eq!(
        lines(&verdict.findings),
        [
            "SF-PKI-ORDER pki.certificate: the chain is in the wrong order: CN=Example Issuing comes \
          first, and the node's own certificate, CN=hv1.example.com, only at position 3"
        ]
    );
    // An intermediate that may not sign.
    let mut weak = node_params();
    weak.distinguished_name = named("Example Issuing", &[]).distinguished_name;
    let weak = CertifiedIssuer::signed_by(weak, KeyPair::generate().unwrap(), &pair.ca).unwrap();
    let leaf = node_params().signed_by(&pair.key, &weak).unwrap().pem();
    let verdict = node(&root, &format!("{leaf}{}", weak.pem()), &key);
    assert_eq!(codes(&verdict), ["SF-PKI-CHAIN"]);
}

#[test]
fn several_mistakes_are_reported_together() {
    let pair = Pair::new();
    let mut params = node_params();
    params.not_after = date_time_ymd(2026, 5, 1);
    params.subject_alt_names = named("x", &["old.example.com"]).subject_alt_names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let another = KeyPair::generate().unwrap();
    let verdict = node(
        &authority("Other Root").pem(),
        &pair.sign(&params),
        &another.serialize_pem(),
    );
    assert_eq!(
        codes(&verdict),
        [
            "SF-PKI-EXPIRED",
            "SF-PKI-USAGE",
            "SF-PKI-NAME",
            "SF-PKI-KEY-MISMATCH",
            "SF-PKI-CHAIN"
        ]
    );
}

#[test]
fn consoles_need_one_name_and_no_client_usage() {
    let pair = Pair::new();
    let mut params = node_params();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for (names, warnings) in [
        (vec!["192.0.2.11"], vec![]),
        (vec!["hv1.example.com"], vec![]),
        (
            vec!["consoles.example.com"],
            vec![
                "SF-PKI-NAME pki.certificate: CN=hv1.example.com is not for hv1.example.com or \
                  192.0.2.11: it is for consoles.example.com",
            ],
        ),
    ] {
        params.subject_alt_names = named("x", &names).subject_alt_names;
        let (ca, certificate) = (pair.ca.pem(), pair.sign(&params));
        let texts = [Some(ca.as_bytes()), Some(certificate.as_bytes()), None];
        let verdict = judged(Usage::Console, texts, NOW);
        assert_eq!(lines(&verdict.findings), [""; 0]);
        assert_eq!(lines(&verdict.warnings), warnings);
    }
}
