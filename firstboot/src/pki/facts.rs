//! What a certificate says, in a form that can be shown and judged.

use std::fmt;
use std::net::IpAddr;

use x509_parser::asn1_rs::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2sn};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;

/// The most of a name that is shown; certificates come from anywhere.
const SHOWN: usize = 120;

/// From how many days before its end on a certificate is warned about: a month
/// is what an operator needs to get new ones from people.
pub const WARN_DAYS: i64 = 30;

pub(super) const DAY: i64 = 24 * 60 * 60;

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate itself.
    pub der: Vec<u8>,
    /// `CN=db1.example.com`.
    pub subject: String,
    /// The same of who signed it.
    pub issuer: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Subject alternative names: host names and addresses as text.
    pub names: Vec<String>,
    /// Basic constraints say CA:TRUE.
    pub authority: bool,
    /// keyCertSign of the key usage; `None` without that extension.
    pub signs_certificates: Option<bool>,
    /// digitalSignature of the key usage; `None` without that extension.
    pub signs: Option<bool>,
    /// (serverAuth, clientAuth); `None` without extended key usage.
    pub extended: Option<(bool, bool)>,
    /// X.509 version 3, which alone has extensions.
    pub version_3: bool,
    /// `ecdsa-with-SHA256`: how it is signed.
    pub(super) signature: String,
    /// Length of the public key, where it is RSA.
    pub(super) rsa_bits: Option<usize>,
    /// `ECDSA with P-521, which ...`: why TLS cannot use its key.
    pub(super) unusable_key: Option<String>,
    /// The public key's bits.
    pub(super) public_key: Vec<u8>,
    pub(super) raw_subject: Vec<u8>,
    pub(super) raw_issuer: Vec<u8>,
}

impl Certificate {
    /// Reads DER.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (rest, read) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("bytes follow the certificate".into());
        }
        let names = read
            .subject_alternative_name()
            .map_err(|error| error.to_string())?
            .map(|found| found.value.general_names.iter().map(name).collect())
            .unwrap_or_default();
        let usage = read.key_usage().map_err(|error| error.to_string())?;
        let extended = read
            .extended_key_usage()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            subject: shown(&read.subject().to_string()),
            issuer: shown(&read.issuer().to_string()),
            not_before: read.validity().not_before.timestamp(),
            not_after: read.validity().not_after.timestamp(),
            names,
            authority: read
                .basic_constraints()
                .map_err(|error| error.to_string())?
                .is_some_and(|found| found.value.ca),
            signs_certificates: usage.as_ref().map(|found| found.value.key_cert_sign()),
            signs: usage.as_ref().map(|found| found.value.digital_signature()),
            // anyExtendedKeyUsage is not looked at: TLS does not take it for either.
            extended: extended.map(|found| (found.value.server_auth, found.value.client_auth)),
            version_3: read.version() == X509Version::V3,
            signature: algorithm(&read.signature_algorithm.algorithm),
            rsa_bits: match read.public_key().parsed() {
                Ok(PublicKey::RSA(key)) => Some(key.key_size()),
                _ => None,
            },
            unusable_key: super::key::public_kind(read.public_key().raw),
            public_key: read.public_key().subject_public_key.data.to_vec(),
            raw_subject: read.subject().as_raw().to_vec(),
            raw_issuer: read.issuer().as_raw().to_vec(),
            der: der.to_vec(),
        })
    }

    /// Is it valid at that time?
    pub(super) fn valid(&self, at: i64) -> bool {
        (self.not_before..=self.not_after).contains(&at)
    }

    /// Valid, and to be warned about.
    pub fn ends_soon(&self, now: i64) -> bool {
        self.valid(now) && self.not_after - now <= WARN_DAYS * DAY
    }

    /// Signed by its own name.
    pub fn self_issued(&self) -> bool {
        self.raw_subject == self.raw_issuer
    }

    /// Its common name, for names that stand nowhere else.
    pub fn common_name(&self) -> Option<&str> {
        self.subject
            .split(", ")
            .find_map(|part| part.strip_prefix("CN="))
    }
}

/// `subject CN=a, issuer CN=b, valid 2026-01-01 to 2027-01-01, names a, 10.0.0.1`
impl fmt::Display for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "subject {}, issuer {}, valid {} to {}",
            self.subject,
            self.issuer,
            day(self.not_before),
            day(self.not_after)
        )?;
        if self.authority {
            formatter.write_str(", an authority")?;
        } else if self.names.is_empty() {
            formatter.write_str(", no names")?;
        } else {
            let (some, more) = self.names.split_at(self.names.len().min(8));
            write!(formatter, ", names {}", some.join(", "))?;
            if !more.is_empty() {
                write!(formatter, " and {} more", more.len())?;
            }
        }
        Ok(())
    }
}

/// Seconds since 1970 as `2026-01-31 12:00 UTC`.
pub fn day(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => {
            let text = time.to_string();
            let minute = text.get(..16).unwrap_or(&text);
            format!("{} UTC", minute.replace('T', " "))
        }
        // Beyond the year 9999: the "no expiry" of RFC 5280 and worse.
        Err(_) => "no date".into(),
    }
}

/// `ecdsa-with-SHA256`, or its number.
fn algorithm(oid: &Oid<'_>) -> String {
    match (oid2sn(oid, oid_registry()), oid.to_id_string()) {
        (Ok(name), _) => name.to_owned(),
        (Err(_), number) if number == "1.2.840.10045.4.1" => "ecdsa-with-SHA1".into(),
        (Err(_), number) => number,
    }
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        // A frequent mistake, and no address to anybody.
        GeneralName::DNSName(name) if name.parse::<IpAddr>().is_ok() => {
            format!("{name} as a DNS name")
        }
        GeneralName::DNSName(name) => shown(name),
        GeneralName::RFC822Name(name) => format!("email {}", shown(name)),
        GeneralName::URI(name) => format!("URI {}", shown(name)),
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => IpAddr::from([*a, *b, *c, *d]).to_string(),
            other => <[u8; 16]>::try_from(other).map_or_else(
                |_| "a broken address".into(),
                |bytes| IpAddr::from(bytes).to_string(),
            ),
        },
        other => shown(&other.to_string()),
    }
}

/// What a stranger wrote, fit for a console.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    let ellipsis = if cut.len() < text.len() { "..." } else { "" };
    if cut.is_empty() {
        return "(empty)".into();
    }
    format!("{}{ellipsis}", cut.escape_debug())
}
