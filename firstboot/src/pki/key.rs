//! A private key's public half, which a certificate must carry.

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
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
