//! What authorities and operators really hand out: old roots in bundles,
//! cross-signatures, containers of Windows, keys of every kind.

use std::fmt::Write as _;

use rcgen::{GeneralSubtree, KeyPair, NameConstraints, SanType};
use sf_command::{Cmd, Tool};

use super::*;

/// An authority whose certificate is over; the key can sign for another one too.
fn expired(name: &str) -> CertificateParams {
    let mut params = authority_params(name);
    params.not_before = date_time_ymd(2015, 1, 1);
    params.not_after = date_time_ymd(2026, 5, 1);
    params
}

#[test]
fn an_old_root_in_a_bundle_stops_nothing() {
    let pair = Pair::new();
    let (leaf, key) = (pair.sign(&node_params()), pair.key.serialize_pem());
    let old = CertifiedIssuer::self_signed(expired("Old Root"), KeyPair::generate().unwrap());
    let old = old.unwrap().pem();
    let mut soon = authority_params("Next Root");
    soon.not_before = date_time_ymd(2026, 7, 1);
    let next = soon.self_signed(&KeyPair::generate().unwrap()).unwrap();

    let bundle = format!("{old}{}{}", pair.ca.pem(), next.pem());
    let verdict = node(&bundle, &leaf, &key);
    assert_eq!(lines(&verdict.findings), [""; 0]);
    assert_eq!(
        lines(&verdict.warnings),
        [
            "SF-PKI-EXPIRED pki.ca: CN=Old Root expired on 2026-05-01 00:00 UTC; nothing here \
             depends on it",
            "SF-PKI-NOT-YET-VALID pki.ca: CN=Next Root is valid only from 2026-07-01 00:00 UTC on; \
             nothing here depends on it",
        ]
    );
    // The bundle alone, for the database.
    let verdict = judged(Usage::Node, [Some(bundle.as_bytes()), None, None], NOW);
    assert_eq!(lines(&verdict.findings), [""; 0]);
    // Where the node's own comes from the old one, it stops as before.
    let verdict = judged(Usage::Node, [Some(old.as_bytes()), None, None], NOW);
    assert_eq!(codes(&verdict), ["SF-PKI-EXPIRED"]);
    let old = CertifiedIssuer::self_signed(expired("Old Root"), KeyPair::generate().unwrap());
    let old = old.unwrap();
    let leaf = node_params().signed_by(&pair.key, &old).unwrap().pem();
    let verdict = node(&format!("{}{}", old.pem(), pair.ca.pem()), &leaf, &key);
    assert_eq!(
        lines(&verdict.findings),
        ["SF-PKI-EXPIRED pki.ca: CN=Old Root expired on 2026-05-01 00:00 UTC, 31 days ago"]
    );
}

#[test]
fn only_what_will_be_missed_is_said_to_stop_the_node() {
    let pair = Pair::new();
    let (leaf, key) = (pair.sign(&node_params()), pair.key.serialize_pem());
    let mut ending = authority_params("Ending Root");
    ending.not_after = date_time_ymd(2026, 6, 11);
    let ending = CertifiedIssuer::self_signed(ending, KeyPair::generate().unwrap()).unwrap();
    let bundle = format!("{}{}", ending.pem(), pair.ca.pem());
    let remedies = |leaf: &str| {
        let verdict = node(&bundle, leaf, &key);
        assert_eq!(codes(&verdict), ["SF-PKI-EXPIRING"]);
        verdict.warnings[0].remedy_text().to_owned()
    };
    assert!(remedies(&leaf).starts_with("Nothing here depends on it"));
    let leaf = node_params().signed_by(&pair.key, &ending).unwrap().pem();
    assert!(remedies(&leaf).starts_with("Renew it before that day"));
}

/// As with the public authority whose cross-signature ended in 2021: the chain
/// ends in a certificate of the new root by the old one, which is over.
#[test]
fn a_cross_signature_that_is_over_stops_nothing() {
    let pair = Pair::new();
    let old = CertifiedIssuer::self_signed(expired("Old Root"), KeyPair::generate().unwrap());
    let cross = expired("Example Root");
    let cross = cross.signed_by(pair.ca.key(), &old.unwrap()).unwrap().pem();
    let (leaf, key) = (pair.sign(&node_params()), pair.key.serialize_pem());
    let verdict = node(&pair.ca.pem(), &format!("{leaf}{cross}"), &key);
    assert_eq!(lines(&verdict.findings), [""; 0]);
    assert_eq!(codes(&verdict), ["SF-PKI-EXPIRED"]);

    // An intermediate that is over and needed is a finding.
    let mut params = expired("Example Issuing");
    params.distinguished_name = authority_params("Example Issuing").distinguished_name;
    let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &pair.ca);
    let between = between.unwrap();
    let leaf = node_params().signed_by(&pair.key, &between).unwrap().pem();
    let verdict = node(&pair.ca.pem(), &format!("{leaf}{}", between.pem()), &key);
    assert_eq!(
        lines(&verdict.findings),
        [
            "SF-PKI-EXPIRED pki.certificate: CN=Example Issuing expired on 2026-05-01 00:00 UTC, 31 \
             days ago"
        ]
    );
}

