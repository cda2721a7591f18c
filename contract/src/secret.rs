//! Values that must never be shown, and the rules by which a key's name says
//! that its value is one.

use std::fmt;

use zeroize::Zeroizing;

/// What stands in the place of a secret wherever something is shown.
pub const MASK: &str = "******";

/// A text that is never shown: `Debug` and `Display` print [`MASK`], and the
/// memory is wiped when it is dropped. It is not `Serialize` on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// Does a key's name say that its value is a secret? The rule is Shaken Fist's
/// own log contract (`SECRET|PASSWORD|PASSPHRASE|TOKEN|AUTH_HEADER|_SEED$|_KEY$`)
/// and `dsn`, which carries a password.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_uppercase().replace('-', "_");
    let last = key.rsplit('.').next().unwrap_or(&key);
    ["SECRET", "PASSWORD", "PASSPHRASE", "TOKEN", "AUTH_HEADER"]
        .iter()
        .any(|part| last.contains(part))
        || last.ends_with("_SEED")
        || last.ends_with("_KEY")
        || last == "DSN"
}

/// Masks the password of every `scheme://user:password@`, and every parameter
/// of a query that says it is a secret (`?token=…`), in a text that came from
/// elsewhere (a driver's error, a tool's output).
pub fn mask_urls(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let authority = start + 3;
        let end = rest[authority..]
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?'))
            .map_or(rest.len(), |offset| authority + offset);
        masked.push_str(&rest[..authority]);
        match rest[authority..end].rsplit_once('@') {
            Some((user, host)) => {
                let name = user.split_once(':').map_or(user, |(name, _)| name);
                masked.push_str(name);
                if user.contains(':') {
                    masked.push(':');
                    masked.push_str(MASK);
                }
                masked.push('@');
                masked.push_str(host);
            }
            None => masked.push_str(&rest[authority..end]),
        }
        rest = &rest[end..];
        let tail = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\''))
            .unwrap_or(rest.len());
        match rest[..tail].split_once('?') {
            Some((path, query)) => {
                masked.push_str(path);
                masked.push('?');
                let parameters: Vec<String> = query.split('&').map(mask_parameter).collect();
                masked.push_str(&parameters.join("&"));
            }
            None => masked.push_str(&rest[..tail]),
        }
        rest = &rest[tail..];
    }
    masked.push_str(rest);
    masked
}

fn mask_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((key, value)) if !value.is_empty() => {
            let plain = key.to_ascii_lowercase();
            let short = matches!(
                plain.as_str(),
                "key" | "apikey" | "auth" | "sig" | "signature"
            );
            if short || is_secret_key(key) {
                format!("{key}={MASK}")
            } else {
                parameter.to_owned()
            }
        }
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neither_debug_nor_display_shows_it() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "****** ******");
    }

    #[test]
    fn keys_are_judged_by_their_last_part() {
        for key in [
            "secrets.system_key",
            "AUTH_SECRET_SEED",
            "database.dsn",
            "api_token",
            "x.Password",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["node.name", "pki.certificate", "KEYBOARD", "cluster.zone"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn urls_keep_user_and_host() {
        assert_eq!(
            mask_urls("no route to mysql://sf:p%40ss@db1,db2:3306/sf?x=1 today"),
            "no route to mysql://sf:******@db1,db2:3306/sf?x=1 today"
        );
        assert_eq!(mask_urls("http://host/path"), "http://host/path");
        assert_eq!(
            mask_urls("post to https://ops/sf?node=a&token=abc&sig=x or 'http://h?api_key=1'"),
            "post to https://ops/sf?node=a&token=******&sig=****** or 'http://h?api_key=******'"
        );
    }

    proptest! {
        #[test]
        fn no_password_survives(password in "[A-Za-z0-9%@:]{8,24}") {
            let shown = mask_urls(&format!("x mysql://user:{password}@host:1/db y"));
            prop_assert!(!shown.contains(&password));
        }
    }
}
