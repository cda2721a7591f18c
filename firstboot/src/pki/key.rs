//! A private key's public half, which a certificate must carry, and what kind
//! of key it is when it cannot be used.

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use x509_parser::der_parser::asn1_rs::{Class, Tag};
use x509_parser::der_parser::ber::BerObject;
use x509_parser::der_parser::der::parse_der;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

use super::pem::Block;

/// The bits of the public key. PKCS#1, PKCS#8 and SEC1; RSA of 2048 bits or
/// more, ECDSA P-256 and P-384, Ed25519: what TLS in the agent can use.
pub(super) fn public_half(block: &Block) -> Option<Vec<u8>> {
    let der = block.der.as_slice();
    let key = match block.label.as_str() {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der)),
        _ => return None,
    };
    let key = any_supported_type(&key).ok()?;
    let public = key.public_key()?;
    let (_, public) = SubjectPublicKeyInfo::from_der(public.as_ref()).ok()?;
    Some(public.subject_public_key.data.to_vec())
}

/// Why TLS cannot use a key: `RSA of 1024 bits: 2048 are the least that is
/// safe`. `None` when it should be usable, so that it must be damaged.
pub(super) fn kind(block: &Block) -> Option<String> {
    if block.label == "OPENSSH PRIVATE KEY" {
        return Some("one of SSH, in OpenSSH's own form, and none of a certificate".into());
    }
    if block.label == "DSA PRIVATE KEY" {
        return unknown("DSA");
    }
    let (_, key) = parse_der(&block.der).ok()?;
    let parts = key.as_sequence().ok()?;
    if block.label == "RSA PRIVATE KEY" {
        return rsa(parts);
    }
    if block.label == "EC PRIVATE KEY" {
        // The curve is the optional part with the tag 0. The key itself stands
        // before it, and may look like anything: none of it must be shown.
        let curve = parts.iter().find(|part| {
            part.header.class() == Class::ContextSpecific && part.header.tag() == Tag(0)
        })?;
        return elliptic(&parse_der(curve.as_slice().ok()?).ok()?.1);
    }
    let inner = parts.get(2)?.as_slice().ok()?;
    of_algorithm(parts.get(1)?, || {
        rsa(parse_der(inner).ok()?.1.as_sequence().ok()?)
    })
}

/// The same of the public key in a certificate, a `SubjectPublicKeyInfo`.
pub(super) fn public_kind(der: &[u8]) -> Option<String> {
    let (_, info) = parse_der(der).ok()?;
    let parts = info.as_sequence().ok()?;
    let bits = parts.get(1)?.as_bitstring().ok()?;
    of_algorithm(parts.first()?, || {
        let (_, key) = parse_der(bits.data).ok()?;
        let bits = key.as_sequence().ok()?.first()?.as_biguint().ok()?.bits();
        // To verify takes larger keys than to sign, and any exponent.
        match bits {
            ..2048 => too_short(bits),
            8193.. => Some(format!(
                "RSA of {bits} bits: TLS in the agent takes 8192 at most"
            )),
            _ => None,
        }
    })
}

#[expect(clippy::unnecessary_wraps, reason = "what its callers give back")]
fn too_short(bits: u64) -> Option<String> {
    Some(format!(
        "RSA of {bits} bits: 2048 are the least that is safe"
    ))
}

/// Of the key whose algorithm that is; `rsa` knows about one of RSA.
fn of_algorithm(algorithm: &BerObject<'_>, rsa: impl FnOnce() -> Option<String>) -> Option<String> {
    let algorithm = algorithm.as_sequence().ok()?;
    match algorithm.first()?.as_oid().ok()?.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => rsa(),
        "1.2.840.10045.2.1" => elliptic(algorithm.get(1)?),
        "1.2.840.113549.1.1.10" => unknown("RSA for PSS signatures alone (RSASSA-PSS)"),
        "1.2.840.10040.4.1" => unknown("DSA"),
        "1.3.101.112" => None,
        "1.3.101.113" => unknown("Ed448"),
        other => unknown(&format!("of the algorithm {other}")),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what its callers give back")]
fn unknown(kind: &str) -> Option<String> {
    Some(format!("{kind}, which TLS in the agent cannot use"))
}

/// The parts of an `RSAPrivateKey`: version, modulus, public exponent and more.
fn rsa(parts: &[BerObject<'_>]) -> Option<String> {
    let bits = parts.get(1)?.as_biguint().ok()?.bits();
    let exponent = parts.get(2)?.as_biguint().ok()?;
    match bits {
        ..2048 => too_short(bits),
        4097.. => Some(format!(
            "RSA of {bits} bits: TLS in the agent takes 4096 at most"
        )),
        _ if exponent.bits() < 17 => Some(format!(
            "RSA with the public exponent {exponent}: 65537 is the least that is safe"
        )),
        _ => None,
    }
}

fn elliptic(curve: &BerObject<'_>) -> Option<String> {
    let name = match curve.as_oid() {
        Err(_) => "a curve of its own".to_owned(),
        Ok(oid) => match oid.to_id_string().as_str() {
            "1.2.840.10045.3.1.7" | "1.3.132.0.34" => return None,
            "1.3.132.0.35" => "P-521".to_owned(),
            "1.3.132.0.10" => "secp256k1".to_owned(),
            other => format!("the curve {other}"),
        },
    };
    Some(format!(
        "ECDSA with {name}, which TLS in the agent cannot use"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_looks_like_a_curve_is_not_told_as_one() {
        // ECPrivateKey: a number, the key, and the curve secp256k1.
        let mut key = vec![0x06, 0x1e];
        key.extend([0x2a; 30]);
        let mut der = vec![0x30, 0x2e, 2, 1, 1, 4, 32];
        der.extend(&key);
        der.extend([0xa0, 7, 6, 5, 0x2b, 0x81, 0x04, 0x00, 0x0a]);
        let block = Block {
            label: "EC PRIVATE KEY".into(),
            line: 1,
            indented: false,
            der: der.into(),
        };
        assert_eq!(
            kind(&block).unwrap(),
            "ECDSA with secp256k1, which TLS in the agent cannot use"
        );
    }
}
