//! Does a certificate come from one of the authorities?

use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::facts::Certificate;

/// Verifies signatures, constraints and usages along the chain, at a time at
/// which as much of it as possible is valid: dates are judged one by one.
pub(super) fn verify(
    leaf: &Certificate,
    between: &[&Certificate],
    authorities: &[Certificate],
    now: i64,
) -> Result<(), webpki::Error> {
    let ders: Vec<CertificateDer<'_>> = authorities
        .iter()
        .map(|authority| CertificateDer::from(authority.der.as_slice()))
        .collect();
    let anchors = ders
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()?;
    let between_ders: Vec<CertificateDer<'_>> = between
        .iter()
        .map(|certificate| CertificateDer::from(certificate.der.as_slice()))
        .collect();
    let chain = || std::iter::once(leaf).chain(between.iter().copied());
    let earliest = chain().map(|one| one.not_before).max().unwrap_or(now);
    let latest = chain().map(|one| one.not_after).min().unwrap_or(now);
    let at = now.min(latest).max(earliest);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap_or(0)));
    // A leaf that is for neither use has a finding of its own, which must not
    // hide where the chain breaks.
    let usage = match leaf.extended {
        Some((false, true)) => KeyUsage::client_auth(),
        _ => KeyUsage::server_auth(),
    };
    let leaf_der = CertificateDer::from(leaf.der.as_slice());
    EndEntityCert::try_from(&leaf_der)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &between_ders,
            at,
            usage,
            None,
            None,
        )
        .map(drop)
}

/// Why a chain does not hold, in words; `ca` is the field of the authorities.
pub(super) fn explain(
    error: &webpki::Error,
    leaf: &Certificate,
    between: &[&Certificate],
    authorities: &[Certificate],
    ca: &str,
) -> String {
    let trusted: Vec<&str> = authorities.iter().map(|one| one.subject.as_str()).collect();
    let trusted = trusted.join(" and ");
    if !matches!(
        error,
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey
    ) {
        return format!(
            "the chain of {} up to {trusted} does not hold",
            leaf.subject
        );
    }
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
    authorities: &[Certificate],
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
