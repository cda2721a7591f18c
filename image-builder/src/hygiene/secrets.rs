//! Finds secrets in files: real PEM blocks, passwords in URLs and settings,
//! password hashes. Nothing that these functions return quotes a secret.

/// Words that stand for a password in documentation, examples and templates.
const PLACEHOLDERS: &[&str] = &[
    "pass",
    "passwd",
    "password",
    "pwd",
    "secret",
    "user",
    "username",
    "token",
    "tiger",
    "example",
    "changeme",
    "foo",
    "bar",
    "baz",
    "test",
    "none",
    "null",
    "true",
    "false",
    "redacted",
    "xxx",
    "dbpass",
    "mypassword",
    "mypass",
    "yourpassword",
    "passw0rd",
    "p%40ss",
    "guest",
];

/// Where a private key stands, if the file has a whole one.
pub(super) fn private_key(content: &[u8]) -> Option<String> {
    let mut from = 0;
    while let Some(at) = find(&content[from..], b"-----BEGIN ") {
        let start = from + at;
        let rest = &content[start + 11..];
        from = start + 11;
        let Some(label_end) = find(&rest[..rest.len().min(64)], b"-----") else {
            continue;
        };
        let label = String::from_utf8_lossy(&rest[..label_end]).into_owned();
        if !label.contains("PRIVATE KEY") {
            continue;
        }
        let body = &rest[label_end + 5..];
        // The end must be its own, and between them must be enough base64 for
        // the smallest key there is. Libraries hold the markers alone.
        let end = format!("-----END {label}-----");
        let Some(body_end) = find(body, end.as_bytes()) else {
            continue;
        };
        if base64_in(&body[..body_end]) >= 48 {
            let line = content[..start].split(|byte| *byte == b'\n').count();
            return Some(format!(
                "holds a private key (PEM \"{label}\", line {line})"
            ));
        }
    }
    None
}

/// Characters of base64 in a PEM body, 0 when it is something else. In source
/// code a line may end in `\n` written out.
fn base64_in(body: &[u8]) -> usize {
    let text = String::from_utf8_lossy(body).replace("\\n", "\n");
    let mut count = 0;
    for line in text.lines() {
        let line = line.trim_matches(|c: char| c.is_whitespace() || "\"'+,\\".contains(c));
        if line.contains(": ") || line.is_empty() {
            // "Proc-Type: 4,ENCRYPTED" and the blank line after it.
            continue;
        }
        let plain = line
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        if !plain {
            return 0;
        }
        count += line.len();
    }
    count
}

/// Passwords in URLs, and in settings of files that are configuration.
pub(super) fn passwords(path: &str, content: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(content) else {
        return Vec::new();
    };
    if text.contains('\0') {
        return Vec::new();
    }
    if is_python_source(path) {
        return Vec::new();
    }
    let configuration = is_configuration(path);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if let Some(scheme) = url_password(line) {
            found.push(format!(
                "holds a password in a {scheme} URL (line {number})"
            ));
        }
        if let Some(key) = secret_setting(line, configuration) {
            found.push(format!(
                "sets {key} to what looks like a real value (line {number})"
            ));
        }
    }
    found
}

/// Source code of Python packages and its documentation: full of examples, and
/// public (Debian's, or pinned by hash).
fn is_python_source(path: &str) -> bool {
    let packages = path.contains("/site-packages/") || path.contains("/dist-packages/");
    let source = [".py", ".pyi", ".rst", ".md", "/METADATA"]
        .iter()
        .any(|ending| path.ends_with(ending));
    packages && source
}

fn is_configuration(path: &str) -> bool {
    const ENDINGS: &[&str] = &[
        ".conf",
        ".cfg",
        ".ini",
        ".env",
        ".toml",
        ".yaml",
        ".yml",
        ".json",
        ".service",
        ".socket",
        ".credential",
        ".network",
        ".netdev",
        ".cnf",
        ".properties",
        "/.netrc",
        "/.my.cnf",
        "/.pgpass",
    ];
    path.starts_with("/etc/") || ENDINGS.iter().any(|ending| path.ends_with(ending))
}

