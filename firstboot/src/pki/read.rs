//! From the metadata's values to certificates and a public key, or to what
//! stands there in their place.

use super::der::{Thing, converted};
use super::facts::Certificate;
use super::judge::{Court, Item, failure};
use super::key;
use super::pem::{self, Block, NotPem};
use crate::codes;
use crate::failure::Failure;

impl Court {
    /// The certificates of an item, in their order; findings when there is none.
    pub(super) fn certificates(&mut self, item: &Item<'_>) -> Vec<Certificate> {
        let Some(blocks) = self.blocks(item, Thing::Certificate) else {
            return Vec::new();
        };
        let mut certificates = Vec::new();
        for block in &blocks {
            if block.label.contains("PRIVATE KEY") {
                self.find(misplaced(item, "a private key", "certificates"));
            } else if matches!(
                block.label.as_str(),
                "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"
            ) {
                match Certificate::parse(&block.der) {
                    Ok(certificate) => certificates.push(certificate),
                    Err(error) => {
                        let mut failure = failure(
                            &codes::PKI_SYNTAX,
                            item,
                            format!("the certificate of line {} cannot be read", block.line),
                        );
                        failure.causes.push(error);
                        if block.label == "TRUSTED CERTIFICATE" {
                            // What OpenSSL trusts it for stands behind it.
                            let file = item.file.unwrap_or("FILE");
                            failure = failure.remedy(format!(
                                "Write it as a plain certificate: openssl x509 -in {file} -out {}",
                                converted(file)
                            ));
                        }
                        self.find(failure);
                    }
                }
            } else if block.label.contains("CERTIFICATE REQUEST") {
                self.find(misplaced(
                    item,
                    "a certificate request",
                    "the certificate that the authority made from it",
                ));
            }
        }
        if certificates.is_empty()
            && self
                .verdict
                .findings
                .iter()
                .all(|known| !known.what.starts_with(item.field))
        {
            self.find(misplaced(
                item,
                &format!("a block {}", labels(&blocks)),
                "certificates",
            ));
        }
        certificates
    }

    /// The public half of the item's key.
    pub(super) fn private(&mut self, item: &Item<'_>) -> Option<Vec<u8>> {
        let blocks = self.blocks(item, Thing::Key)?;
        let keys: Vec<&Block> = blocks
            .iter()
            .filter(|block| block.label.ends_with("PRIVATE KEY"))
            .collect();
        let Some(first) = keys.first() else {
            let found = if blocks
                .iter()
                .any(|block| block.label.contains("CERTIFICATE"))
            {
                "a certificate".to_owned()
            } else {
                format!("a block {}", labels(&blocks))
            };
            self.find(misplaced(item, &found, "the private key"));
            return None;
        };
        if keys.len() > 1 {
            self.find(
                failure(
                    &codes::PKI_SYNTAX,
                    item,
                    format!("there are {} private keys", keys.len()),
                )
                .remedy("Leave the one that belongs to the certificate."),
            );
            return None;
        }
        let public = key::public_half(first);
        if public.is_none() {
            let what = match key::kind(first) {
                Some(kind) => format!("the key is {kind}"),
                None => format!("the {} is damaged", first.label),
            };
            self.find(
                failure(&codes::PKI_SYNTAX, item, what)
                    .remedy(
                        "Use RSA of 2048 to 4096 bits, ECDSA P-256 or P-384, or Ed25519; a new pair: \
                         openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                         -keyout node.key -out node.csr",
                    )
                    .next_command(format!(
                        "openssl pkey -noout -check -in {}",
                        item.file.unwrap_or("FILE")
                    )),
            );
        }
        public
    }

    fn blocks(&mut self, item: &Item<'_>, wanted: Thing) -> Option<Vec<Block>> {
        let file = item.file.unwrap_or("FILE");
        let failure = match pem::blocks(item.bytes) {
            Ok(blocks) => match blocks.iter().find(|block| block.indented) {
                None => return Some(blocks),
                Some(block) => failure(
                    &codes::PKI_SYNTAX,
                    item,
                    format!(
                        "the block {} of line {} is indented, and OpenSSL finds no block that is",
                        block.label, block.line
                    ),
                )
                .remedy(
                    "Remove what stands before the dashes: spaces, or an editor's byte order mark.",
                ),
            },
            Err(NotPem::OneLine(line)) => failure(
                &codes::PKI_SYNTAX,
                item,
                format!(
                    "more stands in line {line} than the header of a block: the text lost its \
                     line breaks on the way here"
                ),
            )
            .remedy(
                "Give the text as the file has it, line by line; in TOML it stands between three \
                 double quotes on each side.",
            ),
            Err(NotPem::Syntax(problem)) => failure(&codes::PKI_SYNTAX, item, problem),
            Err(NotPem::Der(thing)) => failure(
                &codes::PKI_DER,
                item,
                format!("is {}, not PEM text", thing.words()),
            )
            .remedy(thing.remedy(wanted == Thing::Key, item.file)),
            Err(NotPem::Encrypted(label)) => failure(
                &codes::PKI_ENCRYPTED,
                item,
                format!(
                    "the {label} is encrypted with a pass phrase, which nobody can type at boot"
                ),
            )
            .remedy(format!(
                "Decrypt it and protect the file instead: umask 077; openssl pkey -in {file} \
                 -out {file}.plain"
            )),
        };
        self.find(failure);
        None
    }
}

fn misplaced(item: &Item<'_>, found: &str, wanted: &str) -> Failure {
    failure(
        &codes::PKI_SYNTAX,
        item,
        format!(
            "holds {found}, where {wanted} belong{}",
            if wanted.ends_with('s') { "" } else { "s" }
        ),
    )
    .remedy(format!("Give {wanted} in {}.", item.field))
}

fn labels(blocks: &[Block]) -> String {
    let labels: Vec<&str> = blocks.iter().map(|block| block.label.as_str()).collect();
    labels.join(", ")
}