#[test]
fn a_chain_that_does_not_hold_says_why_in_words() {
    let pair = Pair::new();
    let key = pair.key.serialize_pem();
    let root = |change: Spoil| {
        let mut params = authority_params("Narrow Root");
        change(&mut params);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let judge = |root: &Authority, change: Spoil| {
        let mut params = node_params();
        change(&mut params);
        let leaf = params.signed_by(&pair.key, root).unwrap().pem();
        node(&root.pem(), &leaf, &key)
    };
    let elsewhere = root(|params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.org".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let named = judge(&elsewhere, |_| {});
    assert_eq!(
        lines(&named.findings),
        [
            "SF-PKI-CHAIN pki.certificate: CN=hv1.example.com has names that its authority may not \
             issue for: hv1.example.com, 10.0.0.11 (the authority's name constraints)"
        ]
    );
    assert!(named.findings[0].remedy_text().contains("nameConstraints"));

    // An extension that must be understood and is not. It is no matter of names.
    let critical: Spoil = |params| {
        let mut extension =
            rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x0c, 1, b'x']);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
    };
    let verdict = judge(&root(|_| {}), critical);
    let what = "SF-PKI-CHAIN pki.certificate: CN=hv1.example.com or its chain has a critical \
                extension that TLS in the agent does not know";
    assert_eq!(lines(&verdict.findings), [what]);
    let mut params = node_params();
    critical(&mut params);
    let (leaf, key) = (pair.sign(&params), pair.key.serialize_pem());
    let texts = [None, Some(leaf.as_bytes()), Some(key.as_bytes())];
    assert_eq!(lines(&judged(Usage::Node, texts, NOW).findings), [what]);
}

#[test]
fn what_peers_do_not_take_is_not_taken_here() {
    let pair = Pair::new();
    let key = pair.key.serialize_pem();
    // OpenSSL: "unsuitable certificate purpose".
    let mut any = node_params();
    any.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    let verdict = node(&pair.ca.pem(), &pair.sign(&any), &key);
    assert_eq!(
        lines(&verdict.findings),
        [
            "SF-PKI-USAGE pki.certificate: the extended key usage of CN=hv1.example.com lacks \
             serverAuth and clientAuth"
        ]
    );
    // An authority that issues for servers alone, as the public ones do.
    let mut servers = authority_params("Servers Only");
    servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let between =
        CertifiedIssuer::signed_by(servers, KeyPair::generate().unwrap(), &pair.ca).unwrap();
    let leaf = node_params().signed_by(&pair.key, &between).unwrap().pem();
    let (ca, chain) = (pair.ca.pem(), format!("{leaf}{}", between.pem()));
    let texts = [ca.as_bytes(), chain.as_bytes(), key.as_bytes()].map(Some);
    assert_eq!(
        lines(&judged(Usage::Node, texts, NOW).findings),
        [
            "SF-PKI-CHAIN pki.certificate: an authority of the chain of CN=hv1.example.com may not \
             issue for this use: its own extended key usage leaves out serverAuth or clientAuth"
        ]
    );
    // A console only serves.
    assert_eq!(lines(&judged(Usage::Console, texts, NOW).findings), [""; 0]);
}

#[test]
fn an_address_as_a_dns_name_is_called_that() {
    let pair = Pair::new();
    let mut params = node_params();
    params.subject_alt_names = vec![
        SanType::DnsName("192.0.2.11".try_into().unwrap()),
        SanType::Rfc822Name("ops@example.com".try_into().unwrap()),
    ];
    let (ca, leaf) = (pair.ca.pem(), pair.sign(&params));
    let texts = [Some(ca.as_bytes()), Some(leaf.as_bytes()), None];
    assert_eq!(
        lines(&judged(Usage::Console, texts, NOW).warnings),
        [
            "SF-PKI-NAME pki.certificate: CN=hv1.example.com is not for hv1.example.com or \
             192.0.2.11: it is for 192.0.2.11 as a DNS name, email ops@example.com"
        ]
    );
}

