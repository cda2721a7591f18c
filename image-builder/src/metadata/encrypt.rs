//! Encrypting credentials with systemd-creds. The text goes in on standard
//! input and never stands in an argument.
//!
//! What systemd-creds can do decides what is offered: it encrypts with a key of
//! the machine that it runs on (`host`, `tpm2`, both), with a copy of another
//! machine's host key, or in form only (`null`). It has no way to seal to the
//! TPM of another machine, up to its version 258: `--tpm2-public-key` names the
//! key that signs PCR policies, and the TPM is still the local one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sf_command::{Cmd, Failure, Tool};
use zeroize::Zeroizing;

/// A TPM can take seconds; nothing takes this long.
const LIMIT: Duration = Duration::from_mins(1);

/// The key to encrypt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Key {
    /// The host key of this machine, or the one of --host-key
    Host,
    /// The TPM of this machine
    Tpm2,
    /// Both
    #[value(name = "host+tpm2")]
    HostAndTpm2,
    /// None: only the form is that of an encrypted credential, for the ESP
    Null,
}

impl Key {
    /// Does the host key have a part in it?
    pub fn is_host(self) -> bool {
        matches!(self, Self::Host | Self::HostAndTpm2)
    }

    /// Does the TPM have a part in it?
    pub fn is_tpm2(self) -> bool {
        matches!(self, Self::Tpm2 | Self::HostAndTpm2)
    }
}

/// How to encrypt.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// The key.
    pub key: Key,
    /// Another machine's `/var/lib/systemd/credential.secret`.
    pub host_key: Option<PathBuf>,
    /// PEM of the key that signs PCR policies.
    pub tpm2_public_key: Option<PathBuf>,
}

impl Encryption {
    /// Does it keep anything from anybody?
    pub fn hides(&self) -> bool {
        self.key != Key::Null
    }

    /// Who can read what it encrypts, for people.
    pub fn readers(&self) -> String {
        let host = match &self.host_key {
            Some(path) => format!("the machine that {} was copied from", path.display()),
            None => "this machine".into(),
        };
        match self.key {
            Key::Host => format!("encrypted with the host key; only {host} can read it"),
            Key::Tpm2 => "encrypted with this machine's TPM; only this machine can read it".into(),
            Key::HostAndTpm2 => {
                format!("encrypted with the host key and this machine's TPM; only {host} can read it")
            }
            Key::Null => {
                "NOT encrypted, in the form of an encrypted credential with the null key; a node with \
                 Secure Boot on refuses it"
                    .into()
            }
        }
    }

    /// The name of the key as systemd-creds has it; `legacy` for systemd 252.
    fn name(&self, legacy: bool) -> &'static str {
        match (self.key, self.tpm2_public_key.is_some()) {
            (Key::Host, _) => "host",
            (Key::Tpm2, false) => "tpm2",
            (Key::Tpm2, true) => "tpm2-with-public-key",
            (Key::HostAndTpm2, false) => "host+tpm2",
            (Key::HostAndTpm2, true) => "host+tpm2-with-public-key",
            (Key::Null, _) if legacy => "tpm2-absent",
            (Key::Null, _) => "null",
        }
    }

    fn command(&self, name: &str, text: &str, legacy: bool) -> Cmd {
        let mut cmd = Cmd::new(Tool::SystemdCreds)
            .arg("encrypt")
            .arg(format!("--name={name}"))
            .arg(format!("--with-key={}", self.name(legacy)))
            .timeout(LIMIT);
        if let Some(path) = &self.tpm2_public_key {
            cmd = cmd.arg(option("--tpm2-public-key=", path));
        }
        if let Some(path) = &self.host_key {
            cmd = cmd.env("SYSTEMD_CREDENTIAL_SECRET", path);
        }
        cmd.args(["-", "-"]).stdin(text).secret(text)
    }

    /// The encrypted form of the credential `name`, which must have this name
    /// on the node.
    pub fn encrypt(&self, name: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let output = match self.command(name, text, false).run() {
            // systemd 252 (Debian 12) has another word for the null key.
            Err(Failure::Exit { stderr, .. })
                if self.key == Key::Null && stderr.contains("Unknown key type") =>
            {
                self.command(name, text, true).run()?
            }
            other => other?,
        };
        Ok(Zeroizing::new(output.stdout))
    }
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(path);
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-7731\n";

    fn decrypt(bytes: &[u8], name: &str, host_key: Option<&Path>) -> Result<String, Failure> {
        let mut cmd = Cmd::new(Tool::SystemdCreds)
            .args(["decrypt", &format!("--name={name}"), "-", "-"])
            .stdin(bytes);
        if let Some(path) = host_key {
            cmd = cmd.env("SYSTEMD_CREDENTIAL_SECRET", path);
        }
        Ok(String::from_utf8_lossy(&cmd.run()?.stdout).into_owned())
    }

    fn with(key: Key, host_key: Option<PathBuf>) -> Encryption {
        Encryption {
            key,
            host_key,
            tpm2_public_key: None,
        }
    }

    #[test]
    fn another_machines_host_key_encrypts_for_that_machine_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        for path in [&one, &other] {
            Cmd::new(Tool::SystemdCreds)
                .arg("setup")
                .env("SYSTEMD_CREDENTIAL_SECRET", path)
                .run()
                .expect("a host key");
        }
        let bytes = with(Key::Host, Some(one.clone()))
            .encrypt("sf.metadata", CANARY)
            .expect("encrypted");
        assert!(!String::from_utf8_lossy(&bytes).contains("canary"));
        let read = decrypt(&bytes, "sf.metadata", Some(&one)).expect("decrypted");
        assert_eq!(read, CANARY);
        assert!(decrypt(&bytes, "sf.metadata", Some(&other)).is_err());
        assert!(decrypt(&bytes, "sf.other", Some(&one)).is_err());
    }

    #[test]
    fn the_null_key_works_with_old_and_new_systemd() {
        let encryption = with(Key::Null, None);
        let bytes = encryption.encrypt("sf.x", CANARY).expect("encrypted");
        assert_eq!(decrypt(&bytes, "sf.x", None).expect("decrypted"), CANARY);
        assert!(!encryption.hides());
    }

    #[test]
    fn the_text_is_in_no_argument_and_no_failure() {
        // systemd-creds makes a host key that is not there, folders and all.
        let dir = tempfile::tempdir().expect("tempdir");
        let (key, pem) = (dir.path().join("key"), dir.path().join("pem"));
        let mut encryption = with(Key::HostAndTpm2, Some(key.clone()));
        encryption.tpm2_public_key = Some(pem.clone());
        let cmd = encryption.command("sf.x", CANARY, false);
        assert_eq!(
            cmd.to_string(),
            format!(
                "SYSTEMD_CREDENTIAL_SECRET={} systemd-creds encrypt --name=sf.x \
                 --with-key=host+tpm2-with-public-key --tpm2-public-key={} - -",
                key.display(),
                pem.display()
            )
        );
        let failure = encryption.encrypt("sf.x", CANARY).expect_err("no such PEM");
        assert!(!format!("{failure:?} {failure}").contains("canary"));
    }
}