/// The scheme of a URL in `line` that has a user and a password that is no
/// placeholder.
fn url_password(line: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(at) = line[from..].find("://") {
        let at = from + at;
        let start = line[..at]
            .rfind(|c: char| !c.is_ascii_alphanumeric() && !"+.-".contains(c))
            .map_or(0, |index| {
                index + line[index..].chars().next().map_or(1, char::len_utf8)
            });
        let scheme = &line[start..at];
        let rest = &line[at + 3..];
        let end = rest
            .find(|c: char| c.is_whitespace() || "/\"'<>`()[]{}|\\".contains(c))
            .unwrap_or(rest.len());
        from = at + 3;
        let Some((userinfo, host)) = rest[..end].rsplit_once('@') else {
            continue;
        };
        let Some((user, password)) = userinfo.split_once(':') else {
            continue;
        };
        // Where each of several hosts has a user, the last one counts as well.
        let last = password
            .rsplit(',')
            .next()
            .and_then(|last| last.split_once(':'));
        if last.is_some_and(|(_, password)| is_placeholder(password)) {
            continue;
        }
        if !user.is_empty() && !host.is_empty() && !scheme.is_empty() && !is_placeholder(password) {
            return Some(scheme);
        }
    }
    None
}

/// The key of a setting whose name says that it is a secret and whose value is
/// one. Anywhere at all for Shaken Fist's own keys, in configuration for others.
fn secret_setting(line: &str, configuration: bool) -> Option<String> {
    let line = line.trim();
    let own = line.contains("SHAKENFIST_");
    if !(configuration || own) || line.starts_with(['#', ';', '/', '*', '<']) {
        return None;
    }
    let line = line
        .trim_start_matches("export ")
        .trim_start_matches("Environment=");
    let (key, value) = line.split_once(['=', ':'])?;
    let key = key.trim_matches(|c: char| c.is_whitespace() || "\"'{".contains(c));
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let upper = key.to_ascii_uppercase().replace(['-', '.'], "_");
    let secret = ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET"]
        .iter()
        .any(|word| upper.contains(word))
        || ["_SEED", "_KEY", "_TOKEN", "AUTH_HEADER"]
            .iter()
            .any(|end| upper.ends_with(end));
    if !plain || !secret {
        return None;
    }
    let value = value
        .trim()
        .trim_end_matches(',')
        .trim_matches(|c| "\"'".contains(c));
    let one_word =
        !value.contains(char::is_whitespace) && !value.starts_with(['/', '@', '[', '{', '-', '.']);
    // A word of the language, a package's name or a flag is no secret; a secret
    // has eight characters at least, of two kinds.
    let mixed =
        value.chars().any(|c| c.is_ascii_digit()) && value.chars().any(|c| c.is_ascii_alphabetic());
    (one_word && value.len() >= 8 && mixed && !is_placeholder(value)).then(|| key.to_owned())
}

fn is_placeholder(text: &str) -> bool {
    let plain = text
        .trim_end_matches(|c: char| c.is_ascii_digit())
        .to_ascii_lowercase();
    text.is_empty()
        || PLACEHOLDERS.contains(&plain.as_str())
        || PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str())
        || text
            .chars()
            .any(|c| "%{}<>$*[]()\\".contains(c) && !text.starts_with("%2") && !is_encoded(text))
        || text
            .chars()
            .all(|c| ".x*#-_".contains(c.to_ascii_lowercase()))
}

/// Percent-encoding is how a real password with special characters is written;
/// `%s` and `%(name)s` are templates.
fn is_encoded(text: &str) -> bool {
    let hex = |part: &str| {
        let digits = part.get(..2);
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    !text.contains(['{', '}', '<', '>', '$', '*', '[', ']', '(', ')', '\\'])
        && text.split('%').skip(1).all(hex)
        && text.contains('%')
}

/// Users of a shadow file that can log in with a password, or without one.
pub(super) fn logins(shadow: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(shadow)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (user, hash) = (fields.next()?, fields.next()?);
            if hash.is_empty() {
                Some(format!("lets {user} log in without a password"))
            } else if hash.starts_with(['!', '*']) {
                None
            } else {
                Some(format!("has a password for {user}"))
            }
        })
        .collect()
}

