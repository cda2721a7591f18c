//! TLS with the database, in every `ssl-mode`, against real servers with
//! certificates that are made here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use sf_command::{Cmd, Tool};
use sf_firstboot::database::Connector;
use sf_firstboot::failure::Failure;
use support::{PASSWORD, Server, block_on, connector, shared};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.pem` and `NAME.key` of a server's certificate.
fn certificate(folder: &Path, name: &str, ca: &Authority, names: &[&str], years: (i32, i32)) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, ca).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), signed.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn options(folder: &Path, name: &str) -> [String; 2] {
    let file = |kind: &str| folder.join(format!("{name}.{kind}")).display().to_string();
    [
        format!("--ssl-cert={}", file("pem")),
        format!("--ssl-key={}", file("key")),
    ]
}

/// Protocol and cipher, or the failure.
fn attempt(connector: &Connector) -> Result<Option<String>, Failure> {
    block_on(async {
        let mut session = connector.connect().await?;
        let need = sf_firstboot::database::preflight::Need {
            role: sf_contract::role::Role::Hypervisor,
            bootstraps: false,
            schema: &sf_contract::release::Schema::Agent,
            schema_versions: &std::collections::BTreeMap::new(),
        };
        let found = sf_firstboot::database::preflight::run(&mut session, &need).await?;
        session.close().await;
        Ok(found.standing.encryption)
    })
}

fn refused(connector: &Connector, code: &str) -> Failure {
    let failure = attempt(connector).unwrap_err();
    assert_eq!(failure.code.id, code, "{failure}");
    let all = format!("{failure} {failure:?} {}", failure.remedy_text());
    assert!(!all.contains(PASSWORD), "{all}");
    failure
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_demanded() {
    let server = shared();
    let dsn = server.database("tlsless");
    for mode in ["required", "verify-ca", "verify-identity"] {
        let ca = authority("Example Root");
        let connector = connector(&dsn.replace("disabled", mode)).ca_text(ca.pem());
        let failure = refused(&connector, "SF-DB-TLS-ABSENT");
        assert_eq!(failure.kind().exit_code(), 78);
        assert!(
            failure
                .what
                .ends_with(&format!("offers no TLS, and the DSN says ssl-mode={mode}")),
            "{failure}"
        );
    }
    let preferred = connector(&dsn.replace("disabled", "preferred"));
    assert_eq!(attempt(&preferred).unwrap(), None);
}

#[test]
fn certificates_are_checked_as_far_as_the_mode_demands() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (authority("Example Root"), authority("Other Root"));
    certificate(
        folder.path(),
        "db",
        &ca,
        &["127.0.0.1", "db1.example.com"],
        (2020, 2090),
    );
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let server = Server::start(&options(folder.path(), "db").each_ref().map(String::as_str));
    let dsn = server.database("tls");
    let at = |mode: &str, host: &str| {
        connector(&dsn.replace("disabled", mode).replace("127.0.0.1", host))
    };

    assert_eq!(attempt(&at("disabled", "127.0.0.1")).unwrap(), None);
    for connector in [
        at("preferred", "127.0.0.1"),
        at("required", "127.0.0.1"),
        at("verify-ca", "127.0.0.1").ca_text(ca.pem()),
        at("verify-ca", "localhost").ca_text(ca.pem()),
        at("verify-identity", "127.0.0.1").ca_text(ca.pem()),
        at("verify-identity", "127.0.0.1").ca(&file),
        // Two authorities, as while one takes the place of the other.
        at("verify-identity", "127.0.0.1").ca_text(other.pem() + &ca.pem()),
    ] {
        let encryption = attempt(&connector).unwrap().unwrap();
        assert!(encryption.starts_with("TLSv1.3 TLS_"), "{encryption}");
    }
    // The DSN's own file outweighs pki.ca.
    let named = format!("verify-identity&ssl-ca={}", file.display());
    assert!(
        attempt(&at(&named, "127.0.0.1").ca_text(other.pem()))
            .unwrap()
            .is_some()
    );

    let failure = refused(
        &at("verify-ca", "127.0.0.1").ca_text(other.pem()),
        "SF-DB-TLS-ISSUER",
    );
    assert!(
        failure.remedy_text().contains("pki.ca (CN=Other Root"),
        "{failure:?}"
    );
    let shown = failure.causes.join(", ");
    assert!(
        shown.contains("the server shows: subject CN=db")
            && shown.contains("issuer CN=Example Root"),
        "{shown}"
    );
    let missing =
        "CN=db was issued by CN=Example Root, which is neither in the chain nor in pki.ca";
    assert!(shown.contains(missing), "{shown}");
    let failure = refused(
        &at("verify-identity", "localhost").ca_text(ca.pem()),
        "SF-DB-TLS-NAME",
    );
    assert!(
        failure
            .remedy_text()
            .contains("for 127.0.0.1, db1.example.com"),
        "{failure:?}"
    );

    // Nothing to verify by.
    let absent = folder.path().join("absent.pem");
    refused(
        &at("verify-identity", "127.0.0.1").ca(&absent),
        "SF-DB-TLS-CA",
    );
    let key = folder.path().join("db.key");
    let failure = refused(&at("verify-identity", "127.0.0.1").ca(&key), "SF-DB-TLS-CA");
    assert!(
        failure.what.ends_with("holds no certificate in PEM form"),
        "{failure}"
    );
    std::fs::write(&absent, ca.der()).unwrap();
    let failure = refused(
        &at("verify-identity", "127.0.0.1").ca(&absent),
        "SF-DB-TLS-CA",
    );
    assert!(
        failure.remedy_text().contains("openssl x509 -inform der"),
        "{failure:?}"
    );
    // Without an authority of the operator's the system's are asked, if there are any.
    let failure = attempt(&at("verify-ca", "127.0.0.1")).unwrap_err();
    assert!(
        matches!(failure.code.id, "SF-DB-TLS-ISSUER" | "SF-DB-TLS-CA"),
        "{failure}"
    );
}

/// The driver would add Mozilla's authorities to the operator's.
#[test]
fn no_public_authority_is_in_the_program() {
    assert!(webpki_roots::TLS_SERVER_ROOTS.is_empty());
}

#[test]
fn dates_of_the_servers_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let ca = authority("Example Root");
    certificate(folder.path(), "old", &ca, &["127.0.0.1"], (2020, 2021));
    certificate(folder.path(), "early", &ca, &["127.0.0.1"], (2090, 2091));
    for (name, code, exit, said) in [
        ("old", "SF-DB-TLS-EXPIRED", 78, "to 2021-01-01 00:00 UTC"),
        ("early", "SF-DB-TLS-NOT-YET-VALID", 75, "not valid yet"),
    ] {
        let server = Server::start(&options(folder.path(), name).each_ref().map(String::as_str));
        let dsn = server.database("dates").replace("disabled", "verify-ca");
        let failure = refused(&connector(&dsn).ca_text(ca.pem()), code);
        assert_eq!(failure.kind().exit_code(), exit);
        assert!(failure.to_string().contains(said), "{failure}");
    }
}

#[test]
fn a_server_with_old_tls_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ca = authority("Example Root");
    certificate(folder.path(), "db", &ca, &["127.0.0.1"], (2020, 2090));
    let [certificate, key] = options(folder.path(), "db");
    let server = Server::start(&[&certificate, &key, "--tls-version=TLSv1.1"]);
    let dsn = server.database("oldtls").replace("disabled", "required");
    let failure = refused(&connector(&dsn), "SF-DB-TLS-PROTOCOL");
    assert!(
        failure
            .remedy_text()
            .contains("tls_version = TLSv1.2,TLSv1.3"),
        "{failure:?}"
    );
}

/// What makes certificates that no library of ours would.
fn openssl(folder: &Path, line: &str) {
    Cmd::new(Tool::Openssl)
        .args(line.split_whitespace())
        .cwd(folder)
        .run()
        .unwrap();
}

/// The handshake itself says no more than that it failed.
#[test]
fn a_certificate_that_tls_cannot_use_is_told_by_its_flaw() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |line: &str| openssl(folder.path(), line);
    let p256 = "EC -pkeyopt ec_paramgen_curve:P-256";
    openssl(&format!("genpkey -algorithm {p256} -out ca.key"));
    openssl(
        "req -x509 -new -key ca.key -subj /CN=Root -days 3650 -out ca.pem \
         -addext keyUsage=keyCertSign",
    );
    let ca = std::fs::read_to_string(folder.path().join("ca.pem")).unwrap();
    let issue = |algorithm: &str, extensions: Option<&str>| {
        openssl(&format!("genpkey -algorithm {algorithm} -out db.key"));
        openssl("req -new -key db.key -subj /CN=db -out db.csr");
        let extfile = extensions.map_or_else(String::new, |text| {
            let text = format!("subjectAltName=IP:127.0.0.1\n{text}\n");
            std::fs::write(folder.path().join("extensions"), text).unwrap();
            "-extfile extensions".to_owned()
        });
        openssl(&format!(
            "x509 -req -in db.csr -CA ca.pem -CAkey ca.key -days 10 -out db.pem {extfile}"
        ));
    };
    issue(p256, Some("basicConstraints=CA:FALSE"));
    let server = Server::start(&options(folder.path(), "db").each_ref().map(String::as_str));
    let dsn = server.database("flaws");
    let at = |mode: &str| connector(&dsn.replace("disabled", mode)).ca_text(ca.clone());
    let failure = block_on(at("verify-ca").ageing(&server.address().to_string())).unwrap();
    assert_eq!(failure.code.id, "SF-DB-TLS-EXPIRING");
    let left = |days: &str| failure.what.ends_with(&format!("UTC: {days} days left"));
    assert!(left("9") || left("10"), "{failure}");
    let unlooked = block_on(at("required").ageing(&server.address().to_string()));
    assert!(unlooked.is_none(), "{unlooked:?}");

    let p521 = "EC -pkeyopt ec_paramgen_curve:P-521";
    for (algorithm, extensions, in_every_mode, said) in [
        (
            p521,
            Some(""),
            true,
            "the key of CN=db is ECDSA with P-521, which TLS in the agent cannot use",
        ),
        (
            p256,
            None,
            true,
            "CN=db is of X.509 version 1, which has neither names nor usages",
        ),
        (
            p256,
            Some("basicConstraints=CA:TRUE"),
            false,
            "CN=db is the certificate of an authority itself (CA:TRUE)",
        ),
        (
            p256,
            Some("extendedKeyUsage=clientAuth"),
            false,
            "CN=db is not meant for servers (extended key usage without serverAuth)",
        ),
    ] {
        issue(algorithm, extensions);
        server.admin().run("FLUSH SSL");
        for mode in ["required", "verify-ca", "verify-identity"] {
            if mode == "required" && !in_every_mode {
                assert!(attempt(&at(mode)).unwrap().is_some(), "{said}");
                continue;
            }
            let failure = refused(&at(mode), "SF-DB-TLS");
            assert!(
                failure.what.ends_with(&format!(
                    "has an unusable certificate: {said}, and the DSN says ssl-mode={mode}"
                )),
                "{failure}"
            );
            let remedy = failure.remedy_text();
            assert!(remedy.contains("FLUSH SSL"), "{remedy}");
            assert!(
                failure
                    .causes
                    .join(" ")
                    .contains("the server shows: subject CN=db"),
                "{failure:?}"
            );
        }
    }
}
