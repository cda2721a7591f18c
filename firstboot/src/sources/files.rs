//! Metadata in files: named on the command line, in /etc/sf/metadata.toml, and
//! in the files beside it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use sf_contract::metadata::{Fragment, Layer, Origin};

use super::read::{self, Files};
use super::{DROP_INS, FILE, Found, Looked, Places, shown};
use crate::codes;
use crate::failure::Failure;

pub(super) fn file(places: &Places) -> Vec<Looked> {
    vec![one(Layer::File, 0, &places.at(FILE), FILE, Files::Regular)]
}

pub(super) fn command_line(places: &Places) -> Vec<Looked> {
    let mut looked = Vec::new();
    for (order, path) in (0..).zip(&places.command_line) {
        let name = path.display().to_string();
        let mut place = one(Layer::CommandLine, order, path, &name, Files::AlsoPipes);
        // A source that people named must be there.
        if let Found::NotHere(why) = &place.found {
            place.found = Found::Broken(Box::new(
                Failure::new(&codes::META_UNREADABLE, format!("{name}: {why}"))
                    .source("--metadata")
                    .remedy("name a file that exists"),
            ));
        } else if places.command_line[..order as usize].contains(path) {
            place.found = Found::Broken(Box::new(
                Failure::new(&codes::USAGE, format!("--metadata {name} is given twice"))
                    .source("--metadata")
                    .remedy("give it once; of several files the last wins"),
            ));
        }
        looked.push(place);
    }
    looked
}

pub(super) fn drop_ins(places: &Places) -> Vec<Looked> {
    let folder = places.at(DROP_INS);
    let at_folder = |found| {
        vec![Looked::new(
            Layer::DropIn,
            format!("{DROP_INS}/*.toml"),
            found,
        )]
    };
    let names = match names(&folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return at_folder(Found::NotHere("no such folder".into()));
        }
        Err(error) => return at_folder(Found::Broken(read::unreadable(DROP_INS, &error))),
    };
    if names.is_empty() {
        return at_folder(Found::NotHere("the folder is empty".into()));
    }
    let mut looked = Vec::new();
    for (order, name) in (0..).zip(names) {
        let path = folder.join(&name);
        let place = shown(places, &path);
        // A backup of an editor or of a package manager is not meant; what else
        // does not end in .toml is at least shown in the list of places.
        if path.extension() != Some(OsStr::new("toml")) || name.as_encoded_bytes().starts_with(b".")
        {
            let why = "ignored: its name does not end in .toml, or starts with a dot";
            looked.push(Looked::new(
                Layer::DropIn,
                place,
                Found::NotHere(why.into()),
            ));
            continue;
        }
        looked.push(one(Layer::DropIn, order, &path, &place, Files::Regular));
    }
    looked
}

/// Names in a folder, sorted.
pub(super) fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn one(layer: Layer, order: u32, path: &Path, name: &str, files: Files) -> Looked {
    match read::text(path, name, files) {
        Ok(None) => Looked::new(layer, name, Found::NotHere("no such file".into())),
        Err(failure) => Looked::new(layer, name, Found::Broken(failure)),
        Ok(Some(read)) => {
            let fragment = Fragment::read(Origin::new(layer, order, name), read.text.expose());
            Looked {
                exposed: read.exposed,
                ..Looked::new(layer, name, Found::Here(fragment))
            }
        }
    }
}
