//! What binary files are that stand in the place of PEM text, and what to do
//! about each.

use sf_command::quote;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509CertificationRequest};

use super::facts::Certificate;

/// What DER bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A certificate.
    Certificate,
    /// What a certificate is asked for with.
    Request,
    /// A private key.
    Key,
    /// A private key under a pass phrase.
    EncryptedKey,
    /// The half of a key that everybody may have.
    PublicKey,
    /// Certificates and mostly their key, as Windows exports them (.pfx, .p12).
    Pkcs12,
    /// Certificates, as Windows authorities give them out (.p7b).
    Pkcs7,
    /// None of these.
    Other,
}

impl Thing {
    /// What it is: `is a certificate in DER form`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Certificate => "a certificate in DER form",
            Self::Request => "a certificate request in DER form",
            Self::Key => "a private key in DER form",
            Self::EncryptedKey => "an encrypted private key in DER form",
            Self::PublicKey => "a public key in DER form",
            Self::Pkcs12 => "a PKCS#12 container (.pfx)",
            Self::Pkcs7 => "a PKCS#7 container (.p7b)",
            Self::Other => "in DER form",
        }
    }

    /// What to do where `private` says that a key is wanted, and else
    /// certificates. Without a file it came as a credential, whose own file on
    /// the node is no place to mend anything.
    pub fn remedy(self, private: bool, file: Option<&str>) -> String {
        let Some(command) = self.conversion(private, file.unwrap_or("FILE")) else {
            return match (self, private) {
                (Self::Request, false) => {
                    "it asks for a certificate: give the one that the authority made from it"
                }
                (Self::Request, true) => "give the private key that the request was made with",
                (Self::PublicKey, true) => "give the private half, which stays with its owner",
                (_, true) => "give the private key that belongs to the certificate",
                (_, false) => "give certificates here; the key stands in the field beside it",
            }
            .to_owned();
        };
        match file {
            Some(_) => format!("convert it: {command}"),
            None => format!("convert it where the credential is made: {command}"),
        }
    }

    /// The command that makes PEM of it, if what is wanted is in it.
    pub(super) fn conversion(self, private: bool, file: &str) -> Option<String> {
        let program = match (self, private) {
            (Self::Certificate | Self::Other, false) => "x509 -inform der",
            (Self::Key | Self::EncryptedKey | Self::Other, true) => "pkey -inform der",
            (Self::Pkcs12, true) => "pkcs12 -nocerts -nodes",
            (Self::Pkcs12, false) => "pkcs12 -nokeys",
            (Self::Pkcs7, false) => "pkcs7 -inform der -print_certs",
            _ => return None,
        };
        let mut made = converted(file);
        if (self, private) == (Self::Pkcs12, true) {
            // The certificates come out of the same file.
            made = made.replace(".converted.pem", ".key.pem");
        }
        Some(format!(
            "openssl {program} -in {} -out {}",
            quote(file),
            quote(&made)
        ))
    }
}

/// Beside the file in DER form, and never a name that looks like a mistake.
pub(crate) fn converted(file: &str) -> String {
    let stem = [
        ".pem", ".der", ".crt", ".cer", ".key", ".pfx", ".p12", ".p7b",
    ]
    .iter()
    .find_map(|ending| file.strip_suffix(ending))
    .unwrap_or(file);
    format!("{stem}.converted.pem")
}

/// OID 1.2.840.113549.1.7.2, signed data.
const SIGNED_DATA: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];

/// PKCS#5 and the pass phrases of PKCS#12: 1.2.840.113549.1.5 and .1.12.1.
const PASS_PHRASES: [&[u8]; 2] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1],
];

/// What it is, when the bytes are DER: a SEQUENCE with a length of two or more
/// bytes, which no text starts with, or one of exactly the length that it says
/// and with a number or another SEQUENCE in front.
pub fn der_thing(bytes: &[u8]) -> Option<Thing> {
    let content = match bytes {
        [0x30, 0x81, _, content @ ..]
        | [0x30, 0x82, _, _, content @ ..]
        | [0x30, 0x83, _, _, _, content @ ..]
        | [0x30, 0x84, _, _, _, _, content @ ..] => content,
        [0x30, length @ ..=0x7f, content @ ..]
            if content.len() == usize::from(*length)
                && matches!(content, [2, 1, ..] | [0x30, ..=0x1f, 6, ..]) =>
        {
            content
        }
        _ => return None,
    };
    Some(if Certificate::parse(bytes).is_ok() {
        Thing::Certificate
    } else if X509CertificationRequest::from_der(bytes).is_ok() {
        Thing::Request
    } else if SubjectPublicKeyInfo::from_der(bytes).is_ok() {
        Thing::PublicKey
    } else if content.starts_with(&[2, 1, 3, 0x30]) {
        Thing::Pkcs12
    } else if content.starts_with(&SIGNED_DATA) {
        Thing::Pkcs7
    } else if content.starts_with(&[2, 1, 0]) || content.starts_with(&[2, 1, 1]) {
        Thing::Key
    } else if algorithm(content)
        .is_some_and(|name| PASS_PHRASES.iter().any(|family| name.starts_with(family)))
    {
        Thing::EncryptedKey
    } else {
        Thing::Other
    })
}

/// The object identifier that a sequence in front begins with.
fn algorithm(content: &[u8]) -> Option<&[u8]> {
    let ([0x30, 0x81, _, inner @ ..]
    | [0x30, 0x82, _, _, inner @ ..]
    | [0x30, ..=0x7f, inner @ ..]) = content
    else {
        return None;
    };
    match inner {
        [6, length, name @ ..] => name.get(..usize::from(*length)),
        _ => None,
    }
}
