//! The rules for single values, each as a function from text to a typed value
//! or a sentence that says what is wrong and, after it, what to write.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::node::Network;
use super::value::shown;
use crate::secret::Secret;

/// What is wrong with a value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// RFC 1123, section 2.1: labels of 1 to 63 letters, digits and hyphens, 253
/// characters in all. Lower case, since the name is a key in the database.
pub(super) fn host_name(text: &str) -> Result<String, Wrong> {
    let what = shown(text);
    if text.is_empty() {
        return Err(Wrong::new("is empty"));
    }
    if text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() {
        return Err(Wrong::hint(
            format!("{what} is an address, not a name"),
            "write the fully qualified name, such as \"db1.example.com\"",
        ));
    }
    if let Some(rest) = text.strip_suffix('.') {
        return Err(Wrong::hint(
            format!("{what} ends in a dot"),
            format!("write {}", shown(rest)),
        ));
    }
    let lower = text.to_ascii_lowercase();
    if lower != text {
        // What else is wrong comes first: the hint is to be a name.
        let lower = host_name(&lower)?;
        return Err(Wrong::hint(
            format!("{what} has upper-case letters"),
            format!("write {}", shown(&lower)),
        ));
    }
    if text.len() > 253 {
        return Err(Wrong::new(format!(
            "is {} characters long; a host name has 253 at most",
            text.len()
        )));
    }
    for label in text.split('.') {
        let wrong = if label.is_empty() {
            Some("has an empty part".to_owned())
        } else if label.len() > 63 {
            Some("has a part of more than 63 characters".to_owned())
        } else if label.starts_with('-') || label.ends_with('-') {
            Some(format!(
                "has a part that starts or ends with a hyphen: {}",
                shown(label)
            ))
        } else {
            label
                .chars()
                .find(|c| !c.is_ascii_lowercase() && !c.is_ascii_digit() && *c != '-')
                .map(|c| format!("holds {c:?}"))
        };
        if let Some(wrong) = wrong {
            return Err(Wrong::hint(
                format!("{what} {wrong}"),
                "a host name is made of letters, digits and hyphens, with dots between its parts (RFC 1123)",
            ));
        }
    }
    let last = text.rsplit('.').next().unwrap_or(text);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::hint(
            format!("{what} ends in a part of digits alone, like an address"),
            "write the fully qualified name, such as \"db1.example.com\"",
        ));
    }
    Ok(text.to_owned())
}

/// An IPv4 address that one host can have.
pub(super) fn address(text: &str) -> Result<Ipv4Addr, Wrong> {
    let what = shown(text);
    let example = "write it as \"10.0.0.1\"";
    let address = text.parse::<Ipv4Addr>().map_err(|_| {
        if text.parse::<Ipv6Addr>().is_ok() {
            Wrong::hint(
                format!("{what} is an IPv6 address"),
                "Shaken Fist's nodes switch IPv6 off; give an IPv4 address",
            )
        } else if text.contains('/') {
            Wrong::hint(format!("{what} is a network, not an address"), example)
        } else {
            Wrong::hint(format!("{what} is not an IPv4 address"), example)
        }
    })?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err(Wrong::hint(
            format!("{what} is not the address of one host"),
            example,
        ));
    }
    Ok(address)
}

/// A network by its first address and its prefix, 8 to 30 bits.
pub(super) fn network(text: &str) -> Result<Network, Wrong> {
    let what = shown(text);
    let not = || {
        Wrong::hint(
            format!("{what} is not an IPv4 network"),
            "write it as \"192.168.20.0/24\"",
        )
    };
    let (first, bits) = text.split_once('/').ok_or_else(not)?;
    let address: Ipv4Addr = first.parse().map_err(|_| not())?;
    let prefix: u8 = bits.parse().map_err(|_| not())?;
    if !bits.bytes().all(|byte| byte.is_ascii_digit()) || prefix > 32 {
        return Err(not());
    }
    if !(8..=30).contains(&prefix) {
        return Err(Wrong::hint(
            format!("{what} has a prefix of {prefix} bits"),
            "a floating network has 8 to 30",
        ));
    }
    let mask = u32::MAX << (32 - u32::from(prefix));
    let start = Ipv4Addr::from(u32::from(address) & mask);
    if start != address {
        return Err(Wrong::hint(
            format!("{what} is an address within a network"),
            format!("write \"{start}/{prefix}\""),
        ));
    }
    Ok(Network { address, prefix })
}

