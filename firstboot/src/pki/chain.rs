//! Does a certificate come from one of the authorities?

use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::facts::Certificate;

/// A node's certificate and its company.
pub(super) struct Own<'c> {
    pub(super) leaf: &'c Certificate,
    /// Where it stands: first, if all is well.
    pub(super) position: usize,
    /// The others, in their order.
    pub(super) between: Vec<&'c Certificate>,
}

impl<'c> Own<'c> {
    /// The node's own is the one of the key, else the first that is no authority.
    pub(super) fn of(chain: &'c [Certificate], key: Option<&[u8]>) -> Option<Self> {
        let position = key
            .and_then(|key| chain.iter().position(|one| one.public_key == key))
            .or_else(|| chain.iter().position(|one| !one.authority))
            .unwrap_or(0);
        let others = chain.iter().enumerate().filter(|(at, _)| *at != position);
        Some(Self {
            leaf: chain.get(position)?,
            position,
            between: others.map(|(_, one)| one).collect(),
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &'c Certificate> {
        let (before, behind) = self.between.split_at(self.position.min(self.between.len()));
        before
            .iter()
            .copied()
            .chain([self.leaf])
            .chain(behind.iter().copied())
    }
}

/// Verifies signatures, constraints and usages along the chain, at a time at
/// which as much of it as possible is valid: dates are judged one by one.
pub(super) fn verify(
    leaf: &Certificate,
    between: &[&Certificate],
    authorities: &[&Certificate],
    calls: bool,
    now: i64,
) -> Result<(), webpki::Error> {
    let chain = || std::iter::once(leaf).chain(between.iter().copied());
    let earliest = chain().map(|one| one.not_before).max().unwrap_or(now);
    let latest = chain().map(|one| one.not_after).min().unwrap_or(now);
    let at = now.min(latest).max(earliest);
    verify_at(leaf, between, authorities, calls, at)
}

/// Does the chain hold at that time, without anything that is not valid then?
pub(super) fn holds(own: &Own<'_>, authorities: &[Certificate], calls: bool, at: i64) -> bool {
    let between: Vec<&Certificate> = own
        .between
        .iter()
        .copied()
        .filter(|one| one.valid(at))
        .collect();
    let authorities: Vec<&Certificate> = authorities.iter().filter(|one| one.valid(at)).collect();
    own.leaf.valid(at) && verify_at(own.leaf, &between, &authorities, calls, at).is_ok()
}

/// `calls`: does the node show the certificate to servers as well?
fn verify_at(
    leaf: &Certificate,
    between: &[&Certificate],
    authorities: &[&Certificate],
    calls: bool,
    at: i64,
) -> Result<(), webpki::Error> {
    let ders = |all: &[&Certificate]| -> Vec<CertificateDer<'static>> {
        all.iter()
            .map(|one| CertificateDer::from(one.der.clone()))
            .collect()
    };
    let (trusted, between) = (ders(authorities), ders(between));
    let anchors = trusted
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap_or(0)));
    // What the leaf is not for has a finding of its own, which must not hide
    // where the chain breaks.
    let (serves, calls) = match leaf.extended {
        None => (true, calls),
        Some((serves, called)) => (serves || !called, called && calls),
    };
    let leaf_der = CertificateDer::from(leaf.der.as_slice());
    let own = EndEntityCert::try_from(&leaf_der)?;
    let usages = [
        (serves, KeyUsage::server_auth()),
        (calls, KeyUsage::client_auth()),
    ];
    for (_, usage) in usages.into_iter().filter(|(wanted, _)| *wanted) {
        own.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &between,
            at,
            usage,
            None,
            None,
        )?;
    }
    Ok(())
}

/// Can TLS read the certificate at all? An extension that it must understand
/// and does not is where that ends.
pub(super) fn readable(leaf: &Certificate) -> Result<(), webpki::Error> {
    EndEntityCert::try_from(&CertificateDer::from(leaf.der.as_slice())).map(drop)
}

/// Why a chain does not hold.
pub(super) struct Reason {
    /// In words.
    pub(super) what: String,
    /// What helps, when it is not a certificate that is missing.
    pub(super) remedy: Option<&'static str>,
    /// What webpki calls it, where that says more.
    pub(super) cause: Option<String>,
}

