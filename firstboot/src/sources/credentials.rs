//! Metadata in systemd credentials: `sf.metadata` is a whole document, and
//! `sf.<dotted.path>` is one field.

use std::io;

use sf_contract::document::did_you_mean;
use sf_contract::metadata::{Fragment, Layer, Origin, Reference, fields, nearest_field};

use super::store::Store;
use super::{Found, Looked, Places, read, references, url};
use crate::codes;
use crate::failure::Failure;

const DOCUMENT: &str = "sf.metadata";
const PREFIX: &str = "sf.";

pub(super) fn document(places: &Places) -> Vec<Looked> {
    let place = format!("credential {DOCUMENT}");
    let found = match &places.credentials {
        None => Found::NotHere(no_credentials()),
        Some(store) => match store.text(DOCUMENT, &place) {
            Ok(None) => Found::NotHere("no such credential".into()),
            Ok(Some(read)) => Found::Here(Fragment::read(
                Origin::new(Layer::Credential, 0, place.as_str()),
                read.text.expose(),
            )),
            Err(failure) => Found::Broken(failure),
        },
    };
    vec![Looked::new(Layer::Credential, place, found)]
}

pub(super) fn fields(places: &Places) -> Vec<Looked> {
    let all = "credentials sf.<field>";
    let Some(store) = &places.credentials else {
        return vec![Looked::new(
            Layer::FieldCredential,
            all,
            Found::NotHere(no_credentials()),
        )];
    };
    let names = match ours(store) {
        Ok(names) => names,
        Err(error) => {
            let shown = store.folder().display().to_string();
            let failure = read::unreadable(&shown, &error);
            return vec![Looked::new(
                Layer::FieldCredential,
                all,
                Found::Broken(failure),
            )];
        }
    };
    let looked: Vec<Looked> = names
        .iter()
        .filter(|name| fields::find(&name[PREFIX.len()..]).is_some())
        .map(|name| field(store, name))
        .collect();
    if looked.is_empty() {
        let none = Found::NotHere("no such credential".into());
        return vec![Looked::new(Layer::FieldCredential, all, none)];
    }
    looked
}

fn field(store: &Store, name: &str) -> Looked {
    let place = format!("credential {name}");
    let found = match store.text(name, &place) {
        // It was in the list: it went away in between.
        Ok(None) => Found::NotHere("no such credential".into()),
        Err(failure) => Found::Broken(binary(store, name, &place).unwrap_or(failure)),
        Ok(Some(read)) => Found::Here(Fragment::single(
            Origin::new(Layer::FieldCredential, 0, place.as_str()),
            &name[PREFIX.len()..],
            read.text.expose(),
        )),
    };
    Looked::new(Layer::FieldCredential, place, found)
}

/// A certificate or key that is no text because it is DER.
fn binary(store: &Store, name: &str, place: &str) -> Option<Box<Failure>> {
    let path = &name[PREFIX.len()..];
    let (what, remedy) = references::der(path, || store.bytes(name), None)?;
    Some(Box::new(
        Failure::new(&codes::PKI_DER, format!("{path}: {what}"))
            .source(place)
            .remedy(remedy),
    ))
}

/// What a credential that is none of ours was meant to be, for the remedy.
fn meant(name: &str) -> Option<String> {
    let path = &name[PREFIX.len()..];
    let in_table = |spec: &&fields::FieldSpec| {
        let rest = spec.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    if let Some(first) = fields::FIELDS.iter().find(in_table) {
        return Some(format!(
            "{path} is a table: give one credential for each of its fields, such as {PREFIX}{}",
            first.path
        ));
    }
    let whole = || std::iter::once(DOCUMENT).chain(url::PARAMETERS);
    let near = match nearest_field(path) {
        Some(field) => format!("{PREFIX}{field}"),
        // Also with the ending that the file had.
        None if name.starts_with("sf.metadata.") => DOCUMENT.to_owned(),
        None => did_you_mean(name, whole())?.to_owned(),
    };
    Some(format!("did you mean {near}?"))
}

/// Credentials that start like ours but are neither a field nor referred to: a
/// mistyped one is broken, anything else is worth a warning.
pub(super) fn strays(places: &Places, looked: &[Looked]) -> (Vec<Looked>, Vec<Failure>) {
    let mut broken = Vec::new();
    let mut warnings = Vec::new();
    let names = places.credentials.as_ref().map(ours);
    // A folder that cannot be listed has been reported.
    let Some(Ok(names)) = names else {
        return (broken, warnings);
    };
    let referred = |name: &str| {
        looked.iter().any(|place| match &place.found {
            Found::Here(fragment) => fragment.references().any(
                |reference| matches!(reference, Reference::Credential(other) if other == name),
            ),
            _ => false,
        })
    };
    for name in names {
        let path = &name[PREFIX.len()..];
        if fields::find(path).is_some()
            || url::PARAMETERS.contains(&name.as_str())
            || referred(&name)
        {
            continue;
        }
        let place = format!("credential {name}");
        let what =
            format!("the credential {name} is neither a metadata field nor referred to by one");
        match meant(&name) {
            Some(remedy) => {
                let failure = Failure::new(&codes::META_UNKNOWN_KEY, what)
                    .source(place.as_str())
                    .remedy(remedy);
                broken.push(Looked::new(
                    Layer::FieldCredential,
                    place,
                    Found::Broken(Box::new(failure)),
                ));
            }
            None => warnings.push(
                Failure::new(&codes::META_UNLIKELY, what)
                    .source(place.as_str())
                    .remedy(
                        "remove it, or correct its name; `sf-firstboot explain` lists the fields",
                    ),
            ),
        }
    }
    (broken, warnings)
}

/// Names of the credentials that start with `sf.`, less the document.
fn ours(store: &Store) -> io::Result<Vec<String>> {
    Ok(store
        .names()?
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && name != DOCUMENT)
        .collect())
}

fn no_credentials() -> String {
    "systemd gave this process no credentials ($CREDENTIALS_DIRECTORY is not set)".into()
}
