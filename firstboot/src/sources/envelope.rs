//! What somebody wrote into a "user data" field: our metadata, nothing, or a
//! document for another program. All channels that were made for cloud-init
//! share this.

use std::fmt;

/// What user data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserData<'d> {
    /// A text that can be our TOML, less a byte order mark.
    Text(&'d str),
    /// Nothing but white space, or a `#cloud-config` with nothing in it.
    Empty,
}

/// User data that is certainly no metadata of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// For cloud-init: what kind of its documents.
    CloudInit(&'static str),
    /// For Ignition.
    Ignition,
    /// A page for a browser, of a proxy or a log-in portal.
    Html,
    /// Compressed.
    Compressed(&'static str),
    /// Bytes that are no text; the first of them is in this line.
    NotText {
        /// 1-based.
        line: usize,
    },
}

/// First words of what cloud-init takes, lower case.
const CLOUD_INIT: [(&str, &str); 11] = [
    ("#cloud-config-archive", "a #cloud-config-archive"),
    ("#cloud-config", "a #cloud-config document"),
    ("#cloud-boothook", "a #cloud-boothook"),
    ("#include", "an #include list"),
    ("#part-handler", "a #part-handler"),
    ("#upstart-job", "an #upstart-job"),
    ("## template:", "a template for cloud-init"),
    ("#!", "a script (#!)"),
    ("content-type: multipart", "a MIME multipart document"),
    ("mime-version:", "a MIME document"),
    ("from nobody", "a MIME document"),
];

/// Says what `bytes` are, by their beginning.
pub fn user_data(bytes: &[u8]) -> Result<UserData<'_>, Foreign> {
    match bytes {
        [0x1f, 0x8b, ..] => return Err(Foreign::Compressed("gzip")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(Foreign::Compressed("zstd")),
        [b'B', b'Z', b'h', ..] => return Err(Foreign::Compressed("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(Foreign::Compressed("xz")),
        _ => {}
    }
    let text = std::str::from_utf8(bytes).map_err(|error| Foreign::NotText {
        line: bytes
            .iter()
            .take(error.valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count()
            + 1,
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Some services pad with zeros; a zero elsewhere is TOML's business.
    let text = text.trim_end_matches('\0');
    let start = text.trim_start();
    if start.is_empty() {
        return Ok(UserData::Empty);
    }
    if is_empty_cloud_config(start) {
        return Ok(UserData::Empty);
    }
    let head: String = start.chars().take(64).collect::<String>().to_lowercase();
    if let Some((_, kind)) = CLOUD_INIT.iter().find(|(word, _)| head.starts_with(word)) {
        return Err(Foreign::CloudInit(kind));
    }
    if head.starts_with("<!doctype html") || head.starts_with("<html") {
        return Err(Foreign::Html);
    }
    if head.starts_with('{') && start.contains("\"ignition\"") {
        return Err(Foreign::Ignition);
    }
    Ok(UserData::Text(text))
}

/// A `#cloud-config` that says nothing to anybody. Shaken Fist puts one on the
/// config drive of every instance that was given no user data, since
/// cloud-init complains about an empty file.
fn is_empty_cloud_config(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case("#cloud-config"))
        && lines.all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}

impl fmt::Display for Foreign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloudInit(kind) => write!(formatter, "{kind}, which is for cloud-init"),
            Self::Ignition => formatter.write_str("a config for Ignition"),
            Self::Html => formatter.write_str("a web page (HTML)"),
            Self::Compressed(kind) => write!(formatter, "compressed with {kind}"),
            Self::NotText { line } => {
                write!(
                    formatter,
                    "not UTF-8 text (the first wrong byte is in line {line})"
                )
            }
        }
    }
}

/// The `instance-id` of a `NoCloud` `meta-data` document, which is YAML or JSON:
/// only that one key is looked for, at the top level.
pub fn nocloud_instance_id(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Ok(document) = serde_json::from_str::<serde_json::Value>(text) {
        return clean(document.get("instance-id")?.as_str()?);
    }
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("instance-id:"))?
        .trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        value
            .strip_prefix(quote)?
            .split_once(quote)
            .map(|(inside, _)| inside)
    });
    clean(quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or(value)))
}

/// The `uuid` of OpenStack's `meta_data.json`. `Err` when it is not JSON.
pub fn openstack_instance_id(bytes: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let document: serde_json::Value = serde_json::from_slice(bytes)?;
    Ok(document
        .get("uuid")
        .and_then(serde_json::Value::as_str)
        .and_then(clean))
}

/// What may stand in a message: short and printable.
pub(super) fn clean(id: &str) -> Option<String> {
    let id: String = id
        .trim()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(64)
        .collect();
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documents_are_told_apart() {
        let table: [(&[u8], &str); 17] = [
            (b"schema = 1\n", "ours"),
            (b"\xef\xbb\xbf#sf-metadata\nschema = 1\n\0\0", "ours"),
            (b" \r\n\n", "empty"),
            (b"", "empty"),
            (
                b"\n#cloud-config\nx: 1",
                "a #cloud-config document, which is for cloud-init",
            ),
            (b"#cloud-config\n", "empty"),
            (b"#cloud-config\r\n\r\n# nothing\r\n", "empty"),
            (
                b"#cloud-config\n{}\n",
                "a #cloud-config document, which is for cloud-init",
            ),
            (b"#!/bin/sh\n", "a script (#!), which is for cloud-init"),
            (
                b"Content-Type: multipart/mixed; boundary=x",
                "a MIME multipart document, which is for cloud-init",
            ),
            (
                b"MIME-Version: 1.0",
                "a MIME document, which is for cloud-init",
            ),
            (b"{\"ignition\":{}}", "a config for Ignition"),
            (b"<!DOCTYPE html><p>", "a web page (HTML)"),
            (b"<HTML>", "a web page (HTML)"),
            (b"\x1f\x8b\x08\0", "compressed with gzip"),
            (
                b"a\nb\xff",
                "not UTF-8 text (the first wrong byte is in line 2)",
            ),
            (b"# a comment\nschema = 1\n", "ours"),
        ];
        for (bytes, expected) in table {
            let shown = match user_data(bytes) {
                Ok(UserData::Text(_)) => "ours".to_owned(),
                Ok(UserData::Empty) => "empty".to_owned(),
                Err(foreign) => foreign.to_string(),
            };
            assert_eq!(shown, expected, "{bytes:?}");
        }
    }

    #[test]
    fn instance_ids_are_found() {
        for (text, expected) in [
            ("instance-id: iid-1\nlocal-hostname: x\n", Some("iid-1")),
            ("local-hostname: x\ninstance-id: \"i 1\" # c\n", Some("i1")),
            ("instance-id: iid-2 # why\n", Some("iid-2")),
            ("{\"instance-id\": \"j\"}", Some("j")),
            ("nested:\n  instance-id: no\n", None),
            ("instance-id:\n", None),
        ] {
            assert_eq!(
                nocloud_instance_id(text.as_bytes()).as_deref(),
                expected,
                "{text}"
            );
        }
        assert_eq!(
            openstack_instance_id(b"{\"uuid\":\"u\"}")
                .unwrap()
                .as_deref(),
            Some("u")
        );
        assert_eq!(openstack_instance_id(b"{}").unwrap(), None);
        assert!(openstack_instance_id(b"<html>").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = user_data(&bytes);
            let _ = nocloud_instance_id(&bytes);
            let _ = openstack_instance_id(&bytes);
        }
    }
}
