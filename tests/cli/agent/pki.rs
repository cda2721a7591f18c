//! The certificates of a node's metadata: a run stops before it writes, a
//! check shows them, and the database is judged by the operator's authority.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use serde_json::Value;

use super::desk::at_desk;
use super::node::{Node, Ran};
use super::server::Server;

type Authority = CertifiedIssuer<'static, KeyPair>;

const PKI: &str = "[pki]\nca = { credential = \"ca.pem\" }\n\
    certificate = { credential = \"node.pem\" }\nkey = { credential = \"node.key\" }\n";

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Gives the node a certificate and returns its key.
fn equip(node: &Node, ca: &Authority, params: &CertificateParams) -> KeyPair {
    let key = KeyPair::generate().unwrap();
    node.credential("ca.pem", &ca.pem());
    node.credential("node.pem", &params.signed_by(&key, ca).unwrap().pem());
    node.credential("node.key", &key.serialize_pem());
    key
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr))
}

fn check<'r>(report: &'r Value, id: &str) -> &'r Value {
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["id"] == id)
        .unwrap()
}

#[test]
fn a_run_with_bad_certificates_stops_before_it_writes() {
    let server = Server::started();
    let ca = authority("Example Root");
    let mut expired = params("node5.example.com");
    expired.not_after = date_time_ymd(2021, 1, 1);
    for (params, code) in [
        (expired, "SF-PKI-EXPIRED"),
        (params("other.example.com"), "SF-PKI-NAME"),
    ] {
        let node = Node::new("database-tier");
        node.metadata(server.port, PKI);
        let key = equip(&node, &ca, &params);
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 78, "{}", ran.stderr);
        assert_eq!(node.status()["status"]["findings"][0]["code"], code);
        assert_eq!(server.dump(), "", "{code}");
        let console = node.console();
        assert!(
            console.contains(code) && console.contains("issuer CN=Example Root"),
            "{console}"
        );
        let secret = key.serialize_pem();
        let secret = secret.lines().nth(1).unwrap();
        for text in [&ran.stdout, &ran.stderr, &console, &node.journal()] {
            assert!(!text.contains(secret));
        }
    }
}

