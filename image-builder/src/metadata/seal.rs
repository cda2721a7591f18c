//! From judged metadata to what a node takes: a config drive, credential files,
//! or both; and for each artefact who can read what is in it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use sf_command::Failure;
use sf_contract::metadata::{Fragment, Layer, Origin};
use sf_contract::metadata::{Merged, Value, document, merge};
use sf_contract::secret::Secret;
use zeroize::Zeroizing;

use super::drive;
use super::encrypt::Encryption;
use super::output::PrivateFolder;

/// The credential that holds a whole document.
const DOCUMENT: &str = "sf.metadata";

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// A config drive with the document.
    pub config_drive: bool,
    /// The document as the credential `sf.metadata`.
    pub credentials: bool,
    /// Secrets become credentials of their own, and the document holds none.
    pub separate: bool,
    /// How credentials are encrypted; `None` is not at all.
    pub encryption: Option<Encryption>,
}

/// What went wrong; never quotes a value.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The metadata says no name, which names the output.
    #[error("the metadata has no node.name")]
    NoName,
    /// There is output of an earlier run.
    #[error("{} is there already", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The output could not be written.
    #[error("could not write {}; what was there before is unchanged", path.display())]
    Write {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// systemd-creds did not encrypt.
    #[error("could not encrypt the credential {name}")]
    Encrypt {
        /// Its name.
        name: String,
        /// Was a TPM to have a part in it?
        tpm2: bool,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// The node would not read it.
    #[error("the sealed document would have {size} bytes; a node reads 1 MiB at most")]
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// What was written would not be read as the same: a defect.
    #[error("the value of {field} does not survive being written as {form}")]
    Lossy {
        /// Dotted path.
        field: String,
        /// The form.
        form: &'static str,
    },
}

/// One file that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Artefact {
    /// Path below the node's folder.
    pub path: String,
    /// What it is.
    pub about: String,
    /// Is what it holds kept from those who can read the file?
    pub encrypted: bool,
    /// Fields whose secrets are in it.
    pub secrets: Vec<String>,
    /// Who can read them.
    pub readers: String,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// The node's name.
    pub node: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its files.
    pub artefacts: Vec<Artefact>,
    /// What the metadata refers to and is not in the folder.
    pub needs: Vec<String>,
}

/// A credential in the clear.
struct Credential {
    name: String,
    text: Secret,
    secrets: Vec<String>,
}

/// Makes the folder of the node below `parent`. `merged` has been judged.
pub fn seal(
    merged: &Merged,
    parent: &Path,
    options: &Options,
    force: bool,
) -> Result<Sealed, SealError> {
    let node = match merged.get("node.name").map(|field| &field.winner.value) {
        Some(Value::Text(name)) => name.clone(),
        _ => return Err(SealError::NoName),
    };
    let write = |source| SealError::Write {
        path: parent.join(&node),
        source,
    };
    if !force && parent.join(&node).symlink_metadata().is_ok() {
        return Err(SealError::Exists {
            path: parent.join(&node),
        });
    }
    let (text, inline) = whole(merged, options.separate)?;
    let mut credentials = Vec::new();
    if options.credentials {
        credentials.push(Credential {
            name: DOCUMENT.into(),
            text: text.clone(),
            secrets: inline.clone(),
        });
    }
    if options.separate {
        credentials.extend(fields(merged)?);
    }
    let folder = PrivateFolder::begin(parent, &node).map_err(write)?;
    let mut artefacts = Vec::new();
    if options.config_drive {
        let path = format!("{node}.img");
        let image = drive::image(&node, text.expose()).map_err(write)?;
        folder.write(&path, &image).map_err(write)?;
        artefacts.push(Artefact {
            path,
            about: format!("config drive (FAT, label {})", drive::LABEL),
            encrypted: false,
            readers: "NOT encrypted; whoever can read this file, or the drive on the node or its host, can read it".into(),
            secrets: inline,
        });
    }
    for credential in credentials {
        for (artefact, bytes) in files(credential, options.encryption.as_ref())? {
            folder.write(&artefact.path, &bytes).map_err(write)?;
            artefacts.push(artefact);
        }
    }
    let sealed = Sealed {
        folder: folder.destination().to_owned(),
        node: node.clone(),
        artefacts,
        needs: needs(merged),
    };
    let list = format!("{:#}\n", serde_json::json!(sealed));
    folder
        .write("contents.json", list.as_bytes())
        .map_err(write)?;
    folder.commit().map_err(write)?;
    Ok(sealed)
}

