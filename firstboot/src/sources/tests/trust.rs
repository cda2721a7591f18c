//! `https://`: who is believed, and who is not.

use super::fetching::{ONCE, booted, failure, fetch, keep};
use super::server::{Ca, Server, answer, deaf};
use super::*;

#[test]
fn tls_believes_only_the_named_authority() {
    let ca = Ca::new("ours");
    let other = Ca::new("theirs");
    let good = |with_ca| ca.server("127.0.0.1", [2020, 2100], with_ca);
    let url = |server: &Server| format!("sf.metadata_url={}", server.url("/n"));
    let start = |config| Server::tls(config, |_| answer(200, GOOD));
    let load_of = |machine: &Machine| load(&fetch(machine, ONCE)).unwrap();

    // By fingerprint, which needs the authority in the chain; by PEM; by both.
    let server = start(good(true));
    load_of(&booted(&format!(
        "{} sf.metadata_ca={}",
        url(&server),
        ca.pin()
    )));
    let server = start(good(false));
    load_of(&booted(&url(&server)).credential("sf.metadata_ca", &ca.pem));
    // As an editor of Windows saves it.
    let marked = format!("\u{feff}{}", ca.pem.replace('\n', "\r\n"));
    load_of(&booted(&url(&server)).credential("sf.metadata_ca", marked));
    let both = format!("{}{}", other.pem, ca.pem);
    load_of(
        &booted(&format!("{} sf.metadata_ca={}", url(&server), ca.pin()))
            .credential("sf.metadata_ca", both),
    );
    // The system's authorities, when they are meant.
    load_of(
        &booted(&format!("{} sf.metadata_ca=system", url(&server)))
            .file("/etc/ssl/certs/ca-certificates.crt", &ca.pem),
    );

    let mut shown = String::new();
    let mut bad = |what: &str, config, line: &str, pem: Option<&str>| {
        let server = start(config);
        let mut machine = booted(&format!("{} {line}", url(&server)));
        if let Some(pem) = pem {
            machine = machine.credential("sf.metadata_ca", pem);
        }
        let line = failure(&machine, ONCE);
        shown.extend([what, ": ", &line, "\n"]);
        assert!(server.asked().is_empty(), "nothing is asked of a stranger");
    };
    let pin = format!("sf.metadata_ca={}", ca.pin());
    bad("pin not in the chain", good(false), &pin, None);
    bad(
        "another CA in the chain",
        other.server("127.0.0.1", [2020, 2100], true),
        &pin,
        None,
    );
    bad(
        "another CA",
        other.server("127.0.0.1", [2020, 2100], true),
        "",
        Some(&ca.pem),
    );
    bad(
        "pinned CA sent along, but it did not sign",
        {
            let mut forged = other.server("127.0.0.1", [2020, 2100], true);
            // Their certificate, followed by our authority's.
            forged.cert_resolver = forged_chain(&other, &ca);
            forged
        },
        &pin,
        None,
    );
    bad(
        "expired",
        ca.server("127.0.0.1", [2000, 2001], true),
        &pin,
        None,
    );
    bad(
        "not valid yet",
        ca.server("127.0.0.1", [2090, 2100], true),
        &pin,
        None,
    );
    bad(
        "another name",
        ca.server("db1.example.com", [2020, 2100], true),
        &pin,
        None,
    );
    // Both are one certificate that signed itself, as `openssl req -x509` makes it.
    bad("pin of the server's own", ca.alone(), &pin, None);
    bad("an authority as server", ca.alone(), "", Some(&ca.pem));
    // A port that speaks something else.
    let plain = Server::start(|_| answer(200, GOOD));
    let https = plain.url("/n").replace("http:", "https:");
    shown.push_str(&failure(
        &booted(&format!("sf.metadata_url={https} {pin}")),
        ONCE,
    ));
    let (_listener, address) = deaf();
    shown.push('\n');
    shown.push_str(&failure(
        &booted(&format!("sf.metadata_url=https://{address}/ {pin}")),
        ONCE,
    ));
    insta::assert_snapshot!(shown);
}

/// In TLS 1.3 this is heard of only when the request has been sent.
#[test]
fn a_server_that_wants_a_client_certificate_is_not_asked_again() {
    let ca = Ca::new("ours");
    let server = Server::tls(ca.mutual("127.0.0.1"), |_| answer(200, GOOD));
    let url = server.url("/n");
    let machine = booted(&format!(
        "sf.metadata_url={url} sf.metadata_ca={}",
        ca.pin()
    ));
    let patient = Remote::Ask {
        wait: Duration::from_mins(1),
        wait_with_copy: Duration::ZERO,
    };
    let shown = failure(&machine, patient);
    assert!(
        shown.contains("SF-FETCH-TLS") && shown.contains("it wants a client certificate"),
        "{shown}"
    );
}

/// A chain whose authority is not the one that signed.
fn forged_chain(
    signer: &Ca,
    shown: &Ca,
) -> std::sync::Arc<dyn tokio_rustls::rustls::server::ResolvesServerCert> {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::rustls;
    let (certificate, key) = signer.leaf("127.0.0.1", [2020, 2100]);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let chain = vec![certificate.into(), shown.der.clone().into()];
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(
        rustls::sign::CertifiedKey::new(chain, key),
    ))
}

#[test]
fn a_stranger_in_the_servers_place_does_not_break_a_reboot_either() {
    let ca = Ca::new("ours");
    let server = Server::tls(ca.server("127.0.0.1", [2020, 2100], true), |_| {
        answer(200, GOOD)
    });
    let line = format!("sf.metadata_url={} sf.metadata_ca=", server.url("/n"));
    let machine = booted(&format!("{line}{}", ca.pin()));
    let collected = fetch(&machine, ONCE);
    load(&collected).unwrap();
    keep(&machine, &collected);
    let machine = machine.file("/proc/cmdline", format!("{line}{}", Ca::new("new").pin()));
    let loaded = load(&fetch(&machine, ONCE)).unwrap();
    assert_eq!(loaded.warnings[0].code.id, "SF-FETCH-KEPT");
}

#[tokio::test]
async fn a_report_that_tls_ends_says_what_helps() {
    use sf_contract::secret::Secret;

    use crate::call_home::{self, Address};
    let (ca, other) = (Ca::new("ours"), Ca::new("theirs"));
    for (config, code, helps) in [
        (
            other.server("127.0.0.1", [2020, 2100], true),
            "SF-REPORT-REJECTED",
            "Add the CA of report.url's server to pki.ca, behind what is there",
        ),
        (
            ca.server("127.0.0.1", [2001, 2002], true),
            "SF-REPORT-REJECTED",
            "Renew the certificate of report.url's server",
        ),
        (
            ca.server("127.0.0.2", [2020, 2100], true),
            "SF-REPORT-REJECTED",
            "or issue it one for 127.0.0.1;",
        ),
        (
            ca.server("127.0.0.1", [2090, 2100], true),
            "SF-REPORT-UNSENT",
            "See the cause;",
        ),
    ] {
        let server = Server::tls(config, |_| answer(204, ""));
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        let address = Address {
            url: Secret::new(server.url("/n")),
            ca: Some(Secret::new(ca.pem.as_str())),
        };
        address
            .write(&paths, &crate::status::Status::default())
            .unwrap();
        let failure = call_home::post(&paths).await.unwrap_err();
        assert_eq!(failure.code.id, code, "{failure}");
        let remedy = failure.remedy_text();
        assert!(remedy.contains(helps), "{failure}: {remedy}");
        assert!(server.asked().is_empty());
    }
}
