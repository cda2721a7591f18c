//! Whom the agent believes on `https://`: certificate authorities that were
//! named, or one that is known by its fingerprint. Never everybody.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls;

/// SHA-256 of a certificate in DER, as `openssl x509 -fingerprint -sha256` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Reads 64 hex digits, with or without colons between the bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.replace(':', "");
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }
}

/// Whom to believe.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Nobody: for `http://`, where a digest or the cloud's own wiring vouches.
    Plain,
    /// These authorities, through this configuration.
    Tls(Arc<ClientConfig>),
}

impl Trust {
    /// Authorities in PEM; with a fingerprint, the one of them that has it.
    pub fn authorities(pem: &str, only: Option<Fingerprint>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let mut read = 0;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| "its PEM text is damaged or cut off")?;
            read += 1;
            if only.is_none_or(|only| Fingerprint::of(&certificate) == only) {
                roots.add(certificate).map_err(|error| {
                    format!("its certificate number {read} cannot be used: {error}")
                })?;
            }
        }
        if read == 0 {
            return Err("it holds no certificate (-----BEGIN CERTIFICATE-----)".into());
        }
        if roots.is_empty() {
            return Err("none of its certificates has the fingerprint that is pinned".into());
        }
        builder(|builder| builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// The public authorities in PEM, less those that are of no use.
    pub fn public(pem: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok),
        );
        if roots.is_empty() {
            return Err("it holds no certificate that can be used".into());
        }
        builder(|builder| builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// The authority with this fingerprint, which the server must send along.
    pub fn pinned(fingerprint: Fingerprint) -> Result<Self, String> {
        builder(|builder| {
            let verifier = Arc::new(Pinned {
                fingerprint,
                provider: Arc::new(ring::default_provider()),
            });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth()
        })
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder(finish: impl FnOnce(Builder) -> ClientConfig) -> Result<Trust, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Trust::Tls(Arc::new(finish(builder))))
}

/// The pinned certificate is not in the chain.
#[derive(Debug, thiserror::Error)]
#[error(
    "the certificates that it sends do not include the CA certificate whose fingerprint is pinned"
)]
pub(super) struct PinMissing;

/// The pinned certificate is the server's own, which no authority is.
#[derive(Debug, thiserror::Error)]
#[error(
    "the fingerprint that is pinned is that of the server's own certificate, not of the CA that issued it"
)]
pub(super) struct PinOfServer;

/// Takes the pinned certificate out of the server's chain and makes it the
/// only authority; everything else is the usual verification.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let other = |error| Error::InvalidCertificate(CertificateError::Other(OtherError(error)));
        if Fingerprint::of(end_entity) == self.fingerprint {
            return Err(other(Arc::new(PinOfServer)));
        }
        let authority = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.fingerprint)
            .ok_or_else(|| other(Arc::new(PinMissing)))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
