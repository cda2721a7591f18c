//! Why there is no answer, by what the operator does about it.

use std::io;
use std::time::Duration;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

use super::Url;
use super::tls::{PinMissing, PinOfServer};
use crate::codes::{self, Code};
use crate::failure::Failure;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The name does not resolve.
    #[error("the name {host} does not resolve")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// There is no way to the address.
    #[error("there is no route to it")]
    Route(#[source] io::Error),
    /// Nothing listens there.
    #[error("connection refused")]
    Refused(#[source] io::Error),
    /// It took too long.
    #[error("no answer within {seconds} s: it stopped while {doing}", seconds = .after.as_secs_f32().ceil())]
    Timeout {
        /// What was under way.
        doing: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The server is not the one that is meant, or does not speak TLS.
    #[error("{0}")]
    Tls(String),
    /// Its certificate comes from nobody that is trusted.
    #[error("its certificate was not issued by the CA that is trusted")]
    Stranger,
    /// It shows an authority's certificate as its own.
    #[error("{0}")]
    OwnAuthority(&'static str),
    /// Its certificate is too old.
    #[error("its certificate has expired")]
    Expired,
    /// Its certificate is for somebody else.
    #[error("its certificate is for another name than {0}")]
    WrongName(String),
    /// The certificate is not valid yet: mostly this node's clock.
    #[error("its certificate is not valid yet by this node's clock")]
    NotYetValid,
    /// The connection ended early.
    #[error("the answer was cut off")]
    CutOff(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server cannot answer now: 429, 5xx.
    #[error("it answers {0}")]
    Unavailable(u16),
    /// Any other status that is not success.
    #[error("it answers {0}")]
    Status(u16),
    /// Redirects are not followed.
    #[error("it redirects ({status}) to {}", if .target.is_empty() { "nowhere" } else { .target })]
    Redirect {
        /// The status.
        status: u16,
        /// Where to, without the query.
        target: String,
    },
    /// More than metadata can be.
    #[error("the answer is larger than 1 MiB, which no metadata is")]
    TooLarge,
    /// The wrong kind of document.
    #[error("the answer is of type {0}, which metadata is not")]
    WrongType(String),
    /// Not HTTP, or compressed without having been asked to.
    #[error("the answer cannot be read: {0}")]
    NotHttp(String),
}

/// Does a server say so of a client without a certificate, or of TLS that it does
/// not speak? The next attempt would end in the same way.
fn is_about_the_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
    )
}

impl Trouble {
    /// How the connection attempt ended.
    pub(super) fn connecting(error: io::Error) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::ConnectionRefused => Self::Refused(error),
            K::ConnectionReset | K::ConnectionAborted | K::UnexpectedEof | K::BrokenPipe => {
                Self::CutOff(error.into())
            }
            _ => Self::Route(error),
        }
    }

    /// How far the attempt to connect got: of several addresses' troubles that
    /// of the furthest says most.
    pub(super) fn distance(&self) -> u8 {
        match self {
            Self::Dns { .. } => 0,
            Self::Route(_) => 1,
            Self::Timeout { .. } => 2,
            Self::Refused(_) => 3,
            _ => 4,
        }
    }

    /// How the TLS handshake ended.
    pub(super) fn handshake(error: io::Error, host: &str) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            None => Self::CutOff(error.into()),
            Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::Expired
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    Self::WrongName(host.to_owned())
                }
                CertificateError::UnknownIssuer => Self::Stranger,
                CertificateError::Other(other) if other.0.is::<PinOfServer>() => {
                    Self::OwnAuthority(
                        "the fingerprint that is pinned is that of the server's own certificate, \
                         not of the CA that issued it",
                    )
                }
                CertificateError::Other(other)
                    if matches!(
                        other.0.downcast_ref(),
                        Some(webpki::Error::CaUsedAsEndEntity)
                    ) =>
                {
                    Self::OwnAuthority(
                        "the certificate that it shows is an authority's (CA:TRUE), not a server's",
                    )
                }
                CertificateError::Other(other) if other.0.is::<PinMissing>() => {
                    Self::Tls(other.0.to_string())
                }
                other => Self::Tls(format!("its certificate is not acceptable: {other}")),
            },
            Some(rustls::Error::InvalidMessage(_)) => {
                Self::Tls("it does not speak TLS on that port".into())
            }
            Some(other) => Self::ended(other, "the TLS handshake failed"),
        }
    }

    /// How the handshake ended, as far as it is seen: in TLS 1.3 a server judges
    /// its client only when the client takes the connection for made.
    fn ended(error: &rustls::Error, what: &str) -> Self {
        match error {
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => Self::Tls(
                "it wants a client certificate, which is not supported: let it serve this URL without"
                    .into(),
            ),
            other => Self::Tls(format!("{what}: {other}")),
        }
    }

    /// How an exchange on an open connection ended.
    pub(super) fn exchange(error: hyper::Error) -> Self {
        if error.is_parse() {
            return Self::NotHttp(error.to_string());
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            let within = inner
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            match within.and_then(|within| within.downcast_ref()) {
                Some(tls @ rustls::Error::AlertReceived(alert)) if is_about_the_client(*alert) => {
                    return Self::ended(tls, "it ends the TLS connection");
                }
                // A proxy that is started again, or damage on the way.
                Some(_) => break,
                None => {}
            }
            cause = inner.source();
        }
        Self::CutOff(error.into())
    }

    /// Does trying again help?
    pub fn transient(&self) -> bool {
        match self {
            Self::Dns { .. }
            | Self::Route(_)
            | Self::Refused(_)
            | Self::Timeout { .. }
            | Self::NotYetValid
            | Self::CutOff(_)
            | Self::Unavailable(_) => true,
            Self::Tls(_)
            | Self::Stranger
            | Self::OwnAuthority(_)
            | Self::Expired
            | Self::WrongName(_)
            | Self::Status(_)
            | Self::Redirect { .. }
            | Self::TooLarge
            | Self::WrongType(_)
            | Self::NotHttp(_) => false,
        }
    }

    /// Did the server that is meant say something? An unreachable one has not,
    /// nor has one that could not prove who it is: a kept copy stands in for
    /// both, since whoever can forge the second can cause the first.
    pub fn answered(&self) -> bool {
        !self.transient()
            && !matches!(
                self,
                Self::Tls(_)
                    | Self::Stranger
                    | Self::OwnAuthority(_)
                    | Self::Expired
                    | Self::WrongName(_)
            )
    }

    /// Its code.
    pub fn code(&self) -> &'static Code {
        match self {
            Self::Dns { .. } => &codes::FETCH_DNS,
            Self::Route(_) => &codes::FETCH_ROUTE,
            Self::Refused(_) => &codes::FETCH_REFUSED,
            Self::Timeout { .. } => &codes::FETCH_TIMEOUT,
            Self::Tls(_)
            | Self::Stranger
            | Self::OwnAuthority(_)
            | Self::Expired
            | Self::WrongName(_) => &codes::FETCH_TLS,
            Self::NotYetValid => &codes::FETCH_CLOCK,
            Self::CutOff(_) => &codes::FETCH_CUT_OFF,
            Self::Unavailable(_) => &codes::FETCH_UNAVAILABLE,
            Self::Status(_) => &codes::FETCH_STATUS,
            Self::Redirect { .. } => &codes::FETCH_REDIRECT,
            Self::TooLarge | Self::WrongType(_) | Self::NotHttp(_) => &codes::FETCH_BODY,
        }
    }

    /// For the card.
    pub fn failure(&self, url: &Url, source: &str) -> Failure {
        let mut failure =
            Failure::new(self.code(), format!("{url} gives no metadata: {self}")).source(source);
        if let Some(cause) = std::error::Error::source(self) {
            failure = failure.cause(cause);
        }
        match self {
            Self::Expired => failure.remedy(
                "Renew the server's certificate; or, if this node's clock is ahead (`date --utc`), set it: date --utc --set 'YYYY-MM-DD HH:MM'.",
            ),
            Self::OwnAuthority(_) => failure.remedy(
                "Name the CA that issued the server's certificate, and let the server send both. Where that certificate signed itself, make a CA and issue the server a new one by it (CA:FALSE): so it can be renewed without changing every node.",
            ),
            Self::WrongName(host) => failure.remedy(format!(
                "Name the server in the URL as its certificate does, or issue it a certificate for {host}."
            )),
            Self::Redirect { target, .. } if !target.is_empty() => failure.remedy(format!(
                "If that is the right place, name it directly instead of this URL: {target}"
            )),
            Self::WrongType(kind) if kind.contains("html") => failure.remedy(
                "A web page came instead of metadata: a proxy, a log-in portal or a web server's error page answers. Fetch it by hand, from another machine (curl -v), and correct the URL or the server.",
            ),
            _ => failure,
        }
    }
}