/// The document, and the fields whose secrets are in it.
fn whole(merged: &Merged, separate: bool) -> Result<(Secret, Vec<String>), SealError> {
    let is_secret = |value: &Value| matches!(value, Value::Secret(_));
    let text = document::document(merged, |entry| !(separate && is_secret(&entry.value)));
    let size = text.expose().len();
    if size as u64 > super::read::LIMIT {
        return Err(SealError::TooLarge { size });
    }
    let read = merge([Fragment::read(
        Origin::new(Layer::Credential, 0, DOCUMENT),
        text.expose(),
    )]);
    let mut inline = Vec::new();
    for (path, field) in merged.fields() {
        let secret = is_secret(&field.winner.value);
        if separate && secret {
            continue;
        }
        if read.get(path).map(|read| &read.winner.value) != Some(&field.winner.value) {
            return Err(SealError::Lossy {
                field: path.to_owned(),
                form: "a document",
            });
        }
        if secret {
            inline.push(path.to_owned());
        }
    }
    Ok((text, inline))
}

/// The secrets as credentials of single fields, `sf.<dotted.path>`.
fn fields(merged: &Merged) -> Result<Vec<Credential>, SealError> {
    let mut credentials = Vec::new();
    for (path, field) in merged.fields() {
        if !matches!(field.winner.value, Value::Secret(_)) {
            continue;
        }
        let lossy = || SealError::Lossy {
            field: path.to_owned(),
            form: "a credential",
        };
        let text = document::single(&field.winner).ok_or_else(lossy)?;
        let origin = Origin::new(Layer::FieldCredential, 0, "credential");
        let read = Fragment::single(origin, path, text.expose());
        if read.entries.first().map(|entry| &entry.value) != Some(&field.winner.value) {
            return Err(lossy());
        }
        credentials.push(Credential {
            name: format!("sf.{path}"),
            text,
            secrets: vec![path.to_owned()],
        });
    }
    Ok(credentials)
}

type Files = Vec<(Artefact, Zeroizing<Vec<u8>>)>;

/// The files of one credential: encrypted, or as it is and as an SMBIOS string.
fn files(credential: Credential, encryption: Option<&Encryption>) -> Result<Files, SealError> {
    let Credential {
        name,
        text,
        secrets,
    } = credential;
    let Some(encryption) = encryption else {
        let readers = "NOT encrypted; whoever can read this file, or is root on the node or its host, can read it";
        let artefact = |path, about| Artefact {
            path,
            about,
            encrypted: false,
            secrets: secrets.clone(),
            readers: readers.into(),
        };
        let mut string = Zeroizing::new(Vec::from(
            format!("io.systemd.credential.binary:{name}=").as_bytes(),
        ));
        let encoded = Zeroizing::new(BASE64.encode(text.expose()));
        string.extend_from_slice(encoded.as_bytes());
        return Ok(vec![
            (
                artefact(
                    format!("credentials/{name}"),
                    format!("the credential {name}"),
                ),
                Zeroizing::new(text.expose().as_bytes().to_vec()),
            ),
            (
                artefact(
                    format!("smbios/{name}.txt"),
                    "the same for QEMU: -smbios type=11,path=FILE".into(),
                ),
                string,
            ),
        ]);
    };
    let bytes = encryption
        .encrypt(&name, text.expose())
        .map_err(|source| SealError::Encrypt {
            name: name.clone(),
            tpm2: encryption.key.is_tpm2(),
            source: Box::new(source),
        })?;
    let artefact = Artefact {
        path: format!("credentials/{name}.cred"),
        about: format!("the credential {name} for loader/credentials/ of the ESP"),
        encrypted: encryption.hides(),
        secrets,
        readers: encryption.readers(),
    };
    Ok(vec![(artefact, bytes)])
}

/// What the node must have from elsewhere.
fn needs(merged: &Merged) -> Vec<String> {
    merged
        .fields()
        .filter_map(|(path, field)| match &field.winner.value {
            Value::Reference(reference) => Some(format!("{path}: {reference}")),
            _ => None,
        })
        .collect()
}

impl Sealed {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for artefact in &self.artefacts {
            let _ = writeln!(text, "{}", self.folder.join(&artefact.path).display());
            let _ = writeln!(text, "    {}", artefact.about);
            if artefact.secrets.is_empty() {
                text.push_str("    holds no confidential value\n");
            } else {
                let _ = writeln!(
                    text,
                    "    holds {}: {}",
                    artefact.secrets.join(", "),
                    artefact.readers
                );
            }
        }
        for need in &self.needs {
            let _ = writeln!(text, "the node needs besides, from elsewhere: {need}");
        }
        text
    }
}
