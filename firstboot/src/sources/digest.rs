//! One value that changes when the metadata does, secrets included.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sf_contract::metadata::Resolved;
use sha2::Sha256;

/// HMAC-SHA-256, hex, over all fields and their values. Without the key nobody
/// can try out guesses at a secret; keep the key (32 random bytes) where only
/// root reads it. Where a value came from does not count.
pub(super) fn digest(resolved: &Resolved, key: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    resolved.each_exposed(|path, value| {
        // Lengths in front, so that no two lists of fields give equal bytes.
        for part in [path, value] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
    });
    Some(hex::encode(mac.finalize().into_bytes()))
}
