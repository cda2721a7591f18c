//! A URL that metadata is fetched from, and how it is shown.

use sf_contract::secret::{MASK, mask_url};
use std::fmt;

use hyper::Uri;

/// An `http://` or `https://` URL. Shown without its query, which can hold a
/// token.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Is it `https`?
    pub https: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Given, or the scheme's own.
    pub port: u16,
    /// What `Host:` says.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl Url {
    /// Takes a URL apart; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("it has a fragment (#), which no server sees");
        }
        let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err("only http:// and https:// can be fetched"),
            None => return Err("it does not start with http:// or https://"),
        };
        let authority = uri.authority().ok_or("it names no server")?;
        if authority.as_str().contains('@') {
            return Err("it has a user name or password in it, which is not supported");
        }
        let host = uri.host().unwrap_or_default();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err("it names no server");
        }
        // A number that is too large is no port, and would be none given.
        let given = authority.as_str().rsplit_once(':').map(|(_, port)| port);
        let given = given.filter(|port| !port.is_empty() && !port.ends_with(']'));
        let port = match (given, uri.port_u16()) {
            (_, Some(port)) if port > 0 => port,
            (None, None) => {
                if https {
                    443
                } else {
                    80
                }
            }
            _ => return Err("its port is no number from 1 to 65535"),
        };
        Ok(Self {
            https,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            target: uri
                .path_and_query()
                .map_or("/", |target| target.as_str())
                .to_owned(),
        })
    }

    /// The same server, another path.
    pub(in crate::sources) fn at(&self, target: &str) -> Self {
        Self {
            target: target.to_owned(),
            ..self.clone()
        }
    }

    /// All of it, for telling one URL from another.
    pub(in crate::sources) fn whole(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority, self.target)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It holds no user (see `parse`), whatever is in its path.
        let (path, query) = match self.target.split_once('?') {
            Some((path, _)) => (path, "?"),
            None => (self.target.as_str(), ""),
        };
        let mask = if query.is_empty() { "" } else { MASK };
        write!(
            formatter,
            "{}://{}{path}{query}{mask}",
            self.scheme(),
            self.authority
        )
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A URL, perhaps relative or none at all, as it may be shown. It is one word,
/// whatever a server has put into it.
pub(super) fn without_query(url: &str) -> String {
    let printable: String = url
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
        .collect();
    let shown = match printable.split_once(['?', '#']) {
        // That may be a mark in the middle of a password, as it came.
        Some((path, query)) if query.contains('@') && !is_plain(path) => MASK.to_owned(),
        Some((path, _)) => format!("{}?{MASK}", mask_url(path)),
        None => mask_url(&printable),
    };
    shown.chars().take(500).collect()
}

/// A URL's beginning in which no password can begin.
fn is_plain(path: &str) -> bool {
    let rest = path.split_once("://").map_or(path, |(_, rest)| rest);
    !rest.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_not_encoded_is_not_shown_in_part() {
        for url in [
            "http://u:e.com\"S3CR3T@h/x?token=S3CR3T#S3CR3T",
            "http://u:S3CR3T?S3CR3T@h/x",
            "http://u:S3CR3T S3CR3T@h/x",
            "http://h/x?a=http://u:S3CR3T@h",
            "http://u:S3CR3T@h ;?x@y=S3CR3T#S3CR3T",
            "http://u:S3CR3T@h/x?mail=a@b&c=S3CR3T",
            "u:S3CR3T?@h/S3CR3T",
        ] {
            let shown = without_query(url);
            assert!(!shown.contains("S3CR3T"), "{shown}");
        }
        assert_eq!(without_query("http://h/x?a=b"), "http://h/x?******");
        assert_eq!(without_query("http://h/x?a=b@c"), "http://h/x?******");
        assert_eq!(without_query("http://h:80/x?a=b"), "http://h:80/x?******");
        assert_eq!(without_query("/x"), "/x");
    }
    use proptest::prelude::*;

    #[test]
    fn urls_are_taken_apart_and_shown_without_their_query() {
        let url = Url::parse("https://[2001:db8::1]:8443/n/1.toml?token=S3CR3T").unwrap();
        assert_eq!(
            (url.https, url.host.as_str(), url.port),
            (true, "2001:db8::1", 8443)
        );
        assert_eq!(url.target, "/n/1.toml?token=S3CR3T");
        assert_eq!(
            url.to_string(),
            "https://[2001:db8::1]:8443/n/1.toml?******"
        );
        assert!(!format!("{url:?}").contains("S3CR3T"));
        for (text, shown) in [
            (
                "https://deploy:8443/n/hv1@site.toml",
                "https://deploy:8443/n/hv1@site.toml",
            ),
            (
                "https://deploy:8443/n.toml?mail=a@b",
                "https://deploy:8443/n.toml?******",
            ),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), shown);
        }
        let url = Url::parse("http://host").unwrap();
        assert_eq!((url.port, url.target.as_str()), (80, "/"));
        assert_eq!(Url::parse("https://[::1]/").unwrap().port, 443);
        assert_eq!(Url::parse("http://host:/").unwrap().port, 80);
        let port = "its port is no number from 1 to 65535";
        for (text, why) in [
            ("http://host:80800/", port),
            ("https://[::1]:99999/", port),
            ("http://host:0/", port),
            ("ftp://host/x", "only http:// and https:// can be fetched"),
            ("host/x", "it is not a URL"),
            ("/x", "it does not start with http:// or https://"),
            ("http://a b/", "it is not a URL"),
            (
                "http://u:p@host/",
                "it has a user name or password in it, which is not supported",
            ),
            (
                "http://host/#x",
                "it has a fragment (#), which no server sees",
            ),
            ("", "it is not a URL"),
        ] {
            assert_eq!(Url::parse(text).unwrap_err(), why, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}") {
            if let Ok(url) = Url::parse(&text) {
                prop_assert!(!url.to_string().is_empty());
            }
            let _ = without_query(&text);
        }

        #[test]
        fn no_query_is_shown(query in "[a-z0-9]{12}") {
            let url = Url::parse(&format!("http://h/p?{query}")).unwrap();
            prop_assert!(!url.to_string().contains(&query));
        }
    }
}
