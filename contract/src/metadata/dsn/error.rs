//! Why a text is not a DSN, told without any of it.

use super::{PARAMETERS, SslMode};

/// Why a text is not a DSN. Says what to write instead; never shows the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// There is nothing.
    #[error("the DSN is empty; write it as {FORM}")]
    Empty,
    /// A line break, a NUL or the like, not percent-encoded.
    #[error(
        "the DSN has a line break or another control character; \
         it stands on one line, and its quote is closed there"
    )]
    Control,
    /// Not `mysql://`.
    #[error(
        "the DSN does not start with mysql:// (MariaDB's scheme is mysql too); write it as {FORM}"
    )]
    Scheme,
    /// A character that ends the authority stands in the user or the password.
    #[error(
        "the user or the password has a character that must be percent-encoded: \
         @ as %40, / as %2F, ? as %3F, # as %23"
    )]
    Unencoded,
    /// A `%` that is not followed by two hex digits, or bytes that are not UTF-8.
    #[error("the {part} is not valid percent-encoding of UTF-8; write a % itself as %25")]
    Encoding {
        /// `user`, `password`, `database name`, `ssl-ca`, `socket`.
        part: &'static str,
    },
    /// No `user@`.
    #[error("the DSN names no user; write it as {FORM}")]
    NoUser,
    /// Two commas in a row, or nothing between `@` and `/`.
    #[error("host {position} of the DSN is empty; write it as {FORM}")]
    EmptyHost {
        /// Counted from 1.
        position: usize,
    },
    /// Not a name, an IPv4 address or an IPv6 address in brackets.
    #[error(
        "host {position} of the DSN is neither a name nor an address; \
         an IPv6 address stands in brackets, [::1]:3306"
    )]
    BadHost {
        /// Counted from 1.
        position: usize,
    },
    /// Not 1 to 65535.
    #[error("the port of host {position} is not a number from 1 to 65535")]
    BadPort {
        /// Counted from 1.
        position: usize,
    },
    /// No `/name`.
    #[error("the DSN names no database; write it after the hosts, {FORM}")]
    NoDatabase,
    /// MariaDB takes no such name.
    #[error("the database name {problem}")]
    BadDatabase {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `#…`.
    #[error("the DSN has a # fragment, which means nothing here")]
    Fragment,
    /// A parameter that is not known.
    #[error("parameter {position} of the DSN is not known; {}", known(*.suggestion))]
    UnknownParameter {
        /// Counted from 1.
        position: usize,
        /// The known name that is nearest.
        suggestion: Option<&'static str>,
    },
    /// The same parameter twice.
    #[error("the DSN has the parameter \"{name}\" twice")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// `ssl-mode=` with another value.
    #[error(
        "ssl-mode has a value that is not known; \
         write disabled, preferred, required, verify-ca or verify-identity"
    )]
    BadSslMode,
    /// `ssl-ca=` or `socket=` that is not an absolute path.
    #[error("{name} is not an absolute path")]
    BadPath {
        /// The parameter.
        name: &'static str,
    },
    /// `ssl-ca=` in a mode that looks at no certificate.
    #[error("ssl-ca is of no use with ssl-mode={mode}; write ssl-mode=verify-identity")]
    CaUnused {
        /// The mode.
        mode: SslMode,
    },
    /// A socket, and hosts that would not be used.
    #[error("the DSN has both a socket and hosts; with socket= write localhost or no host")]
    SocketAndHosts,
    /// A socket, and a demand that it cannot meet.
    #[error("the DSN demands TLS on a unix socket; write ssl-mode=disabled, or hosts instead")]
    SocketAndTls,
}

/// The form that errors show.
const FORM: &str = "mysql://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE[?ssl-mode=…]";

fn known(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("known are {}", PARAMETERS.join(", ")),
    }
}
