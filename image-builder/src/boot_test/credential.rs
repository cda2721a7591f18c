//! The ways by which systemd takes a credential from outside, and credentials
//! as `sf-image metadata seal` makes them for each.
//!
//! Owns: names and limits of the ways, and what travels by them. Refuses: a
//! form of its own for metadata; what boots a machine is what the operator's
//! command writes.

use std::path::{Path, PathBuf};

use sf_command::{Cmd, Tool};
use sf_contract::metadata::{Fragment, Layer, Origin, merge};
use zeroize::Zeroizing;

use crate::metadata::encrypt::{Encryption, Key};
use crate::metadata::seal::{self, Options};

/// The folder of QEMU's `fw_cfg` that systemd looks in.
pub const FW_CFG: &str = "opt/io.systemd.credentials/";

/// The longest name in `fw_cfg`.
const FW_CFG_NAME: usize = 55;

/// The ending of a credential's file in the ESP.
const SEALED: &str = ".cred";

/// How a credential gets to a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// A string in the firmware's tables.
    #[default]
    Smbios,
    /// A file that QEMU offers.
    FwCfg,
    /// A file in `loader/credentials` of the ESP, for every kernel there.
    Esp,
    /// The same, sealed for another machine: this one cannot open it.
    Closed,
    /// A file beside the kernel in the ESP, for this kernel alone.
    Uki,
    /// On the kernel's command line, which every process can read.
    KernelCommandLine,
}

impl Channel {
    /// Its name in scenarios.
    const NAMES: [(&'static str, Self); 6] = [
        ("smbios", Self::Smbios),
        ("fw-cfg", Self::FwCfg),
        ("esp", Self::Esp),
        ("esp-closed", Self::Closed),
        ("uki", Self::Uki),
        ("kernel-command-line", Self::KernelCommandLine),
    ];

    /// The way of that name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::NAMES
            .into_iter()
            .find_map(|(name, channel)| (name == text).then_some(channel))
            .ok_or(
                "not a way for a credential to get to a machine: smbios, fw-cfg, esp, \
                 esp-closed, uki, kernel-command-line",
            )
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .into_iter()
            .find_map(|(name, channel)| (channel == self).then_some(name))
            .unwrap_or_default()
    }

    /// Whether it takes credentials in the form of encrypted ones only.
    pub fn is_sealed(self) -> bool {
        matches!(self, Self::Esp | Self::Closed | Self::Uki)
    }

    /// Whether a credential of that name can go this way.
    pub fn takes(self, name: &str) -> Result<(), String> {
        if self == Self::FwCfg && FW_CFG.len() + name.len() > FW_CFG_NAME {
            let longest = FW_CFG_NAME - FW_CFG.len();
            return Err(format!(
                "the name {name} is too long for fw_cfg, which takes {longest} characters"
            ));
        }
        Ok(())
    }
}

/// One credential on its way.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// What travels: its value, or its sealed form.
    pub bytes: Zeroizing<Vec<u8>>,
    /// How.
    pub by: Channel,
}

impl Credential {
    /// A credential with this value.
    pub fn new(name: &str, value: &str, by: Channel) -> Result<Self, String> {
        by.takes(name)?;
        let bytes = match by {
            Channel::Closed => for_a_stranger(name, value)?,
            _ if by.is_sealed() => {
                let sealed = null().encrypt(name, value);
                sealed.map_err(|failure| failure.to_string())?
            }
            _ => Zeroizing::new(value.as_bytes().to_vec()),
        };
        Ok(Self {
            name: name.to_owned(),
            bytes,
            by,
        })
    }

    /// The name of its file in the ESP.
    pub fn file_name(&self) -> String {
        format!("{}{SEALED}", self.name)
    }
}

/// What reads as encrypted, and every machine can read.
fn null() -> Encryption {
    Encryption {
        key: Key::Null,
        host_key: None,
        tpm2_public_key: None,
    }
}

/// Sealed with the host key of a machine that there is not.
fn for_a_stranger(name: &str, value: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let host_key = folder.path().join("credential.secret");
    let made = Cmd::new(Tool::SystemdCreds)
        .arg("setup")
        .env("SYSTEMD_CREDENTIAL_SECRET", &host_key)
        .run();
    let stranger = Encryption {
        key: Key::Host,
        host_key: Some(host_key),
        tpm2_public_key: None,
    };
    made.and_then(|_| stranger.encrypt(name, value))
        .map_err(|failure| failure.to_string())
}