/// A folder in which openssl works.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn openssl(&self, line: &str) {
        Cmd::new(Tool::Openssl)
            .args(line.split_whitespace())
            .cwd(self.0.path())
            .run()
            .unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    /// A key and an authority that signed itself with it.
    fn root(&self, name: &str, algorithm: &str) {
        self.openssl(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={name} -days 3650 -out {name}.pem \
             -addext keyUsage=keyCertSign"
        ));
    }
}

#[test]
fn keys_that_cannot_be_used_are_called_by_their_kind() {
    let desk = Desk::new();
    desk.openssl("genrsa -3 -out three 2048");
    let mut shown = String::new();
    for (what, options) in [
        ("RSA-1024", "RSA -pkeyopt rsa_keygen_bits:1024"),
        ("RSA-PSS", "RSA-PSS -pkeyopt rsa_keygen_bits:2048"),
        ("P-521", "EC -pkeyopt ec_paramgen_curve:P-521"),
        ("secp256k1", "EC -pkeyopt ec_paramgen_curve:secp256k1"),
        (
            "P-256-in-full",
            "EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit",
        ),
        ("Ed448", "ED448"),
        ("X25519", "X25519"),
        ("three", ""),
    ] {
        if !options.is_empty() {
            desk.openssl(&format!("genpkey -algorithm {options} -out {what}"));
        }
        let has_two =
            options.is_empty() || options.starts_with("RSA ") || options.starts_with("EC");
        for form in ["", "-traditional"].iter().take(1 + usize::from(has_two)) {
            desk.openssl(&format!("pkey -in {what} {form} -out form"));
            let key = desk.read("form");
            let verdict = judged(Usage::Node, [None, None, Some(&key)], NOW);
            for line in lines(&verdict.findings) {
                shown.extend([what, form, ": ", &line, "\n"]);
            }
        }
    }
    insta::assert_snapshot!(shown);
    // Damaged: a kind that is known, and nothing behind it.
    let damaged = b"-----BEGIN PRIVATE KEY-----\nMAUCAQAwAA==\n-----END PRIVATE KEY-----\n";
    let verdict = judged(Usage::Node, [None, None, Some(damaged)], NOW);
    assert_eq!(
        lines(&verdict.findings),
        ["SF-PKI-SYNTAX pki.key: the PRIVATE KEY is damaged"]
    );
}

