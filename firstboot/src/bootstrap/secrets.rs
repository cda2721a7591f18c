//! Random values, bcrypt in Shaken Fist's form, and fingerprints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sf_contract::secret::{Secret, has_user, is_secret_key, mask_urls};
use sha2::{Digest as _, Sha256};

use super::operation::plain_text;
use crate::codes;
use crate::failure::Failure;

/// What stands for a value that must not be fingerprinted.
pub(super) const WITHHELD: &str = "withheld";

/// Upstream's own cost, `$2b$12$`.
const BCRYPT_COST: u32 = 12;

const NONCE_LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn fill(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes).map_err(|error| {
        Failure::new(
            &codes::INTERNAL,
            "the operating system gives no random bytes",
        )
        .cause(&error)
    })
}

/// 256 random bits in hexadecimal: no character that a configuration file or a
/// shell reads in its own way.
pub(super) fn new_seed() -> Result<Secret, Failure> {
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    fill(bytes.as_mut())?;
    Ok(Secret::new(hex::encode(bytes.as_ref())))
}

/// A key's identity as the tables hold it.
#[derive(Clone, Debug)]
pub(super) struct NewKey {
    /// 32 lower-case hex digits.
    pub(super) uuid: String,
    /// base64 of the bcrypt hash.
    pub(super) stored: String,
    /// 16 of [A-Za-z0-9].
    pub(super) nonce: String,
}

impl NewKey {
    /// Hashes the secret, which takes a quarter of a second on purpose: never
    /// call it with a transaction open.
    pub(super) fn new(secret: &Secret) -> Result<Self, Failure> {
        let hash = bcrypt::hash(secret.expose(), BCRYPT_COST).map_err(|error| {
            Failure::new(&codes::INTERNAL, "the system key cannot be hashed").cause(&error)
        })?;
        Ok(Self {
            uuid: uuid::Uuid::new_v4().simple().to_string(),
            stored: STANDARD.encode(hash),
            nonce: nonce()?,
        })
    }

    /// The identity with dashes, as `object_states` has it.
    pub(super) fn dashed(&self) -> String {
        uuid::Uuid::parse_str(&self.uuid)
            .map_or_else(|_| self.uuid.clone(), |uuid| uuid.hyphenated().to_string())
    }
}

fn nonce() -> Result<String, Failure> {
    let mut text = String::with_capacity(16);
    while text.len() < 16 {
        let mut bytes = [0_u8; 32];
        fill(&mut bytes)?;
        // 248 is the last multiple of 62 in a byte: above it letters would not
        // be equally likely.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        text.extend(
            fair.take(16 - text.len())
                .map(|byte| char::from(NONCE_LETTERS[usize::from(*byte % 62)])),
        );
    }
    Ok(text)
}

/// The highest cost of a bcrypt hash that is tried. Each step doubles the time:
/// 15 takes seconds, 31 would take days, and nothing could end it before.
const MOST_COST: u32 = 15;

/// The hash that is stored, if it is one of bcrypt's, and its cost.
fn hash(stored: &str) -> Option<(String, u32)> {
    let hash = String::from_utf8(STANDARD.decode(stored).ok()?).ok()?;
    let cost = hash.strip_prefix("$2")?.split('$').nth(1)?.parse().ok()?;
    Some((hash, cost))
}

/// The cost of a stored hash that is too high to be tried.
pub(super) fn excessive_cost(stored: &str) -> Option<u32> {
    hash(stored)
        .map(|(_, cost)| cost)
        .filter(|cost| *cost > MOST_COST)
}

/// Does the stored form belong to this secret? Anything that is not base64 of
/// a bcrypt hash does not, nor does one that takes too long. As slow as hashing.
pub(super) fn verify(secret: &Secret, stored: &str) -> bool {
    hash(stored).is_some_and(|(hash, cost)| {
        cost <= MOST_COST && bcrypt::verify(secret.expose(), &hash).unwrap_or(false)
    })
}

/// Fingerprint of a value that everybody may know.
pub(super) fn plain(value: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(value.as_bytes())))
}

