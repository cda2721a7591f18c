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

/// Masks the password of every `scheme://user:password@` and `user:password@`,
/// and every parameter of a query or fragment that says it is a secret (`?token=…`), in a
/// text that came from elsewhere (a driver's error, a tool's output).
pub fn mask_urls(text: &str) -> String {
    text.split_inclusive(ends_word)
        .map(|part| {
            let word = part.trim_end_matches(ends_word);
            mask_word(word) + &part[word.len()..]
        })
        .collect()
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'')
}

fn begins_query(c: char) -> bool {
    matches!(c, '?' | '#')
}

fn ends_parameter(c: char) -> bool {
    matches!(c, '&' | ';') || begins_query(c)
}

/// As [`mask_urls`], for a text that is one URL, whatever is in it.
pub fn mask_url(url: &str) -> String {
    mask_word(url)
}

fn mask_word(word: &str) -> String {
    let url = word.find("://");
    // `user:a://b@host` has no scheme, but an odd password.
    let scheme = url.filter(|start| !word[..*start].contains(':'));
    let (scheme, rest) = word.split_at(scheme.map_or(0, |start| start + 3));
    // Up to the last @: whoever did not encode the password can have a slash, a
    // question mark or another @ in it.
    let user = rest.rsplit_once('@');
    let user = user.and_then(|(user, host)| Some((user, user.split_once(':')?.0, host)));
    let rest = match user {
        Some((_, name, host)) => format!("{name}:{MASK}@{host}"),
        None => rest.to_owned(),
    };
    // That @ may as well stand in a query, whose mark is masked then.
    let query = match user {
        Some((user, _, host)) if user.contains(begins_query) => Some(rest.len() - host.len()),
        _ => None,
    };
    let query = rest.find(begins_query).into_iter().chain(query).min();
    let mut masked = String::from(scheme);
    match query.filter(|_| url.is_some()) {
        Some(start) => {
            let (path, query) = rest.split_at(start);
            masked.push_str(path);
            // A parameter may be a URL with a query of its own.
            for part in query.split_inclusive(ends_parameter) {
                let parameter = part.trim_end_matches(ends_parameter);
                masked.push_str(&mask_parameter(parameter));
                masked.push_str(&part[parameter.len()..]);
            }
        }
        None => masked.push_str(&rest),
    }
    masked
}

/// Does a value carry a password, or a user, in front of a host: with or without
/// a scheme, whatever is in the password? `https://host/a@b` does not; what can
/// be read in both ways (`https://host:80/a@b`) counts as a password.
pub fn has_user(text: &str) -> bool {
    let Some((before, _)) = text.rsplit_once('@') else {
        return false;
    };
    match before.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            scheme.contains(':')
                || rest.contains(':')
                || authority.len() == rest.len()
                || authority.contains('@')
        }
        None => before.contains(':'),
    }
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

    #[test]
    fn a_password_that_was_not_encoded_is_masked_to_its_end() {
        for (text, masked) in [
            (
                "to \"http://ops:S3C/R3T@proxy:3128\" today",
                "to \"http://ops:******@proxy:3128\" today",
            ),
            ("http://ops:S3C?R3T@proxy", "http://ops:******@proxy"),
            (
                "http://ops:S3C@R3T@h/?token=x",
                "http://ops:******@h/?token=******",
            ),
            ("via ops:S3C/R3T@proxy:3128,", "via ops:******@proxy:3128,"),
            ("via ops:S3C://R3T@proxy", "via ops:******@proxy"),
            ("http://h/x?token=a:b@c", "http://h/x?token=******"),
            (
                "http://u:S3CR3T@h/x?mail=a@b&token=S3CR3T#key=S3CR3T",
                "http://u:******@b&token=******#key=******",
            ),
            // No password at all.
            ("https://ops/sf?to=a@b", "https://ops/sf?to=a@b"),
            ("'sf'@'10.0.0.1:3306' failed", "'sf'@'10.0.0.1:3306' failed"),
            ("getty@tty1.service: failed", "getty@tty1.service: failed"),
        ] {
            assert_eq!(mask_urls(text), masked);
        }
    }

    #[test]
    fn a_user_in_front_of_a_host_is_found() {
        for text in [
            "http://ops:S3C/R3T@proxy:3128",
            "http://ops:S3C?R3T@proxy",
            "http://ops:1/R3T@proxy",
            "http://t0ken@proxy/a@b",
            "ops:S3CR3T@proxy:3128",
            "ops:S3C R3T\"@proxy",
            "ops:S3C://R3T/@proxy",
        ] {
            assert!(has_user(text), "{text}");
        }
        for text in [
            "http://proxy:3128",
            "https://ops/sf?to=a@b",
            "ops@example.com",
            "a@b:c",
            "10:30",
            "",
        ] {
            assert!(!has_user(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_password_survives(
            password in "[A-Za-z0-9%@:/?#&=]{8,24}",
            scheme in prop::sample::select(vec!["", "mysql://", "x=http://"]),
        ) {
            // With two slashes the user would be a scheme.
            prop_assume!(!scheme.is_empty() || !password.starts_with("//"));
            let value = format!("{scheme}user:{password}@host:1/db");
            prop_assert!(has_user(&value));
            let shown = mask_urls(&format!("x {value} y"));
            prop_assert!(!shown.contains(&password), "{}", shown);
            prop_assert_eq!(mask_urls(&shown), shown);
        }

        #[test]
        fn masking_is_idempotent(text in "[a-c:/@?&='\" ]{0,24}|.{0,40}") {
            let masked = mask_urls(&text);
            prop_assert_eq!(mask_urls(&masked), masked);
        }
    }
}
