//! The database's address as the operator writes it:
//! `mysql://user:password@host1,host2:3306,[::1]:3307/name?ssl-mode=required`.
//!
//! The parser is pure and takes the text apart; it resolves nothing. It refuses
//! rather than guesses, and **no error quotes any of it**, because a DSN that
//! does not parse may have its password, or a secret of the lines below it,
//! anywhere.

mod error;

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::document::did_you_mean;
use crate::secret::{MASK, Secret};

pub use error::DsnError;

/// The port that MariaDB listens on when the DSN names none.
pub const DEFAULT_PORT: u16 = 3306;

/// The parameters that a DSN may have.
const PARAMETERS: [&str; 3] = ["ssl-mode", "ssl-ca", "socket"];

/// RFC 3986's unreserved characters stay; the rest is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One server that the DSN names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// What the DSN demands of the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disabled,
    /// TLS where the server offers it, without looking at its certificate.
    #[default]
    Preferred,
    /// TLS or nothing, without looking at the certificate.
    Required,
    /// TLS, and the certificate comes from a CA that this node trusts.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host that was asked for.
    VerifyIdentity,
}

impl SslMode {
    /// All modes, weakest first.
    pub const ALL: [Self; 5] = [
        Self::Disabled,
        Self::Preferred,
        Self::Required,
        Self::VerifyCa,
        Self::VerifyIdentity,
    ];

    /// The name as written in a DSN.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Preferred => "preferred",
            Self::Required => "required",
            Self::VerifyCa => "verify-ca",
            Self::VerifyIdentity => "verify-identity",
        }
    }

    /// Does a connection without TLS break what the operator asked for?
    pub fn demands_tls(self) -> bool {
        !matches!(self, Self::Disabled | Self::Preferred)
    }

    /// Is the server's certificate looked at?
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyIdentity)
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A DSN that parsed. `Display` and `Debug` mask the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    user: String,
    password: Option<Secret>,
    hosts: Vec<HostPort>,
    name: String,
    ssl_mode: SslMode,
    ssl_ca: Option<String>,
    socket: Option<String>,
}

impl Dsn {
    /// User, percent-decoded.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Password, percent-decoded; `None` when the DSN has no `:` after the user.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Servers in the order in which they are tried; empty with a socket alone.
    pub fn hosts(&self) -> &[HostPort] {
        &self.hosts
    }

    /// The first host, for settings that take only one (`MARIADB_HOST`);
    /// `localhost` for a socket.
    pub fn host(&self) -> &str {
        self.hosts
            .first()
            .map_or("localhost", |first| first.host.as_str())
    }

    /// The first host's port.
    pub fn port(&self) -> u16 {
        self.hosts.first().map_or(DEFAULT_PORT, |first| first.port)
    }

    /// Name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the DSN demands of the transport.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// Path of a PEM file with the one authority that the servers' certificates
    /// come from; it outweighs `pki.ca`.
    pub fn ssl_ca(&self) -> Option<&str> {
        self.ssl_ca.as_deref()
    }

    /// Path of a unix socket that is used instead of the hosts.
    pub fn socket(&self) -> Option<&str> {
        self.socket.as_deref()
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "mysql://{}",
            utf8_percent_encode(&self.user, ENCODED)
        )?;
        if self.password.is_some() {
            write!(formatter, ":{MASK}")?;
        }
        formatter.write_str("@")?;
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{host}")?;
        }
        write!(formatter, "/{}", utf8_percent_encode(&self.name, ENCODED))?;
        let mut separator = '?';
        if self.ssl_mode != SslMode::default() {
            write!(formatter, "{separator}ssl-mode={}", self.ssl_mode)?;
            separator = '&';
        }
        for (name, path) in [("ssl-ca", &self.ssl_ca), ("socket", &self.socket)] {
            if let Some(path) = path {
                let path = utf8_percent_encode(path, ENCODED).to_string();
                write!(formatter, "{separator}{name}={}", path.replace("%2F", "/"))?;
                separator = '&';
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Dsn({self})")
    }
}

impl FromStr for Dsn {
    type Err = DsnError;