/// What the kernel takes as an interface's name (`dev_valid_name`), less what
/// could not stand in the daemons' configuration.
pub(super) fn interface(text: &str) -> Result<String, Wrong> {
    let what = shown(text);
    if text.is_empty() || text == "." || text == ".." {
        return Err(Wrong::new(format!("{what} is not an interface's name")));
    }
    if text.len() > 15 {
        return Err(Wrong::hint(
            format!("{what} is {} bytes long; Linux allows 15", text.len()),
            "`ip -brief link` on the node shows the names",
        ));
    }
    let bad = |c: &char| {
        !c.is_ascii_graphic() || matches!(c, '/' | ':' | '"' | '\'' | '\\' | '=' | '`' | '$')
    };
    match text.chars().find(bad) {
        Some(c) => Err(Wrong::hint(
            format!("{what} holds {c:?}, which no interface's name has"),
            "`ip -brief link` on the node shows the names",
        )),
        None => Ok(text.to_owned()),
    }
}

/// One word, 1 to 64 letters, digits, `.`, `_`, `-`.
pub(super) fn word(text: &str) -> Result<String, Wrong> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&text.len()) && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err(Wrong::hint(
        format!("{} is not one word", shown(text)),
        "use 1 to 64 letters, digits, '.', '_' and '-'",
    ))
}

/// `500ms`, `30s`, `5m`, `1h`, between two bounds.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, Wrong> {
    let what = shown(text);
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor));
    let Some(millis) = millis else {
        return Err(Wrong::hint(
            format!("{what} is not a duration"),
            "write a whole number and ms, s, m or h, such as \"30s\"",
        ));
    };
    let duration = Duration::from_millis(millis);
    if duration < least || duration > most {
        return Err(Wrong::new(format!(
            "{what} is out of range: {} to {}",
            duration_text(least),
            duration_text(most)
        )));
    }
    Ok(duration)
}

/// A duration in the form that [`duration`] reads.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    if !millis.is_multiple_of(1_000) {
        return format!("{millis}ms");
    }
    let seconds = millis / 1_000;
    if seconds > 0 && seconds.is_multiple_of(3_600) {
        format!("{}h", seconds / 3_600)
    } else if seconds > 0 && seconds.is_multiple_of(60) {
        format!("{}m", seconds / 60)
    } else {
        format!("{seconds}s")
    }
}

/// `http` or `https`, with a host, without user and password.
pub(super) fn url(text: &str) -> Result<String, Wrong> {
    let example = "write it as \"https://ops.example.com/sf\"";
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or_else(|| Wrong::hint("is not an http or https URL", example))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if is_server(authority) && text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    // In a password that was not encoded there can be what ends an authority.
    if text.contains('@') {
        return Err(Wrong::hint(
            "carries a user or password, which would stand in logs",
            example,
        ));
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    Err(match port {
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Wrong::hint("has a port that is no number from 1 to 65535", example)
        }
        _ => Wrong::hint("is not a URL", example),
    })
}

/// `host` or `host:port`, the host a name, an IPv4 address or `[IPv6]`.
fn is_server(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match v6 {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(named),
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0)
    };
    is_host && port.is_none_or(is_port)
}

/// Name of a setting.
pub(super) fn config_key(key: &str) -> Result<(), Wrong> {
    if let Some(rest) = key.strip_prefix("SHAKENFIST_") {
        return Err(Wrong::hint(
            format!("{} has the prefix already", shown(key)),
            format!("write {rest}; the agent adds SHAKENFIST_"),
        ));
    }
    let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if key.is_empty() || key.len() > 128 || !key.bytes().all(good) {
        return Err(Wrong::hint(
            format!("{} is not the name of a setting", shown(key)),
            "names are made of A to Z, 0 to 9 and _",
        ));
    }
    Ok(())
}