/// Fingerprint of a setting, withheld where it may hold a password.
pub(super) fn setting(key: &str, value: &Value) -> String {
    let text = plain_text(value);
    if is_secret_key(key) || has_user(&text) || mask_urls(&text) != text {
        WITHHELD.to_owned()
    } else {
        plain(&text)
    }
}

/// Fingerprint of a stored key: of its bcrypt hash, never of the key.
pub(super) fn stored_key(stored: &str) -> String {
    format!(
        "bcrypt-sha256:{}",
        hex::encode(Sha256::digest(stored.as_bytes()))
    )
}

/// Fingerprint of a seed that has 256 random bits. Not for one that people
/// chose.
pub(super) fn generated_seed(seed: &Secret) -> Result<String, Failure> {
    let mut mac = Hmac::<Sha256>::new_from_slice(seed.expose().as_bytes())
        .map_err(|error| Failure::new(&codes::INTERNAL, "no HMAC of the seed").cause(&error))?;
    mac.update(b"sf-image auth-secret-seed");
    Ok(format!(
        "hmac-sha256:{}",
        hex::encode(mac.finalize().into_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seeds_and_nonces_have_their_form_and_differ() {
        let (one, other) = (new_seed().unwrap(), new_seed().unwrap());
        assert!(one != other);
        assert_eq!(one.expose().len(), 64);
        assert!(one.expose().bytes().all(|b| b.is_ascii_hexdigit()));
        for _ in 0..50 {
            let nonce = nonce().unwrap();
            assert_eq!(nonce.len(), 16);
            assert!(nonce.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn keys_are_stored_as_upstream_does() {
        let secret = Secret::new("x".repeat(72));
        let key = NewKey::new(&secret).unwrap();
        let hash = String::from_utf8(STANDARD.decode(&key.stored).unwrap()).unwrap();
        assert!(hash.starts_with("$2b$12$"), "{hash}");
        assert_eq!(hash.len(), 60);
        assert_eq!(key.uuid.len(), 32);
        assert_eq!(key.dashed().replace('-', ""), key.uuid);
        assert!(verify(&secret, &key.stored));
        assert!(!verify(&Secret::new("x".repeat(71)), &key.stored));
    }

    #[test]
    fn a_hash_by_another_implementation_verifies_and_rubbish_does_not() {
        // libxcrypt: crypt("correct horse", "$2b$04$abcdefghijklmnopqrstuu").
        let hash = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
        let secret = Secret::new("correct horse");
        assert!(verify(&secret, &STANDARD.encode(hash)));
        for stored in ["", "!", "AAAA", &STANDARD.encode("$2b$12$short")] {
            assert!(!verify(&secret, stored), "{stored}");
        }
    }

    #[test]
    fn what_people_choose_is_not_fingerprinted_by_a_fast_digest() {
        assert!(setting("DNS_SERVER", &json!("9.9.9.9")).starts_with("sha256:"));
        assert_eq!(
            setting("DNS_SERVER", &json!("8950")),
            setting("DNS_SERVER", &json!(8950))
        );
        assert_eq!(setting("PROXY", &json!("u:a b@h")), WITHHELD);
        assert_eq!(setting("API_TOKEN", &json!("x")), WITHHELD);
        assert_eq!(
            setting("HTTP_PROXY_SERVER", &json!("http://u:p@proxy:3128")),
            WITHHELD
        );
        let seed = new_seed().unwrap();
        let fingerprint = generated_seed(&seed).unwrap();
        assert!(!fingerprint.contains(seed.expose()));
        assert_eq!(fingerprint.len(), "hmac-sha256:".len() + 64);
    }

    #[test]
    fn a_hash_that_would_take_days_is_not_tried() {
        let stored = |cost: u32| {
            STANDARD.encode(format!(
                "$2b${cost:02}$abcdefghijklmnopqrstuuu5s2v8.iXieOjg/.AySBTTZIIVFJeBuiOnu"
            ))
        };
        assert_eq!(excessive_cost(&stored(12)), None);
        assert_eq!(excessive_cost(&stored(31)), Some(31));
        assert!(!verify(&Secret::new("any"), &stored(31)));
        assert_eq!(excessive_cost("bm90IGEgaGFzaA=="), None);
    }
}
