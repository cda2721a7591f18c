//! Follows the references of secrets to credentials and files.

use sf_contract::metadata::{Reference, Unresolved, fields};
use sf_contract::secret::Secret;

use super::Places;
use super::read::{self, Bytes, Files};
use super::store::Store;
use crate::codes::{self, Code};
use crate::failure::Failure;
use crate::pki;

/// Why a reference could not be followed, and what follows from that.
pub(super) struct Nowhere {
    /// For the finding.
    pub(super) unresolved: Unresolved,
    /// There is no such file or credential, rather than a broken one.
    pub(super) absent: bool,
    /// A code that says more than that the reference is wrong.
    pub(super) code: Option<&'static Code>,
}

impl From<Unresolved> for Nowhere {
    fn from(unresolved: Unresolved) -> Self {
        Self {
            unresolved,
            absent: false,
            code: None,
        }
    }
}

impl Nowhere {
    fn absent(message: String, hint: String) -> Self {
        Self {
            absent: true,
            ..unresolved(message, hint).into()
        }
    }
}

/// The text that `reference` leads to, less a byte order mark and one closing
/// line break. Pushes a warning when every user can read it. Only for references
/// that [`sf_contract::metadata::Merged::resolve`] hands out: names are names.
pub(super) fn follow(
    places: &Places,
    field: &str,
    reference: &Reference,
    warnings: &mut Vec<Failure>,
) -> Result<Secret, Nowhere> {
    match reference {
        Reference::Credential(name) => credential(places, field, name),
        Reference::File(path) => file(places, field, path, warnings),
    }
}

fn credential(places: &Places, field: &str, name: &str) -> Result<Secret, Nowhere> {
    let shown = format!("credential {name}");
    let Some(store) = &places.credentials else {
        return Err(Nowhere::absent(
            format!("refers to the {shown}, but systemd gave this process no credentials"),
            "run it as the unit sf-firstboot.service, or write the secret itself or { file = \"/path\" } to try a file at your desk".into(),
        ));
    };
    match store.text(name, &shown) {
        Ok(Some(read)) => Ok(text(&read.text, &shown)?),
        Ok(None) => Err(Nowhere::absent(
            format!(
                "refers to the {shown}, which is not in {}",
                store.folder().display()
            ),
            there_are(store, name),
        )),
        Err(failure) => Err(binary(field, || store.bytes(name), &shown, None)
            .unwrap_or_else(|| from_failure(&failure).into())),
    }
}

/// What credentials there are instead.
fn there_are(store: &Store, name: &str) -> String {
    let give = format!(
        "give the node a credential {name} (SMBIOS type 11, fw_cfg, ESP or kernel command line)"
    );
    match store.names() {
        Ok(names) if !names.is_empty() => {
            let mut shown: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
            if names.len() > shown.len() {
                shown.push("…");
            }
            format!(
                "{give}, or correct the name; there are: {}",
                shown.join(", ")
            )
        }
        Ok(_) => format!("{give}; there are none at all"),
        Err(error) => format!("{give}; the folder cannot be listed: {error}"),
    }
}

fn file(
    places: &Places,
    field: &str,
    path: &str,
    warnings: &mut Vec<Failure>,
) -> Result<Secret, Nowhere> {
    let shown = format!("file {path}");
    match read::text(&places.at(path), path, Files::Regular) {
        Ok(Some(read)) => {
            if read.exposed && !is_public(field) {
                warnings.push(read::exposed(path, &format!("{field} is in it")));
            }
            Ok(text(&read.text, &shown)?)
        }
        Ok(None) => Err(Nowhere::absent(
            format!("refers to the {shown}, which does not exist on this machine"),
            format!("put the secret there, readable for root alone: install -m 0600 SECRET {path}"),
        )),
        Err(failure) => Err(
            binary(field, || read::bytes(&places.at(path)), &shown, Some(path))
                .unwrap_or_else(|| from_failure(&failure).into()),
        ),
    }
}

/// A certificate or key that is no text because it is DER.
fn binary(
    field: &str,
    bytes: impl FnOnce() -> Option<Bytes>,
    shown: &str,
    file: Option<&str>,
) -> Option<Nowhere> {
    let (what, remedy) = der(field, bytes, file)?;
    Some(Nowhere {
        code: Some(&codes::PKI_DER),
        ..unresolved(format!("refers to the {shown}, which {what}"), remedy).into()
    })
}

/// What stands in the place of the PEM text of `field`, when it is DER, and
/// what to do about it; `file` where that is a place to mend it.
pub(super) fn der(
    field: &str,
    bytes: impl FnOnce() -> Option<Bytes>,
    file: Option<&str>,
) -> Option<(String, String)> {
    if !fields::find(field).is_some_and(|spec| spec.kind == fields::Kind::Pem) {
        return None;
    }
    let thing = pki::der_thing(&bytes()?)?;
    Some((
        format!("is {}, not PEM text", thing.words()),
        thing.remedy(field.ends_with("key"), file),
    ))
}

/// Certificates may be read by everybody; the files of their keys are looked at
/// by the preflight (SF-PKI-MODE).
fn is_public(field: &str) -> bool {
    fields::find(field).is_some_and(|spec| spec.kind == fields::Kind::Pem)
}

fn text(text: &Secret, shown: &str) -> Result<Secret, Unresolved> {
    let text = text.expose();
    // No editor's mark belongs to a secret, and OpenSSL finds no PEM behind it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text
        .strip_suffix("\r\n")
        .or_else(|| text.strip_suffix('\n'))
        .unwrap_or(text);
    if text.is_empty() {
        return Err(unresolved(
            format!("refers to the {shown}, which is empty"),
            "put the secret into it".into(),
        ));
    }
    Ok(Secret::new(text))
}

fn from_failure(failure: &Failure) -> Unresolved {
    let mut message = failure.what.clone();
    for cause in &failure.causes {
        message.push_str(": ");
        message.push_str(cause);
    }
    unresolved(message, failure.remedy_text().to_owned())
}

fn unresolved(message: String, hint: String) -> Unresolved {
    Unresolved { message, hint }
}