/// A value that `/etc/sf/config` can carry: systemd and `sf-ctl` unquote it
/// differently, so nothing that either would change may stand in it. The
/// character that is in the way is named, never the value.
pub(super) fn config_value(text: &str, forbidden: &str) -> Result<(), Wrong> {
    let bad = text
        .chars()
        .find(|c| matches!(c, '"' | '\'' | '\\') || c.is_control() || forbidden.contains(*c));
    match bad {
        Some('=') => Err(Wrong::hint(
            "holds '=', which this release's sf-ctl cannot read in /etc/sf/config",
            "use a value without it; for a random one `openssl rand -hex 32`",
        )),
        Some(c) => Err(Wrong::hint(
            format!("holds {c:?}, which cannot stand in /etc/sf/config"),
            "systemd and sf-ctl unquote that file differently: use no quotes, backslashes or line breaks",
        )),
        None if text.trim() != text => Err(Wrong::hint(
            "starts or ends with a space",
            "remove it: systemd and sf-ctl would disagree about it",
        )),
        None => Ok(()),
    }
}

/// What API tokens are signed with.
pub(super) fn seed(text: &str) -> Result<(), Wrong> {
    let remedy = "make one with `openssl rand -hex 32`";
    if !(24..=128).contains(&text.chars().count()) {
        return Err(Wrong::hint(
            format!(
                "has {} characters; 24 to 128 are taken",
                text.chars().count()
            ),
            remedy,
        ));
    }
    if text.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(Wrong::hint(
            "holds a space or a character that is not ASCII",
            remedy,
        ));
    }
    Ok(())
}

/// The system namespace's key: bcrypt reads 72 bytes, and the REST API refuses
/// keys that start like its own tokens.
pub(super) fn system_key(text: &str) -> Result<(), Wrong> {
    let remedy = "make one with `openssl rand -hex 24`";
    if text.len() > 72 {
        return Err(Wrong::hint(
            format!(
                "is {} bytes long; 72 are the most that can be checked (bcrypt)",
                text.len()
            ),
            remedy,
        ));
    }
    if text.len() < 8 {
        return Err(Wrong::hint(
            format!("is {} bytes long; use 8 or more", text.len()),
            remedy,
        ));
    }
    if text.starts_with("sfk_") {
        return Err(Wrong::hint(
            "starts with \"sfk_\", which the REST API refuses",
            remedy,
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Wrong::hint(
            "holds a line break or another control character",
            remedy,
        ));
    }
    Ok(())
}

/// PEM text of certificates or of a private key, judged by its labels alone;
/// what is in it is for the PKI checks.
pub(super) fn pem(text: &str, private: bool) -> Result<Secret, Wrong> {
    let wanted = if private {
        "a private key"
    } else {
        "certificates"
    };
    let is_private = text.contains("PRIVATE KEY-----");
    if text.trim().is_empty() {
        return Err(Wrong::hint("is empty", format!("give {wanted} here")));
    }
    if text.starts_with("LS0tLS1CRUdJTi") {
        // As other tools keep secrets.
        return Err(Wrong::hint(
            "is PEM text wrapped in base64 once more",
            "unwrap it: base64 -d FILE",
        ));
    }
    if !text.contains("-----BEGIN ") {
        return Err(Wrong::hint(
            "is not PEM text",
            format!("it starts with -----BEGIN; give {wanted}, or a path that starts with '/'"),
        ));
    }
    if is_private == private {
        return Ok(Secret::new(text));
    }
    if is_private {
        return Err(Wrong::hint(
            "holds a private key",
            format!("give {wanted} here"),
        ));
    }
    let (found, hint) = [
        (
            "CERTIFICATE REQUEST-----",
            "a certificate request",
            "give the private key that the request was made with",
        ),
        (
            "PUBLIC KEY-----",
            "a public key",
            "give the private half, which stays with its owner",
        ),
        (
            "CERTIFICATE-----",
            "certificates",
            "give the private key that belongs to the certificate",
        ),
    ]
    .into_iter()
    .find(|(label, ..)| text.contains(label))
    .map_or(
        ("something else", "give a private key here"),
        |(_, found, hint)| (found, hint),
    );
    Err(Wrong::hint(
        format!("holds {found}, and no private key"),
        hint,
    ))
}
