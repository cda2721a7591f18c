//! PEM text (RFC 7468) to blocks, and what to say when it is none.

use base64::Engine as _;
use zeroize::Zeroizing;

use super::facts::Certificate;

/// One block.
pub(super) struct Block {
    /// `CERTIFICATE`.
    pub(super) label: String,
    /// Line of its header, from 1.
    pub(super) line: usize,
    /// Does something stand before the dashes? OpenSSL finds no block there,
    /// and so do the daemons that use it.
    pub(super) indented: bool,
    /// Decoded; may be a private key.
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// What DER bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A certificate.
    Certificate,
    /// A private key, or anything else.
    Key,
    /// Certificates and mostly their key, as Windows exports them (.pfx, .p12).
    Pkcs12,
    /// Certificates, as Windows authorities give them out (.p7b).
    Pkcs7,
}

impl Thing {
    /// What it is: `is a certificate in DER form`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Certificate => "a certificate in DER form",
            Self::Key => "in DER form",
            Self::Pkcs12 => "a PKCS#12 container (.pfx)",
            Self::Pkcs7 => "a PKCS#7 container (.p7b)",
        }
    }

    /// The command that makes PEM of it; `private` when a key is wanted.
    pub fn conversion(self, private: bool, file: &str) -> String {
        let program = match (self, private) {
            (Self::Certificate, _) | (Self::Key, false) => "x509 -inform der",
            (Self::Key, true) => "pkey -inform der",
            (Self::Pkcs12, true) => "pkcs12 -nocerts -nodes",
            (Self::Pkcs12, false) => "pkcs12 -nokeys",
            (Self::Pkcs7, _) => "pkcs7 -inform der -print_certs",
        };
        let mut made = converted(file);
        if (self, private) == (Self::Pkcs12, true) {
            // The certificates come out of the same file.
            made = made.replace(".converted.pem", ".key.pem");
        }
        format!("openssl {program} -in {file} -out {made}")
    }
}

/// Beside the file in DER form, and never a name that looks like a mistake.
pub(crate) fn converted(file: &str) -> String {
    let stem = [
        ".pem", ".der", ".crt", ".cer", ".key", ".pfx", ".p12", ".p7b",
    ]
    .iter()
    .find_map(|ending| file.strip_suffix(ending))
    .unwrap_or(file);
    format!("{stem}.converted.pem")
}

/// Why bytes are not usable PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotPem {
    /// Binary DER.
    Der(Thing),
    /// A password protects the key; the label of its block.
    Encrypted(String),
    /// Anything else, in words.
    Syntax(String),
}

/// Splits a text into its blocks. What stands between them does not count.
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<Block>, NotPem> {
    if let Some(thing) = der_thing(bytes) {
        return Err(NotPem::Der(thing));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(NotPem::Syntax("is neither PEM text nor DER".into()));
    };
    let mut blocks = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((line, header)) = lines.next() {
        let label = match marker(header, "BEGIN") {
            Some(label) => label,
            None if begins(header) => return Err(NotPem::Syntax(broken_header(line))),
            None => continue,
        };
        let mut body = Zeroizing::new(String::new());
        let mut ended = false;
        let mut indented = !header.starts_with('-');
        for (_, whole) in lines.by_ref() {
            let text = whole.trim();
            if text.starts_with("Proc-Type:") && text.contains("ENCRYPTED") {
                return Err(NotPem::Encrypted(label.into()));
            }
            if let Some(end) = marker(text, "END") {
                if end != label {
                    return Err(NotPem::Syntax(format!(
                        "the block {label} of line {line} ends as {end}: two blocks run into each other"
                    )));
                }
                ended = true;
                indented |= !whole.starts_with('-');
                break;
            }
            if begins(text) {
                break;
            }
            body.push_str(text);
        }
        if !ended {
            return Err(NotPem::Syntax(format!(
                "the block {label} of line {line} has no end: the text was cut off"
            )));
        }
        if label == "ENCRYPTED PRIVATE KEY" {
            return Err(NotPem::Encrypted(label.into()));
        }
        let der = base64::engine::general_purpose::STANDARD
            .decode(body.as_bytes())
            .map_err(|_| {
                NotPem::Syntax(format!(
                    "the block {label} of line {line} is damaged: it is not base64"
                ))
            })?;
        blocks.push(Block {
            label: label.into(),
            line,
            indented,
            der: Zeroizing::new(der),
        });
    }
    if blocks.is_empty() {
        return Err(NotPem::Syntax(
            "is not PEM text: no line starts with -----BEGIN".into(),
        ));
    }
    Ok(blocks)
}

/// The longest label that is believed; `ENCRYPTED PRIVATE KEY` has 21 letters.
const LABEL: usize = 40;

/// The label of a line that is a header or a footer and nothing else. Labels
/// are shown, and in a text that lost its line breaks everything, the key
/// included, stands between the first and the last dashes.
fn marker<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    bare(line)
        .strip_prefix("-----")?
        .strip_prefix(word)?
        .strip_prefix(' ')?
        .strip_suffix("-----")
        .filter(|label| {
            label.len() <= LABEL
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ')
        })
}

/// Does a block begin in this line, well or badly?
fn begins(line: &str) -> bool {
    bare(line).starts_with("-----BEGIN ")
}

/// The line without what may stand around it, which is white space or an
/// editor's byte order mark.
fn bare(line: &str) -> &str {
    line.trim().trim_start_matches('\u{feff}').trim_start()
}

fn broken_header(line: usize) -> String {
    format!(
        "more stands in line {line} than the header of a block: the text lost its line breaks on \
         the way here"
    )
}

/// OID 1.2.840.113549.1.7.2, signed data.
const SIGNED_DATA: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];

/// What it is, when the bytes are DER: a SEQUENCE with a length of two or more
/// bytes, which no text starts with, or a short key, whose version follows.
pub fn der_thing(bytes: &[u8]) -> Option<Thing> {
    let content = match bytes {
        [0x30, 0x81, _, content @ ..]
        | [0x30, 0x82, _, _, content @ ..]
        | [0x30, 0x83, _, _, _, content @ ..]
        | [0x30, 0x84, _, _, _, _, content @ ..] => content,
        [0x30, length @ ..=0x7f, content @ ..]
            if content.len() == usize::from(*length) && content.starts_with(&[2, 1]) =>
        {
            content
        }
        _ => return None,
    };
    Some(if Certificate::parse(bytes).is_ok() {
        Thing::Certificate
    } else if content.starts_with(&[2, 1, 3, 0x30]) {
        Thing::Pkcs12
    } else if content.starts_with(&SIGNED_DATA) {
        Thing::Pkcs7
    } else {
        Thing::Key
    })
}

/// The certificates of a PEM text, for whoever only wants to show them.
pub fn certificates(bytes: &[u8]) -> Vec<Certificate> {
    blocks(bytes)
        .unwrap_or_default()
        .iter()
        .filter(|block| block.label.ends_with("CERTIFICATE"))
        .filter_map(|block| Certificate::parse(&block.der).ok())
        .collect()
}