/// The first place of `needle`.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    // Images hold hundreds of MiB: look for the needle's first byte a vector at
    // a time, which is what the standard library's search for a byte does.
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        let start = from + at;
        if haystack[start..].starts_with(needle) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\nMzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu\n";

    #[test]
    fn real_keys_are_found_and_markers_are_not() {
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
        ] {
            let pem = format!("# note\n-----BEGIN {label}-----\n{KEY}-----END {label}-----\n");
            let what = private_key(pem.as_bytes()).expect(label);
            assert!(what.contains(label) && what.contains("line 2"), "{what}");
            assert!(!what.contains("MII"), "{what}");
        }
        let encrypted = format!(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{KEY}-----END RSA PRIVATE KEY-----\n"
        );
        assert!(private_key(encrypted.as_bytes()).is_some());
        let in_source = format!(
            "k = \"-----BEGIN PRIVATE KEY-----\\n{}-----END PRIVATE KEY-----\\n\"",
            KEY.replace('\n', "\\n")
        );
        assert!(private_key(in_source.as_bytes()).is_some());
        for harmless in [
            "-----BEGIN PRIVATE KEY-----".to_owned(),
            "\0-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----\0".to_owned(),
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n".to_owned(),
            format!("-----BEGIN CERTIFICATE-----\n{KEY}-----END CERTIFICATE-----\n"),
            format!("-----BEGIN PRIVATE KEY-----\n{KEY}"),
            "-----BEGIN RSA PRIVATE KEY-----\nbut the text goes on\n-----END RSA PRIVATE KEY-----"
                .to_owned(),
        ] {
            assert_eq!(private_key(harmless.as_bytes()), None, "{harmless}");
        }
    }

    #[test]
    fn passwords_in_urls_are_found_and_examples_are_not() {
        for line in [
            "dsn = \"mysql://sf:hunter2@db1,db2:3306/shakenfist\"",
            "url: mysql+pymysql://sf:p%40ss%2Fw%23rd@db/sf",
            "Acquire::http::Proxy \"http://me:Sesame9@proxy:3128\";",
            "x https://a.example y https://u:0penSesame@h/",
        ] {
            assert!(url_password(line).is_some(), "{line}");
        }
        for line in [
            "mysql://scott:tiger@localhost/test",
            "postgresql://user:password@host/db",
            "http://%s:%s@%s",
            "mysql://{user}:{pw}@{host}",
            "redis://:@localhost",
            "https://user@example.com/x:y",
            "http://[::1]:80/",
            "see http://x.example:8080/a@b:c",
            "mysql://user:pass1@host",
            "amqp://guest:guest@localhost",
            "mysql://sf:PASSWORD@db.example.com/x",
            "https://foo.com:123,foo:bar@bar.com/path",
            "ü://a:b",
        ] {
            assert_eq!(url_password(line), None, "{line}");
        }
    }

    #[test]
    fn secret_settings_are_found_and_words_are_not() {
        for line in [
            "SHAKENFIST_AUTH_SECRET_SEED=\"Zk3hQv9TzzLmPq\"",
            "Environment=SHAKENFIST_MARIADB_PASSWORD=Zk3hQv9T",
            "password = correct1horse",
            "\"api_token\": \"abc123def456\",",
        ] {
            assert!(secret_setting(line, true).is_some(), "{line}");
        }
        assert!(
            secret_setting(
                "os.environ['X'] = 1; SHAKENFIST_AUTH_SECRET_SEED=Zk3hQv9T1",
                false
            )
            .is_none()
        );
        assert!(secret_setting("export SHAKENFIST_AUTH_SECRET_SEED=Zk3hQv9T1", false).is_some());
        assert!(secret_setting("password = correct1horse", false).is_none());
        for line in [
            "# password = correct1horse",
            "passwd: files systemd",
            "password [success=1 default=ignore] pam_unix.so",
            "password=changeme",
            "spice_tls_x509_secret = /etc/pki/x1",
            "password_hash = sha512crypt of",
            "ssl_key = server-key",
            "SHAKENFIST_AUTH_SECRET_SEED={seed1234}",
            "max_token: 12345678",
        ] {
            assert_eq!(secret_setting(line, true), None, "{line}");
        }
    }

    #[test]
    fn locked_users_are_right_and_others_are_not() {
        assert_eq!(
            logins(b"root:*:20000::::::\nsf:!:1::::::\nx:!*:1::::::\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            logins(b"root::20000::::::\nsf:$y$j9T$abc$def:1::::::\n"),
            [
                "lets root log in without a password",
                "has a password for sf"
            ]
        );
    }

    proptest! {
        /// Whatever the bytes, nothing panics, and no secret is quoted.
        #[test]
        fn any_bytes_can_be_judged(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = private_key(&bytes);
            let _ = passwords("/etc/x", &bytes);
            let _ = logins(&bytes);
        }

        #[test]
        fn a_password_in_a_url_is_found_and_never_shown(password in "[A-Za-z0-9]{9,20}[0-9][A-Z]") {
            let line = format!("dsn=mysql://sf:{password}@db/x");
            let found = passwords("/usr/share/x.txt", line.as_bytes());
            prop_assert_eq!(found.len(), 1);
            prop_assert!(!found[0].contains(&password));
        }
    }
}
