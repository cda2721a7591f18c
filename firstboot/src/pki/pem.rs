//! PEM text (RFC 7468) to blocks, and what to say when it is none.

use base64::Engine as _;
use zeroize::Zeroizing;

use super::der::{Thing, der_thing};
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

/// Why bytes are not usable PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotPem {
    /// Binary DER.
    Der(Thing),
    /// A password protects the key; the label of its block.
    Encrypted(String),
    /// The line breaks are gone; the line where that shows.
    OneLine(usize),
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
            None if begins(header) => return Err(NotPem::OneLine(line)),
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

/// The certificates of a PEM text, for whoever only wants to show them.
pub fn certificates(bytes: &[u8]) -> Vec<Certificate> {
    blocks(bytes)
        .unwrap_or_default()
        .iter()
        .filter(|block| block.label.ends_with("CERTIFICATE"))
        .filter_map(|block| Certificate::parse(&block.der).ok())
        .collect()
}