    fn from_str(text: &str) -> Result<Self, DsnError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(DsnError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(DsnError::Control);
        }
        let rest = text.strip_prefix("mysql://").ok_or(DsnError::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        // From here on a stray delimiter means that a password was pasted as it
        // is: everything after it would be misread, so nothing is.
        if tail.contains('@') || authority.matches('@').count() > 1 {
            return Err(DsnError::Unencoded);
        }
        let (userinfo, hosts) = authority.split_once('@').ok_or(DsnError::NoUser)?;
        let (user, password) = match userinfo.split_once(':') {
            Some((user, password)) => (user, Some(decode(password, "password")?)),
            None => (userinfo, None),
        };
        let user = decode(user, "user")?;
        if user.is_empty() {
            return Err(DsnError::NoUser);
        }
        if tail.contains('#') {
            return Err(DsnError::Fragment);
        }
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let Parameters {
            ssl_mode,
            ssl_ca,
            socket,
        } = parameters(query)?;
        let ssl_mode = ssl_mode.unwrap_or_default();
        let hosts = if socket.is_some() && hosts.is_empty() {
            Vec::new()
        } else {
            hosts
                .split(',')
                .enumerate()
                .map(|(index, host)| host_port(host, index + 1))
                .collect::<Result<Vec<_>, _>>()?
        };
        if socket.is_some() {
            if hosts.iter().any(|host| host.host != "localhost") {
                return Err(DsnError::SocketAndHosts);
            }
            if ssl_mode.demands_tls() {
                return Err(DsnError::SocketAndTls);
            }
        }
        Ok(Self {
            user,
            password: password.map(Secret::new),
            hosts,
            name: database(path)?,
            ssl_mode,
            ssl_ca,
            socket,
        })
    }
}

fn decode(text: &str, part: &'static str) -> Result<String, DsnError> {
    let error = DsnError::Encoding { part };
    // The decoder leaves a broken `%zz` as it is, which would change a password silently.
    let broken = text.match_indices('%').any(|(at, _)| {
        !text
            .as_bytes()
            .get(at + 1..at + 3)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    });
    if broken {
        return Err(error);
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| error)
}

fn host_port(text: &str, position: usize) -> Result<HostPort, DsnError> {
    if text.is_empty() {
        return Err(DsnError::EmptyHost { position });
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(DsnError::BadHost { position })?;
            address
                .parse::<Ipv6Addr>()
                .map_err(|_| DsnError::BadHost { position })?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(DsnError::BadHost { position }),
            };
            (address, port)
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(DsnError::BadHost { position }),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(DsnError::EmptyHost { position });
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !text.starts_with('[') && !host.bytes().all(plain) {
        return Err(DsnError::BadHost { position });
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(DsnError::BadPort { position })?,
        Some(_) => return Err(DsnError::BadPort { position }),
    };
    Ok(HostPort {
        host: host.to_owned(),
        port,
    })
}

fn database(path: &str) -> Result<String, DsnError> {
    let name = decode(path.strip_prefix('/').unwrap_or(path), "database name")?;
    if name.is_empty() {
        return Err(DsnError::NoDatabase);
    }
    let problem = if name.chars().count() > 64 {
        Some("is longer than 64 characters, which MariaDB does not take")
    } else if name.contains(['/', '\\', '\0', '`', '\'', '"']) || name.chars().any(char::is_control)
    {
        Some("has a slash, a quote, a backslash or a control character")
    } else if name.ends_with(' ') {
        Some("ends in a space, which MariaDB does not take")
    } else {
        None
    };
    match problem {
        Some(problem) => Err(DsnError::BadDatabase { problem }),
        None => Ok(name),
    }
}

#[derive(Default)]
struct Parameters {
    ssl_mode: Option<SslMode>,
    ssl_ca: Option<String>,
    socket: Option<String>,
}

fn parameters(query: &str) -> Result<Parameters, DsnError> {
    let mut all = Parameters::default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    for (pair, position) in pairs.zip(1..) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "ssl-mode" => {
                let wanted = value.to_ascii_lowercase().replace('_', "-");
                let mode = SslMode::ALL
                    .into_iter()
                    .find(|mode| mode.name() == wanted)
                    .ok_or(DsnError::BadSslMode)?;
                if all.ssl_mode.replace(mode).is_some() {
                    return Err(DsnError::Twice { name: "ssl-mode" });
                }
            }
            "ssl-ca" => absolute("ssl-ca", value, &mut all.ssl_ca)?,
            "socket" => absolute("socket", value, &mut all.socket)?,
            other => {
                return Err(DsnError::UnknownParameter {
                    position,
                    suggestion: did_you_mean(other, PARAMETERS.into_iter()),
                });
            }
        }
    }
    let mode = all.ssl_mode.unwrap_or_default();
    if all.ssl_ca.is_some() && !mode.verifies() {
        return Err(DsnError::CaUnused { mode });
    }
    Ok(all)
}

fn absolute(name: &'static str, value: &str, known: &mut Option<String>) -> Result<(), DsnError> {
    let path = decode(value, name)?;
    if !path.starts_with('/') || path.contains('\0') {
        return Err(DsnError::BadPath { name });
    }
    if known.replace(path).is_some() {
        return Err(DsnError::Twice { name });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
