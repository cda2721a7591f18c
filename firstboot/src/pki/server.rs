//! Why TLS cannot use the certificate that a server shows, beyond its dates and
//! names, which a handshake tells well enough by itself.

use super::chain;
use super::facts::Certificate;

/// What is wrong with a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// In words.
    pub what: String,
    /// What helps.
    pub remedy: Option<&'static str>,
}

/// Judges what a server shows, its own certificate first, at `now` (seconds since
/// 1970). `authorities` are whom to trust and the field that names them; without
/// them only what no client can use is told.
pub fn flaw(
    shown: &[Certificate],
    authorities: Option<(&[Certificate], &str)>,
    now: i64,
) -> Option<Flaw> {
    let (leaf, between) = shown.split_first()?;
    let between: Vec<&Certificate> = between.iter().collect();
    if let Some(kind) = &leaf.unusable_key {
        return Some(Flaw {
            what: format!("the key of {} is {kind}", leaf.subject),
            remedy: Some(
                "Give the server a certificate with a key of RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, or Ed25519.",
            ),
        });
    }
    if let Err(error) = chain::readable(leaf) {
        let error = if leaf.version_3 {
            error
        } else {
            webpki::Error::UnsupportedCertVersion
        };
        return Some(told(&error, leaf, &between, &[], "the authorities"));
    }
    let (authorities, field) = authorities?;
    if matches!(leaf.extended, Some((false, _))) {
        return Some(Flaw {
            what: format!(
                "{} is not meant for servers (extended key usage without serverAuth)",
                leaf.subject
            ),
            remedy: Some("Have it issued with extendedKeyUsage=serverAuth."),
        });
    }
    let authorities: Vec<&Certificate> = authorities.iter().collect();
    let error = chain::verify(leaf, &between, &authorities, false, now).err()?;
    Some(told(&error, leaf, &between, &authorities, field))
}

fn told(
    error: &webpki::Error,
    leaf: &Certificate,
    between: &[&Certificate],
    authorities: &[&Certificate],
    field: &str,
) -> Flaw {
    let reason = chain::explain(error, leaf, between, authorities, field);
    Flaw {
        what: reason.what,
        remedy: reason.remedy,
    }
}
