//! TLS with the database server: whom to trust, why a handshake failed, and
//! which certificate the server showed.
//!
//! The driver verifies, by rustls, against exactly the authorities that it is
//! given here: the public ones that it would add by itself are taken out of
//! the build (see `firstboot/no-public-roots`).

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error, SignatureScheme,
};
use sf_contract::metadata::dsn::HostPort;
use webpki::anchor_from_trusted_cert;

use crate::codes::{self, Code};
use crate::failure::Failure;
use crate::pki::{self, Certificate};

/// Authorities of the system, for servers with a certificate of a public one.
pub(super) const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How long looking at the server's certificate may take, step by step.
const LIMIT: Duration = Duration::from_secs(2);

/// PEM text of the authorities in `pem`, without those that rustls cannot use.
pub(super) fn authorities(pem: &[u8]) -> Option<Vec<u8>> {
    let mut text = String::new();
    for certificate in pki::certificates(pem) {
        let der = CertificateDer::from(certificate.der.as_slice());
        if anchor_from_trusted_cert(&der).is_ok() {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            text.push_str(&base64::engine::general_purpose::STANDARD.encode(&certificate.der));
            text.push_str("\n-----END CERTIFICATE-----\n");
        }
    }
    (!text.is_empty()).then(|| text.into_bytes())
}

/// Reads [`authorities`] from a file.
pub(super) fn authorities_of(file: &Path) -> Result<Vec<u8>, Failure> {
    let failure = |what: &str| {
        Failure::new(
            &codes::DB_TLS_CA,
            format!("the authority's file {} {what}", file.display()),
        )
    };
    let pem = crate::read::bytes(file, crate::read::LIMIT)
        .map_err(|error| failure("cannot be read").cause(&error))?;
    if pki::der_thing(&pem).is_some() {
        return Err(failure("is DER, not PEM").remedy(format!(
            "Convert it: openssl x509 -inform der -in {} -out {}",
            file.display(),
            pki::converted(&file.to_string_lossy())
        )));
    }
    authorities(&pem).ok_or_else(|| failure("holds no certificate in PEM form"))
}

/// Why a handshake failed, by what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Absent,
    Issuer,
    Expired,
    NotYetValid,
    Name,
    Protocol,
    Other,
}

impl Fault {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let inner = match error {
            sqlx::Error::Io(io) => io.get_ref().and_then(|inner| inner.downcast_ref::<Error>()),
            sqlx::Error::Tls(inner) => {
                if inner.to_string().contains("does not support TLS") {
                    return Self::Absent;
                }
                inner.downcast_ref::<Error>()
            }
            _ => None,
        };
        inner.map_or(Self::Other, Self::of_rustls)
    }

    fn of_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(problem) => match problem {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::Expired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::Name,
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Issuer,
                _ => Self::Other,
            },
            Error::PeerIncompatible(_)
            | Error::AlertReceived(
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity,
            ) => Self::Protocol,
            _ => Self::Other,
        }
    }

    pub(super) fn code(self) -> &'static Code {
        match self {
            Self::Absent => &codes::DB_TLS_ABSENT,
            Self::Issuer => &codes::DB_TLS_ISSUER,
            Self::Expired => &codes::DB_TLS_EXPIRED,
            Self::NotYetValid => &codes::DB_TLS_NOT_YET_VALID,
            Self::Name => &codes::DB_TLS_NAME,
            Self::Protocol => &codes::DB_TLS_PROTOCOL,
            Self::Other => &codes::DB_TLS,
        }
    }

    /// Is it worth a second connection to see the certificate? Not where the
    /// agent tries again and again: a server counts broken connections.
    pub(super) fn shows(self) -> bool {
        !matches!(self, Self::Absent | Self::NotYetValid)
    }

    /// Does the handshake leave open what is wrong with the certificate? Old
    /// protocols are one reason for which no cipher is found, the key another.
    pub(super) fn is_vague(self) -> bool {
        matches!(self, Self::Issuer | Self::Protocol | Self::Other)
    }

    /// What is wrong, after "the database at db1:3306".
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Absent => "offers no TLS",
            Self::Issuer => "has a certificate of another authority",
            Self::Expired => "has a certificate that has expired",
            Self::NotYetValid => "has a certificate that is not valid yet",
            Self::Name => "has a certificate for another name",
            Self::Protocol => "speaks neither TLS 1.2 nor 1.3 with a cipher that is safe",
            Self::Other => "and this node could not agree on TLS",
        }
    }
}

/// The certificates that the server shows, its own first, whoever it is; empty when
/// it shows none. Sends no password: the handshake is broken off as soon as they
/// are there.
pub(super) async fn shown_by(host: &HostPort) -> Vec<Certificate> {
    let host = host.clone();
    tokio::task::spawn_blocking(move || look(&host))
        .await
        .ok()
        .flatten()
        .unwrap_or_default()
}

fn look(host: &HostPort) -> Option<Vec<Certificate>> {
    let address = (host.host.as_str(), host.port)
        .to_socket_addrs()
        .ok()?
        .next()?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    // The greeting: three bytes of length, a number, the body.
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let [low, middle, high, _] = header;
    let mut greeting = vec![0; u32::from_le_bytes([low, middle, high, 0]) as usize];
    stream.read_exact(&mut greeting).ok()?;
    // SSLRequest: PROTOCOL_41 | SSL | SECURE_CONNECTION, packets of 16 MiB, utf8mb4.
    let mut request = vec![32, 0, 0, 1];
    request.extend(0x0000_8a00_u32.to_le_bytes());
    request.extend(0x0100_0000_u32.to_le_bytes());
    request.push(45);
    request.resize(36, 0);
    stream.write_all(&request).ok()?;

    let seen = Arc::new(Seen::default());
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(seen.clone())
            .with_no_client_auth();
    let name = ServerName::try_from(host.host.clone()).ok()?;
    let mut client = ClientConnection::new(Arc::new(config), name).ok()?;
    // Seen ends the handshake, so this never succeeds.
    let _ = client.complete_io(&mut stream);
    let shown = std::mem::take(&mut *seen.0.lock().ok()?);
    let (own, between) = shown.split_first()?;
    let own = Certificate::parse(own).ok()?;
    let between = between
        .iter()
        .filter_map(|der| Certificate::parse(der).ok());
    Some(std::iter::once(own).chain(between).collect())
}

/// Keeps the server's certificates and refuses them.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Vec<u8>>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Ok(mut seen) = self.0.lock() {
            let all = std::iter::once(end_entity).chain(intermediates);
            *seen = all.map(|one| one.to_vec()).collect();
        }
        Err(Error::General("only looked at".into()))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_tls12_signature(message, cert, dss)
    }

    /// Also what cannot be verified: a server shows no certificate to a client
    /// that does not know its key's kind, and then nobody could say so.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes();
        schemes.extend([
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED448,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]);
        schemes
    }
}