#[test]
fn good_certificates_are_shown_and_a_short_time_left_only_warns() {
    let server = Server::started();
    let ca = authority("Example Root");
    let node = Node::new("database-tier");
    node.metadata(server.port, PKI);
    equip(&node, &ca, &params("node5.example.com"));
    let ran = node.agent(&["check", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let report = json(&ran);
    let shown = check(&report, "pki")["note"].as_str().unwrap();
    assert!(shown.contains("names node5.example.com"), "{shown}");
    assert_eq!(check(&report, "pki-upkeep")["outcome"], "passed");

    // The key in a file that everybody reads.
    let node = Node::new("database-tier");
    let folder = node.root().join("etc/sf");
    std::fs::create_dir_all(&folder).unwrap();
    node.metadata(
        server.port,
        &PKI.replace("{ credential = \"node.key\" }", "\"/etc/sf/node.key\""),
    );
    let key = equip(&node, &ca, &params("node5.example.com"));
    std::fs::write(folder.join("node.key"), key.serialize_pem()).unwrap();
    std::fs::set_permissions(
        folder.join("node.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let report = json(&node.agent(&["check", "--json"]));
    assert_eq!(report["exit_code"], 0);
    let finding = &check(&report, "pki-upkeep")["findings"][0];
    assert_eq!(finding["code"], "SF-PKI-MODE");
    assert_eq!(
        finding["what"],
        "pki.key: /etc/sf/node.key can be read by every user (mode 0644)"
    );
}

#[test]
fn der_is_named_with_the_command_that_converts_it() {
    let node = Node::new("hypervisor");
    node.metadata(3306, PKI);
    let ca = authority("Example Root");
    equip(&node, &ca, &params("node5.example.com"));
    let path = node.root().join("run/credentials/@system/ca.pem");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, ca.der()).unwrap();
    let ran = node.agent(&["check", "--json"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let report = json(&ran);
    assert_eq!(report["code"], "SF-PKI-DER", "{report}");
    let remedy = report["findings"][0]["remedy"].as_str().unwrap();
    // The credential's own file on the node is no place to convert anything.
    assert_eq!(
        remedy,
        "convert it where the credential is made: openssl x509 -inform der -in FILE \
         -out FILE.converted.pem"
    );
}

#[test]
fn a_credential_of_one_field_is_judged_like_one_that_is_referred_to() {
    let node = Node::new("hypervisor");
    node.metadata(3306, "");
    let ca = authority("Example Root");
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = params("node5.example.com").signed_by(&pair, &ca).unwrap();
    node.credential("sf.pki.ca", &ca.pem());
    node.credential("sf.pki.certificate", &certificate.pem());
    let path = node.root().join("run/credentials/@system/sf.pki.key");
    let base64 = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCg==";
    for (key, code, what, remedy) in [
        (
            pair.serialized_der(),
            "SF-PKI-DER",
            "pki.key: is a private key in DER form, not PEM text",
            "convert it where the credential is made: openssl pkey -inform der -in FILE -out FILE.converted.pem",
        ),
        (
            certificate.der(),
            "SF-PKI-DER",
            "pki.key: is a certificate in DER form, not PEM text",
            "give the private key that belongs to the certificate",
        ),
        (
            b"",
            "SF-META-INVALID",
            "pki.key: is empty",
            "give a private key here",
        ),
        (
            base64.as_bytes(),
            "SF-META-INVALID",
            "pki.key: is PEM text wrapped in base64 once more",
            "unwrap it: base64 -d FILE",
        ),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "SF-META-INVALID",
            "pki.key: holds a certificate request, and no private key",
            "give the private key that the request was made with",
        ),
    ] {
        std::fs::write(&path, key).unwrap();
        let ran = node.agent(&["check", "--json"]);
        assert_eq!(ran.code, 78, "{}", ran.stderr);
        let finding = &json(&ran)["findings"][0];
        // And nothing is said of the certificate, which has its key.
        assert_eq!(
            (&finding["code"], &finding["what"], &finding["remedy"]),
            (&code.into(), &what.into(), &remedy.into()),
            "{finding}"
        );
        assert_eq!(finding["source"], "credential sf.pki.key");
    }
    // By hand the same is said as to the unit, for which systemd gathers and opens them.
    std::fs::remove_file(&path).unwrap();
    node.program("usr/bin/systemd-creds", "cat \"$3\"");
    for store in ["etc/credstore", "run/credentials/@encrypted"] {
        let folder = node.root().join(store);
        std::fs::create_dir_all(&folder).unwrap();
        let key = folder.join("sf.pki.key");
        std::fs::write(&key, pair.serialized_der()).unwrap();
        let ran = node.agent(&["check", "--json"]);
        let finding = &json(&ran)["findings"][0];
        assert_eq!(finding["code"], "SF-PKI-DER", "{store}: {finding}");
        std::fs::remove_file(&key).unwrap();
    }
}

#[test]
fn at_a_desk_what_only_the_node_has_is_left_to_it() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, PKI);
    let ran = at_desk(&node, &["check", "--role", "database-tier"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for field in ["pki.ca", "pki.certificate", "pki.key"] {
        assert!(
            ran.stdout
                .contains(&format!("judge      {field}, which only the node has")),
            "{}",
            ran.stdout
        );
    }
    // What would be written by hand from here must be here.
    let ran = at_desk(&node, &["bootstrap-cluster"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    // And without the DSN there is nothing to check.
    node.edit("dsn = \"mysql://", "dsn = { credential = \"absent\" } # \"");
    let ran = at_desk(&node, &["check", "--role", "database-tier"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
}

#[test]
fn the_database_is_judged_by_the_operators_authority() {
    let mut server = Server::prepared();
    let (ca, other) = (authority("Example Root"), authority("Other Root"));
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params("127.0.0.1").signed_by(&key, &ca).unwrap();
    let (cert, secret) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&cert, certificate.pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    server.options = vec![
        format!("--ssl-cert={}", cert.display()),
        format!("--ssl-key={}", secret.display()),
    ];
    server.start();
    let node = Node::new("database-tier");
    node.metadata(server.port, "[pki]\nca = { credential = \"ca.pem\" }\n");
    node.edit("/shakenfist\"", "/shakenfist?ssl-mode=verify-identity\"");
    node.credential("ca.pem", &ca.pem());
    let ran = node.agent(&["check", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let report = json(&ran);
    let shown = check(&report, "database")["note"].as_str().unwrap();
    assert!(
        shown.contains("TLSv1.3 ") && shown.ends_with("(ssl-mode=verify-identity)"),
        "{shown}"
    );

    std::fs::remove_file(node.root().join("run/credentials/@system/ca.pem")).unwrap();
    node.credential("ca.pem", &other.pem());
    let ran = node.agent(&["run"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert_eq!(
        node.status()["status"]["findings"][0]["code"],
        "SF-DB-TLS-ISSUER"
    );
    assert_eq!(server.dump(), "");
}

/// Boots that leave the preflight out do not hide that time runs out.
#[test]
fn a_certificate_that_ends_soon_is_told_at_every_boot() {
    let server = Server::started();
    let node = Node::new("database-tier");
    node.metadata(server.port, PKI);
    let mut short = params("node5.example.com");
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 10);
    let end = end.to_string();
    let number = |range: std::ops::Range<usize>| end[range].parse::<i32>().unwrap();
    short.not_after = date_time_ymd(
        number(0..4),
        u8::try_from(number(5..7)).unwrap(),
        u8::try_from(number(8..10)).unwrap(),
    );
    equip(&node, &authority("Example Root"), &short);
    for run in ["first", "second"] {
        let ran = node.agent(&["run"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("SF-PKI-EXPIRING"),
            "{run}: {}",
            ran.stderr
        );
        assert_eq!(
            ran.stderr.contains("preflight and bootstrap are skipped"),
            run == "second",
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_certificate_without_an_authority_is_said_to_be_judged_by_none() {
    let node = Node::new("hypervisor");
    node.metadata(3306, "");
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = params("node5.example.com")
        .signed_by(&pair, &authority("Example Root"))
        .unwrap();
    node.credential("sf.pki.certificate", &certificate.pem());
    node.credential("sf.pki.key", &pair.serialize_pem());
    let report = json(&node.agent(&["check", "--json"]));
    let checks = report["checks"].as_array().unwrap();
    let pki = checks.iter().find(|check| check["id"] == "pki").unwrap();
    let said = pki["note"].as_str().unwrap_or_default();
    assert!(
        said.ends_with("no pki.ca is given: whose it is was not judged"),
        "{pki}"
    );
}
