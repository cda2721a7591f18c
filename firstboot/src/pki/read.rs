//! From the metadata's values to certificates and a public key, or to what
//! stands there in their place.

use super::facts::Certificate;
use super::judge::{Court, Item, failure};
use super::key;
use super::pem::{self, Block, NotPem, Thing};
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
            self.find(
                failure(
                    &codes::PKI_SYNTAX,
                    item,
                    format!(
                        "the {} is damaged, or of a kind that cannot be used",
                        first.label
                    ),
                )
                .remedy(
                    "Use RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519; a new pair: \
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
            Ok(blocks) => return Some(blocks),
            Err(NotPem::Syntax(problem)) => failure(&codes::PKI_SYNTAX, item, problem),
            Err(NotPem::Der(thing)) => {
                let what = match thing {
                    Thing::Certificate => "a certificate in DER form",
                    Thing::Key => "in DER form",
                };
                let program = match wanted {
                    Thing::Certificate => "x509",
                    Thing::Key => "pkey",
                };
                failure(&codes::PKI_DER, item, format!("is {what}, not PEM text")).remedy(format!(
                    "Convert it: openssl {program} -inform der -in {file} -out {}",
                    converted(file)
                ))
            }
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

/// Beside the file in DER form, and never a name that looks like a mistake.
pub(crate) fn converted(file: &str) -> String {
    let stem = [".pem", ".der", ".crt", ".cer", ".key"]
        .iter()
        .find_map(|ending| file.strip_suffix(ending))
        .unwrap_or(file);
    format!("{stem}.converted.pem")
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
