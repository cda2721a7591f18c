//! `sf-image metadata seal`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use fs_err as fs;
use sf_contract::failure::Kind;

use super::{For, wrong};
use crate::error::Report;
use crate::metadata::encrypt::{Encryption, Key};
use crate::metadata::seal::{self, Options};

/// Make a node's config drive or credential files from its metadata
///
/// The metadata is judged first, as `metadata check` does it. Everything goes to
/// DIR/NODE, which appears whole or not at all and which only its owner can
/// read. What was made is listed with who can read it; no value is shown.
///
/// systemd-creds encrypts with keys of the machine that it runs on. For another
/// machine, give a copy of its /var/lib/systemd/credential.secret with
/// --host-key; sealing to the TPM of another machine is something that
/// systemd-creds cannot do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The metadata; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where the node's folder goes
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,
    /// What to make; may be given twice
    #[arg(long = "as", value_name = "FORM", default_value = "config-drive")]
    forms: Vec<Form>,
    /// Make a credential of its own, sf.FIELD, of every confidential value, and leave it out of the document
    #[arg(long)]
    separate: bool,
    /// Encrypt credentials with systemd-creds [default: they are not encrypted]
    #[arg(long, value_name = "KEY")]
    with_key: Option<Key>,
    /// A copy of the node's /var/lib/systemd/credential.secret, mode 0400 [default: this machine's]
    #[arg(long, value_name = "FILE", requires = "with_key")]
    host_key: Option<PathBuf>,
    /// Public key whose signed PCR policies open the TPM of this machine, PEM
    #[arg(long, value_name = "FILE", requires = "with_key")]
    tpm2_public_key: Option<PathBuf>,
    /// The node's name, for metadata that does not say it
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Replace what an earlier run made
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    who: For,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A NoCloud drive NODE.img, labelled CIDATA; it is not encrypted
    ConfigDrive,
    /// The systemd credential sf.metadata, as a file and for SMBIOS
    Credentials,
}

impl Args {
    pub(super) fn run(self) -> Result<String, Report> {
        let options = self.options()?;
        let (verdict, whom) = self.who.judge(&self.files, self.node.as_deref())?;
        if !verdict.is_right() {
            return Err(wrong(&verdict, &self.files, &whom));
        }
        self.contradiction(&verdict.merged)?;
        let sealed = seal::seal(&verdict.merged, &self.output_dir, &options, self.force)?;
        if self.json {
            return Ok(super::super::document(serde_json::json!(sealed)));
        }
        Ok(sealed.text() + &verdict.warnings())
    }

    fn options(&self) -> Result<Options, Report> {
        let credentials = self.forms.contains(&Form::Credentials);
        let usage = |text: &str, hint: &str| Err(Report::text(Kind::Usage, text).hint(Some(hint)));
        let Some(key) = self.with_key else {
            return Ok(self.with(credentials, None));
        };
        if !credentials && !self.separate {
            return usage(
                "--with-key encrypts credentials, and none is made: a config drive is never encrypted",
                "--separate keeps the confidential values out of the drive; --as credentials makes no drive",
            );
        }
        if self.host_key.is_some() && !key.is_host() {
            return usage(
                "--host-key is of no use with that key",
                "add --with-key host",
            );
        }
        if self.tpm2_public_key.is_some() && !key.is_tpm2() {
            return usage(
                "--tpm2-public-key is of no use with that key",
                "add --with-key tpm2, or host+tpm2",
            );
        }
        let encryption = Encryption {
            key,
            host_key: host_key(self.host_key.as_deref())?,
            tpm2_public_key: there(self.tpm2_public_key.as_deref())?,
        };
        Ok(self.with(credentials, Some(encryption)))
    }

    fn with(&self, credentials: bool, encryption: Option<Encryption>) -> Options {
        Options {
            config_drive: self.forms.contains(&Form::ConfigDrive),
            credentials,
            separate: self.separate,
            encryption,
        }
    }

    /// Another name in the files is not what `--node` is for.
    fn contradiction(&self, merged: &sf_contract::metadata::Merged) -> Result<(), Report> {
        let Some(field) = merged.get("node.name") else {
            return Ok(());
        };
        let other = field
            .shadowed
            .iter()
            .find(|entry| self.node.is_some() && entry.value != field.winner.value);
        match other {
            None => Ok(()),
            Some(entry) => Err(Report::text(
                Kind::Configuration,
                format!(
                    "--node is {}, but {} says {}",
                    field.winner.value, entry.place, entry.value
                ),
            )
            .hint(Some("leave --node out, or remove node.name there"))),
        }
    }
}

/// What `systemd-creds setup` makes: the machine's id and 4096 random bytes.
const HOST_KEY: u64 = 16 + 4096;

/// A copy of a host key that systemd takes: it wants the mode to be 0400, and
/// encrypts with half of a key as well, which no node can decrypt.
fn host_key(path: Option<&Path>) -> Result<Option<PathBuf>, Report> {
    let Some(path) = there(path)? else {
        return Ok(None);
    };
    let meta = fs::metadata(&path).map_err(|error| Report::new(Kind::Environment, &error))?;
    let mode = meta.permissions().mode() & 0o7777;
    let copy = "copy the node's /var/lib/systemd/credential.secret once more".to_owned();
    let (what, hint) = if !meta.is_file() {
        ("is no file".to_owned(), copy)
    } else if meta.len() < HOST_KEY {
        let found = format!("has {} bytes; a host key has {HOST_KEY}", meta.len());
        (found, copy)
    } else if mode != 0o400 {
        (
            format!("has the mode {mode:04o}, with which systemd-creds takes no host key"),
            format!("chmod 0400 {}", path.display()),
        )
    } else {
        return Ok(Some(path));
    };
    Err(Report::text(
        Kind::Environment,
        format!("--host-key: {} {what}", path.display()),
    )
    .hint(Some(hint)))
}

/// The absolute path of a file that is there: systemd takes no other, and would
/// make up a new host key, which no node has, where it finds none.
fn there(path: Option<&Path>) -> Result<Option<PathBuf>, Report> {
    let Some(path) = path else {
        return Ok(None);
    };
    let failed = |error: std::io::Error| Report::new(Kind::Environment, &error);
    fs::File::open(path).map_err(|error| {
        failed(error).hint(Some(
            "give the path of the file that has the key; a host key is the node's \
             /var/lib/systemd/credential.secret, which `systemd-creds setup` makes there",
        ))
    })?;
    std::path::absolute(path).map(Some).map_err(failed)
}
