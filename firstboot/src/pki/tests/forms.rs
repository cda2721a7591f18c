//! What is no PEM, and keys in every form.

use rcgen::KeyPair;
use sf_command::{Cmd, Tool};

use super::*;

#[test]
fn what_is_no_pem_says_what_it_is() {
    let pair = Pair::new();
    let certificate = node_params().signed_by(&pair.key, &pair.ca).unwrap();
    let (text, key) = (certificate.pem(), pair.key.serialize_pem());
    let half = &text[..text.len() / 2];
    let damaged = text.replacen("MI", "M!", 1);
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let ca = pair.ca.pem();
    let table: [(&[u8], &[u8], &str); 10] = [
        (
            certificate.der(),
            b"",
            "SF-PKI-DER pki.certificate: is a certificate in DER form, not PEM text",
        ),
        (
            text.as_bytes(),
            pair.key.serialized_der(),
            "SF-PKI-DER pki.key: is a private key in DER form, not PEM text",
        ),
        (
            half.as_bytes(),
            b"",
            "SF-PKI-SYNTAX pki.certificate: the block CERTIFICATE of line 1 has no end: the text was cut off",
        ),
        (
            damaged.as_bytes(),
            b"",
            "SF-PKI-SYNTAX pki.certificate: the block CERTIFICATE of line 1 is damaged: it is not base64",
        ),
        (
            b"hello",
            b"",
            "SF-PKI-SYNTAX pki.certificate: is not PEM text: no line starts with -----BEGIN",
        ),
        (
            b"\xff\xfe",
            b"",
            "SF-PKI-SYNTAX pki.certificate: is neither PEM text nor DER",
        ),
        (
            key.as_bytes(),
            b"",
            "SF-PKI-SYNTAX pki.certificate: holds a private key, where certificates belong",
        ),
        (
            request.as_bytes(),
            b"",
            "SF-PKI-SYNTAX pki.certificate: holds a certificate request, where the certificate that the authority made from it belongs",
        ),
        (
            text.as_bytes(),
            text.as_bytes(),
            "SF-PKI-SYNTAX pki.key: holds a certificate, where the private key belongs",
        ),
        (
            nonsense.as_bytes(),
            b"",
            "SF-PKI-SYNTAX pki.certificate: the certificate of line 1 cannot be read",
        ),
    ];
    for (certificate, key, line) in table {
        let key = (!key.is_empty()).then_some(key);
        let verdict = judged(
            Usage::Node,
            [Some(ca.as_bytes()), Some(certificate), key],
            NOW,
        );
        assert_eq!(lines(&verdict.findings), [line]);
        let said = format!("{:?}", verdict.findings);
        assert!(
            !said.contains("MI"),
            "key material or PEM in a finding: {said}"
        );
    }
}

#[test]
fn a_key_is_compared_in_every_form_that_openssl_writes() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |line: &str| {
        Cmd::new(Tool::Openssl)
            .args(line.split_whitespace())
            .cwd(folder.path())
            .run()
            .unwrap();
    };
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let another = KeyPair::generate().unwrap().serialize_pem();
    for (kind, forms) in [
        (
            "RSA -pkeyopt rsa_keygen_bits:2048",
            &["", "-traditional"][..],
        ),
        ("EC -pkeyopt ec_paramgen_curve:P-256", &["", "-traditional"]),
        ("EC -pkeyopt ec_paramgen_curve:P-384", &["", "-traditional"]),
        ("ED25519", &[""]),
    ] {
        openssl(&format!("genpkey -algorithm {kind} -out key"));
        openssl(
            "req -x509 -key key -subj /CN=hv1.example.com -addext subjectAltName=DNS:hv1.example.com \
                 -addext basicConstraints=critical,CA:FALSE -days 3650 -out certificate",
        );
        let certificate = read("certificate");
        for form in forms {
            openssl(&format!("pkey -in key {form} -out form"));
            let key = read("form");
            let now = crate::clock::now_seconds();
            let verdict = judged(
                Usage::Node,
                [None, Some(certificate.as_bytes()), Some(key.as_bytes())],
                now,
            );
            assert_eq!(lines(&verdict.findings), [""; 0], "{kind} {form}");
        }
        let verdict = judged(
            Usage::Node,
            [None, Some(certificate.as_bytes()), Some(another.as_bytes())],
            crate::clock::now_seconds(),
        );
        assert_eq!(codes(&verdict), ["SF-PKI-KEY-MISMATCH"], "{kind}");
    }
    for (line, label) in [
        (
            "pkey -in key -aes256 -passout pass:hunter2 -out locked",
            "ENCRYPTED PRIVATE KEY",
        ),
        (
            "genrsa -aes256 -traditional -passout pass:hunter2 -out locked 2048",
            "RSA PRIVATE KEY",
        ),
    ] {
        openssl(line);
        let key = read("locked");
        let verdict = judged(Usage::Node, [None, None, Some(key.as_bytes())], NOW);
        assert_eq!(codes(&verdict), ["SF-PKI-ENCRYPTED"]);
        let failure = &verdict.findings[0];
        assert!(failure.what.contains(label), "{}", failure.what);
        assert!(
            failure.remedy_text().contains("openssl pkey -in FILE"),
            "{failure:?}"
        );
    }
    // Sizes and curves that the agent's TLS does not take.
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small");
    let small = read("small");
    let verdict = judged(Usage::Node, [None, None, Some(small.as_bytes())], NOW);
    assert_eq!(codes(&verdict), ["SF-PKI-SYNTAX"]);
    assert!(
        verdict.findings[0]
            .remedy_text()
            .contains("RSA of 2048 to 4096 bits")
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = judged(Usage::Node, [Some(&bytes), Some(&bytes), Some(&bytes)], NOW);
    }
}