/// Why a chain does not hold, in words; `ca` is the field of the authorities.
pub(super) fn explain(
    error: &webpki::Error,
    leaf: &Certificate,
    between: &[&Certificate],
    authorities: &[&Certificate],
    ca: &str,
) -> Reason {
    use webpki::Error as E;
    let subject = &leaf.subject;
    let reason = |what: String, remedy| Reason {
        what,
        remedy: Some(remedy),
        cause: None,
    };
    let signed = || std::iter::once(leaf).chain(between.iter().copied());
    let signers = || {
        let all = between.iter().copied().chain(authorities.iter().copied());
        all.filter(|signer| signed().any(|one| one.raw_issuer == signer.raw_subject))
    };
    match error {
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => {
            // Signatures by keys that are too short count as none.
            let weak =
                signers().find_map(|one| Some((one, one.rsa_bits.filter(|bits| *bits < 2048)?)));
            if let Some((one, bits)) = weak {
                return reason(
                    format!(
                        "{subject} was signed by {}, whose key is RSA of {bits} bits: too short to be safe",
                        one.subject
                    ),
                    "Make an authority with a new key (RSA of 2048 bits or more, or ECDSA P-256) and have the certificates issued by it.",
                );
            }
            Reason {
                what: missing(leaf, between, authorities, ca),
                remedy: None,
                cause: Some(error.to_string()),
            }
        }
        E::UnsupportedSignatureAlgorithmContext(_) => {
            let how: Vec<String> = signed()
                .map(|one| format!("{} with {}", one.subject, one.signature))
                .collect();
            reason(
                format!(
                    "a signature of the chain of {subject} is of a kind that does not count (any more): {}",
                    how.join(", ")
                ),
                "Have it signed with SHA-256 or better: SHA-1 and MD5 can be forged.",
            )
        }
        E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => reason(
            format!(
                "{subject} was signed with a key of a kind that TLS in the agent does not know, by {}",
                leaf.issuer
            ),
            "Let the authorities' keys be RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519.",
        ),
        E::NameConstraintViolation => reason(
            format!(
                "{subject} has names that its authority may not issue for: {} (the authority's name constraints)",
                leaf.names.join(", ")
            ),
            "Have it issued for names that the authority may issue for, or by an authority that may; openssl x509 -noout -ext nameConstraints -in CA shows which.",
        ),
        E::PathLenConstraintViolated => reason(
            format!(
                "the chain of {subject} has more authorities one below the other than the path length of one of them allows"
            ),
            "Have it issued by the authority whose path length ends the chain, or give that one a longer path length.",
        ),
        E::RequiredEkuNotFoundContext(_) => reason(
            format!(
                "an authority of the chain of {subject} may not issue for this use: its own extended key usage leaves out serverAuth or clientAuth"
            ),
            "Have it issued by an authority without extended key usage, or with both in it; openssl x509 -noout -ext extendedKeyUsage -in FILE shows it.",
        ),
        E::EndEntityUsedAsCa => reason(
            format!(
                "the chain of {subject} leads through a certificate that is no authority (CA:FALSE)"
            ),
            "Have it issued by an authority: its certificate says CA:TRUE.",
        ),
        E::CaUsedAsEndEntity => reason(
            format!("{subject} is the certificate of an authority itself (CA:TRUE)"),
            "Have a certificate issued by the authority, one that is none itself (CA:FALSE), with a key of its own.",
        ),
        E::UnsupportedCertVersion => reason(
            format!("{subject} is of X.509 version 1, which has neither names nor usages"),
            "Have it issued with extensions, as version 3: openssl x509 -req needs -extfile for that.",
        ),
        E::UnsupportedCriticalExtension => reason(
            format!(
                "{subject} or its chain has a critical extension that TLS in the agent does not know"
            ),
            "Have it issued without that extension, or with the extension not critical; openssl x509 -noout -text shows them.",
        ),
        _ => Reason {
            what: format!(
                "the chain of {subject} up to {} does not hold",
                trusted(authorities)
            ),
            remedy: None,
            cause: Some(error.to_string()),
        },
    }
}

fn trusted(authorities: &[&Certificate]) -> String {
    let names: Vec<&str> = authorities.iter().map(|one| one.subject.as_str()).collect();
    names.join(" and ")
}

/// Which certificate it takes to make the chain whole.
fn missing(
    leaf: &Certificate,
    between: &[&Certificate],
    authorities: &[&Certificate],
    ca: &str,
) -> String {
    let trusted = trusted(authorities);
    match broken_link(leaf, between, authorities) {
        Link::Absent(one) if one.self_issued() => {
            format!("{} signed itself, and {ca} is {trusted}", one.subject)
        }
        Link::Absent(one) => format!(
            "{} was issued by {}, which is neither in the chain nor in {ca} ({trusted})",
            one.subject, one.issuer
        ),
        Link::Present(one) => format!(
            "{} was issued by an authority called {}, but not with the key of the one in {ca}: \
             was the authority made anew?",
            one.subject, one.issuer
        ),
    }
}

/// The place of the chain at which it breaks.
enum Link<'c> {
    /// Nobody is called as its issuer.
    Absent(&'c Certificate),
    /// Somebody is, but did not sign it.
    Present(&'c Certificate),
}

fn broken_link<'c>(
    leaf: &'c Certificate,
    between: &[&'c Certificate],
    authorities: &[&Certificate],
) -> Link<'c> {
    let mut at = leaf;
    for _ in 0..=between.len() {
        if authorities
            .iter()
            .any(|one| one.raw_subject == at.raw_issuer)
        {
            return Link::Present(at);
        }
        match between
            .iter()
            .find(|one| one.raw_subject == at.raw_issuer && one.der != at.der)
        {
            Some(next) => at = next,
            None => break,
        }
    }
    Link::Absent(at)
}

/// Does the certificate carry this host name or address (wildcards included)?
pub(super) fn names(leaf: &Certificate, name: &str) -> bool {
    let der = CertificateDer::from(leaf.der.as_slice());
    let (Ok(certificate), Ok(name)) = (EndEntityCert::try_from(&der), ServerName::try_from(name))
    else {
        return false;
    };
    certificate.verify_is_valid_for_subject_name(&name).is_ok()
}