#[test]
fn signatures_that_do_not_count_are_named() {
    let desk = Desk::new();
    desk.root("short", "RSA -pkeyopt rsa_keygen_bits:1024");
    desk.root("curve", "EC -pkeyopt ec_paramgen_curve:P-521");
    desk.root("good", "EC -pkeyopt ec_paramgen_curve:P-256");
    desk.openssl("genpkey -algorithm ED25519 -out key");
    desk.openssl("req -new -key key -subj /CN=hv1.example.com -out request");
    std::fs::write(
        desk.0.path().join("extensions"),
        "subjectAltName=DNS:hv1.example.com\n",
    )
    .unwrap();
    let mut shown = String::new();
    for (root, options) in [
        ("short", "-extfile extensions"),
        ("curve", "-extfile extensions"),
        ("good", "-extfile extensions -sha1"),
        ("good", "-extfile extensions"),
    ] {
        desk.openssl(&format!(
            "x509 -req -in request -CA {root}.pem -CAkey {root}.key -days 365 -out leaf {options}"
        ));
        let now = crate::clock::now_seconds();
        let (ca, leaf, key) = (
            desk.read(&format!("{root}.pem")),
            desk.read("leaf"),
            desk.read("key"),
        );
        let verdict = judged(Usage::Node, [Some(&ca), Some(&leaf), Some(&key)], now);
        for finding in &verdict.findings {
            writeln!(
                shown,
                "{root} {options}: {} {} {:?} | {}",
                finding.code.id,
                finding.what,
                finding.causes,
                finding.remedy_text()
            )
            .unwrap();
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn forms_that_openssl_would_not_find_are_refused() {
    let pair = Pair::new();
    let (ca, certificate) = (pair.ca.pem(), pair.sign(&node_params()));
    let key = pair.key.serialize_pem();
    let check = |ca: &str, certificate: &str| lines(&node(ca, certificate, &key).findings);
    // These it reads.
    let crlf = |text: &str| text.replace('\n', "\r\n");
    assert_eq!(check(&crlf(&ca), &crlf(&certificate)), [""; 0]);
    let preamble = format!("Certificate:\n    Data:\n        Version: 3 (0x2)\n{certificate}");
    assert_eq!(check(&ca, &preamble), [""; 0]);
    // And these it does not.
    let indented = certificate.replace('\n', "\n    ");
    let marked = format!("\u{feff}{ca}");
    let what = "is indented, and OpenSSL finds no block that is";
    assert_eq!(
        check(&marked, &indented),
        [
            format!("SF-PKI-SYNTAX pki.ca: the block CERTIFICATE of line 1 {what}"),
            format!("SF-PKI-SYNTAX pki.certificate: the block CERTIFICATE of line 1 {what}"),
        ]
    );
}

#[test]
fn containers_and_short_der_are_known() {
    let desk = Desk::new();
    desk.root("ca", "EC -pkeyopt ec_paramgen_curve:P-256");
    desk.openssl("genpkey -algorithm ED25519 -out small.pem");
    desk.openssl("pkcs12 -export -in ca.pem -inkey ca.key -passout pass: -out a.pfx");
    desk.openssl("crl2pkcs7 -nocrl -certfile ca.pem -outform der -out a.p7b");
    desk.openssl("pkey -in small.pem -outform der -out small.key");
    desk.openssl("ec -in ca.key -outform der -out sec1.key");
    desk.openssl("x509 -in ca.pem -outform der -out a.crt");
    desk.openssl("pkcs8 -topk8 -in ca.key -outform der -passout pass:x -out locked.key");
    desk.openssl("pkey -in small.pem -pubout -outform der -out small.pub");
    desk.openssl("pkey -in ca.key -pubout -outform der -out public.der");
    desk.openssl("req -new -key ca.key -subj /CN=x -outform der -out a.csr");
    desk.openssl("x509 -in ca.pem -trustout -addtrust serverAuth -out trusted.pem");
    for (name, private, thing) in [
        ("a.pfx", false, Thing::Pkcs12),
        ("a.pfx", true, Thing::Pkcs12),
        ("a.p7b", false, Thing::Pkcs7),
        ("small.key", true, Thing::Key),
        ("sec1.key", true, Thing::Key),
        ("locked.key", true, Thing::EncryptedKey),
        ("a.crt", false, Thing::Certificate),
    ] {
        assert_eq!(der_thing(&desk.read(name)), Some(thing), "{name}");
        // The command that is advised works, and leads to what is wanted.
        let command = thing.conversion(private, name).unwrap();
        let (line, made) = command.split_once(" -out ").unwrap();
        let pass = match thing {
            Thing::Pkcs12 => "-passin pass:",
            Thing::EncryptedKey => "-passin pass:x",
            _ => "",
        };
        desk.openssl(&format!(
            "{} {pass} -out {made}",
            line.strip_prefix("openssl ").unwrap()
        ));
        let text = String::from_utf8(desk.read(made)).unwrap();
        let label = if private {
            "PRIVATE KEY-----"
        } else {
            "-----BEGIN CERTIFICATE-----"
        };
        assert!(text.contains(label), "{command}: {text}");
    }
    // No command makes of these what is wanted.
    for (name, private, thing, remedy) in [
        ("a.crt", true, Thing::Certificate, "give the private key"),
        ("a.p7b", true, Thing::Pkcs7, "give the private key"),
        ("a.csr", true, Thing::Request, "the request was made with"),
        ("a.csr", false, Thing::Request, "that the authority made"),
        ("small.pub", true, Thing::PublicKey, "the private half"),
        ("public.der", false, Thing::PublicKey, "give certificates"),
        ("small.key", false, Thing::Key, "give certificates"),
        (
            "locked.key",
            false,
            Thing::EncryptedKey,
            "give certificates",
        ),
    ] {
        assert_eq!(der_thing(&desk.read(name)), Some(thing), "{name}");
        let said = thing.remedy(private, Some(name));
        assert!(
            said.contains(remedy) && !said.contains("openssl"),
            "{name}: {said}"
        );
    }
    assert_eq!(
        der_thing(b"0\x2e not a key, but a text as long as one says it is"),
        None
    );
    let verdict = judged(
        Usage::Node,
        [Some(&desk.read("trusted.pem")), None, None],
        NOW,
    );
    assert!(
        verdict.findings[0]
            .remedy_text()
            .contains("openssl x509 -in FILE"),
        "{:?}",
        verdict.findings
    );
}