/// The credentials that `sf-image metadata seal --as credentials --separate`
/// makes of `document`, with `--with-key null` where `by` wants it so. `scratch`
/// is a folder that may be made and removed.
pub fn sealed(document: &str, by: Channel, scratch: &Path) -> Result<Vec<Credential>, String> {
    let options = Options {
        config_drive: false,
        credentials: true,
        separate: true,
        encryption: by.is_sealed().then(null),
    };
    let origin = Origin::new(Layer::CommandLine, 0, "metadata of the scenario");
    let merged = merge([Fragment::read(origin, document)]);
    let made = seal::seal(&merged, scratch, &options, true)
        .map_err(|error| super::chain(&error))
        .and_then(|sealed| read(&sealed.folder, &sealed.artefacts, by));
    // They hold secrets, and have been read or are of no use.
    let _ = fs_err::remove_dir_all(scratch);
    made
}

fn read(
    folder: &Path,
    artefacts: &[seal::Artefact],
    by: Channel,
) -> Result<Vec<Credential>, String> {
    let mut credentials = Vec::new();
    for artefact in artefacts {
        // The same again in the form of SMBIOS strings is for SMBIOS.
        let Some(file) = artefact.path.strip_prefix("credentials/") else {
            continue;
        };
        let name = file.strip_suffix(SEALED).unwrap_or(file).to_owned();
        by.takes(&name)?;
        let path: PathBuf = folder.join(&artefact.path);
        let bytes = fs_err::read(path).map_err(|error| error.to_string())?;
        credentials.push(Credential {
            name,
            bytes: Zeroizing::new(bytes),
            by,
        });
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "schema = 1\nnode.name = \"db1.sf.test\"\n\
        database.dsn = \"mysql://sf:marker-word@10.0.2.2:3306/shakenfist\"\n";

    #[test]
    fn what_travels_is_what_seal_makes() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("sealed");
        for by in [Channel::FwCfg, Channel::Esp] {
            let credentials = sealed(DOCUMENT, by, &scratch).unwrap();
            let names: Vec<&str> = credentials.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names, ["sf.metadata", "sf.database.dsn"]);
            let document = String::from_utf8_lossy(&credentials[0].bytes).into_owned();
            let dsn = String::from_utf8_lossy(&credentials[1].bytes).into_owned();
            assert!(!document.contains("marker-word"), "{document}");
            assert_eq!(dsn.contains("marker-word"), by == Channel::FwCfg, "{dsn}");
            assert!(!scratch.exists());
        }
        assert!(sealed("schema = 1\n", Channel::Esp, &scratch).is_err());
    }

    #[test]
    fn what_is_sealed_for_another_machine_is_closed() {
        // systemd-creds makes the folder of the key that it does not find.
        let folder = tempfile::tempdir().unwrap();
        let closed = Credential::new("sf.x", "marker-word", Channel::Closed).unwrap();
        assert_eq!(closed.file_name(), "sf.x.cred");
        let opened = Cmd::new(Tool::SystemdCreds)
            .args(["decrypt", "--name=sf.x", "-", "-"])
            .env(
                "SYSTEMD_CREDENTIAL_SECRET",
                folder.path().join("none/credential.secret"),
            )
            .stdin(closed.bytes.as_slice())
            .run();
        assert!(opened.is_err());
        let open = Credential::new("sf.x", "marker-word", Channel::Esp).unwrap();
        assert_ne!(*open.bytes, *closed.bytes);
    }

    #[test]
    fn fw_cfg_takes_short_names_alone() {
        assert!(Channel::FwCfg.takes("sf.secrets.auth_secret_seed").is_ok());
        let error = Channel::FwCfg
            .takes("sf.pki.libvirt_spice.certificate")
            .unwrap_err();
        assert!(error.contains("28 characters"), "{error}");
        assert!(
            Channel::Esp
                .takes("sf.pki.libvirt_spice.certificate")
                .is_ok()
        );
    }
}
