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
        let Some(label) = marker(header, "BEGIN") else {
            continue;
        };
        let mut body = Zeroizing::new(String::new());
        let mut ended = false;
        for (_, text) in lines.by_ref() {
            let text = text.trim();
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
                break;
            }
            if text.starts_with("-----BEGIN ") {
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

fn marker<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    line.trim()
        .strip_prefix("-----")?
        .strip_prefix(word)?
        .strip_prefix(' ')?
        .strip_suffix("-----")
}

/// What it is, when the bytes are DER: a SEQUENCE with a length of two or more
/// bytes, which no text starts with.
pub fn der_thing(bytes: &[u8]) -> Option<Thing> {
    match bytes {
        [0x30, 0x81..=0x84, ..] => Some(if Certificate::parse(bytes).is_ok() {
            Thing::Certificate
        } else {
            Thing::Key
        }),
        _ => None,
    }
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
