//! The marker secrets of one run: random, thrown away afterwards, and looked
//! for wherever they must not be.
//!
//! Owns their values and every form in which one can turn up. Refuses to show
//! them: `Debug` prints names only, and [`Secrets::mask`] is for all output.

use std::fmt;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Letters and digits of a secret's core. No form of encoding in use changes
/// them, and 62^28 leaves nothing to chance.
const CORE: usize = 28;

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// One secret that a scenario may use as `{canary.<name>}`.
struct Secret {
    name: String,
    /// The whole value.
    value: String,
    /// The part that is looked for.
    core: String,
}

/// All secrets of a run.
pub struct Secrets {
    secrets: Vec<Secret>,
    /// Values that answers gave away (tokens): masked, not looked for.
    captured: Vec<String>,
}

/// One byte string that gives a secret away.
#[derive(Clone)]
pub struct Pattern {
    /// The secret's name.
    pub secret: String,
    /// `plain`, `base64`, `hex`.
    pub form: &'static str,
    /// The bytes to look for.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.secrets.iter().map(|secret| &secret.name))
            .finish()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.secret, self.form)
    }
}

/// The names that a scenario may use after `canary.`.
pub const NAMES: [&str; 5] = [
    "database_password",
    "database_password_encoded",
    "system_key",
    "auth_seed",
    "letter_token",
];

impl Secrets {
    /// New random secrets.
    pub fn random() -> std::io::Result<Self> {
        let mut random = fs_err::File::open("/dev/urandom")?;
        let mut core = || -> std::io::Result<String> {
            let mut core = String::with_capacity(CORE);
            while core.len() < CORE {
                let mut byte = [0];
                random.read_exact(&mut byte)?;
                let letter = char::from(byte[0] & 0x7f);
                if letter.is_ascii_alphanumeric() {
                    core.push(letter);
                }
            }
            Ok(core)
        };
        Ok(Self::from_cores([core()?, core()?, core()?, core()?]))
    }

    /// Secrets with the given cores: password, key, seed, token.
    fn from_cores([password, key, seed, token]: [String; 4]) -> Self {
        let secret = |name: &str, value: String, core: String| Secret {
            name: name.to_owned(),
            value,
            core,
        };
        Self {
            secrets: vec![
                // Characters that a URL must encode: a deployer that pastes a
                // password into one unencoded does not get past the login.
                secret(
                    "database_password",
                    format!("{password}/@%"),
                    password.clone(),
                ),
                secret(
                    "database_password_encoded",
                    format!("{password}%2F%40%25"),
                    password,
                ),
                secret("system_key", key.clone(), key),
                secret("auth_seed", seed.clone(), seed),
                secret("letter_token", token.clone(), token),
            ],
            captured: Vec::new(),
        }
    }

    /// Name (`database_password`) and value of each.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.secrets
            .iter()
            .map(|secret| (secret.name.as_str(), secret.value.as_str()))
    }

    /// The value of one of [`NAMES`].
    pub fn value(&self, name: &str) -> &str {
        self.values()
            .find(|(known, _)| *known == name)
            .map_or("", |(_, value)| value)
    }

    /// From now on `value` is masked as well.
    pub fn capture(&mut self, value: &str) {
        if value.len() >= 8 {
            self.captured.push(value.to_owned());
        }
    }

    /// `text` without any of the secrets in any form.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for value in &self.captured {
            masked = masked.replace(value.as_str(), MASK);
        }
        for pattern in self.patterns() {
            if let Ok(form) = std::str::from_utf8(&pattern.bytes) {
                masked = masked.replace(form, MASK);
            }
        }
        masked
    }

    /// [`Secrets::mask`] for every string of a JSON value.
    pub fn mask_json(&self, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.mask(text)),
            Value::Array(items) => items.iter().map(|item| self.mask_json(item)).collect(),
            Value::Object(object) => object
                .iter()
                .map(|(key, value)| (self.mask(key), self.mask_json(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    /// What to look for: each core as it is (which covers percent-encoding and
    /// quoting, both of which leave letters and digits alone), in base64 at
    /// each of the three alignments, and in hex.
    pub fn patterns(&self) -> Vec<Pattern> {
        let mut patterns: Vec<Pattern> = Vec::new();
        for secret in &self.secrets {
            let core = secret.core.as_bytes();
            let mut add = |form, bytes| {
                // The encoded password has the password's core.
                if !patterns.iter().any(|known| known.bytes == bytes) {
                    patterns.push(Pattern {
                        secret: secret.name.clone(),
                        form,
                        bytes,
                    });
                }
            };
            add("plain", core.to_vec());
            for shift in 0..3 {
                add("base64", base64_inside(core, shift));
            }
            add("hex", hex::encode(core).into_bytes());
            add("hex", hex::encode_upper(core).into_bytes());
        }
        patterns
    }
}

/// The part of `core`'s base64 form that does not depend on its neighbours when
/// `shift` bytes (modulo 3) stand before it.
fn base64_inside(core: &[u8], shift: usize) -> Vec<u8> {
    let mut padded = vec![0; shift];
    padded.extend_from_slice(core);
    // Whole groups only: the last one depends on what follows.
    padded.truncate(padded.len() / 3 * 3);
    let encoded = STANDARD.encode(padded).into_bytes();
    encoded[shift.div_ceil(3) * 4..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::from_cores([
            "PPPPabcdefghijklmnopqrstuvwx".into(),
            "KKKKabcdefghijklmnopqrstuvwx".into(),
            "SSSSabcdefghijklmnopqrstuvwx".into(),
            "TTTTabcdefghijklmnopqrstuvwx".into(),
        ])
    }

    #[test]
    fn random_secrets_differ_and_are_plain_text() {
        let (one, two) = (Secrets::random().unwrap(), Secrets::random().unwrap());
        for ((name, a), (_, b)) in one.values().zip(two.values()) {
            assert!(NAMES.contains(&name));
            assert_ne!(a, b);
            assert!(a.len() >= CORE && a.is_ascii());
        }
        assert_eq!(one.values().count(), NAMES.len());
    }

    #[test]
    fn every_alignment_of_base64_is_covered() {
        let secrets = secrets();
        for before in ["", "x", "xy", "xyz", "mysql://sf:"] {
            for after in ["", "@", "@h", "@host:3306"] {
                let text =
                    STANDARD.encode(format!("{before}{}{after}", secrets.value("system_key")));
                let hit = secrets.patterns().iter().any(|pattern| {
                    pattern.secret == "system_key"
                        && text
                            .as_bytes()
                            .windows(pattern.bytes.len())
                            .any(|w| w == pattern.bytes)
                });
                assert!(hit, "{before}…{after}");
            }
        }
    }

    #[test]
    fn masks_all_forms_and_captured_values() {
        let mut secrets = secrets();
        secrets.capture("token-123456");
        secrets.capture("id");
        let key = secrets.value("system_key").to_owned();
        let text = format!(
            "{key} {} {} token-123456 id",
            STANDARD.encode(&key),
            hex::encode(&key)
        );
        let masked = secrets.mask(&text);
        assert!(!masked.contains(&key[..12]), "{masked}");
        assert!(!masked.contains("token-123456"));
        assert!(masked.ends_with("*** id"));
        let json = serde_json::json!({"a": [{"b": key}], "c": 5});
        assert_eq!(
            secrets.mask_json(&json),
            serde_json::json!({"a": [{"b": MASK}], "c": 5})
        );
        assert_eq!(
            format!("{secrets:?}"),
            r#"["database_password", "database_password_encoded", "system_key", "auth_seed", "letter_token"]"#
        );
    }
}
