//! The end state of a bootstrap, row for row, with what must differ between two
//! runs checked by its form and replaced by a word.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sf_contract::secret::Secret;
use sha2::{Digest as _, Sha256};

use super::Admin;
use super::agent::verified_elsewhere;
use super::metadata::{KEY, definitions, dump};

/// Everything in a database after a bootstrap: definitions and rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EndState {
    definitions: Vec<String>,
    rows: BTreeMap<String, Vec<Vec<String>>>,
}

/// Reads and normalises it. Panics when a random value has not its form.
/// `verify` also tries the stored key with another bcrypt, which takes a while.
pub(crate) fn end_state(admin: &mut Admin, database: &str, verify: bool) -> EndState {
    let mut rows = dump(admin, database);
    // The server's clock is the one that counts.
    let now = admin.cell("SELECT UNIX_TIMESTAMP(SYSDATE(6))");
    let now: f64 = now.parse().unwrap();
    let cell = |table: &str, row: usize, column: usize| rows[table][row][column].clone();

    let uuid = cell("namespace_keys", 0, 0);
    assert!(uuid.len() == 32 && is_hex(&uuid), "uuid {uuid}");
    let dashed = uuid::Uuid::parse_str(&uuid)
        .unwrap()
        .hyphenated()
        .to_string();
    let stored = cell("namespace_key_attributes", 0, 1);
    assert!(is_bcrypt(&stored), "stored key {stored}");
    if verify {
        let secret = Secret::new(KEY);
        assert!(
            verified_elsewhere(&secret, &stored),
            "the stored key does not verify"
        );
    }
    let nonce = cell("namespace_key_attributes", 0, 2);
    assert!(
        nonce.len() == 16 && nonce.bytes().all(|b| b.is_ascii_alphanumeric()),
        "nonce {nonce}"
    );
    let seed = rows["cluster_config"]
        .iter()
        .find(|row| row[0] == "AUTH_SECRET_SEED")
        .expect("the seed")[1]
        .clone();
    let plain_seed = seed.trim_matches('"').to_owned();
    assert!(plain_seed.len() == 64 && is_hex(&plain_seed), "seed {seed}");
    let mut mac = Hmac::<Sha256>::new_from_slice(plain_seed.as_bytes()).unwrap();
    mac.update(b"sf-image auth-secret-seed");

    let words = [
        (uuid, "UUID"),
        (dashed, "UUID-DASHED"),
        (
            format!(
                "bcrypt-sha256:{}",
                hex::encode(Sha256::digest(stored.as_bytes()))
            ),
            "KEY-FINGERPRINT",
        ),
        (
            format!("hmac-sha256:{}", hex::encode(mac.finalize().into_bytes())),
            "SEED-FINGERPRINT",
        ),
        (stored, "STORED-KEY"),
        (nonce, "NONCE"),
        (seed, "SEED"),
    ];
    for table in rows.values_mut() {
        for cell in table.iter_mut().flatten() {
            if let Some((_, word)) = words.iter().find(|(value, _)| value == cell) {
                (*word).clone_into(cell);
            } else if is_recent(cell, now) {
                "TIME".clone_into(cell);
            }
        }
        table.sort();
    }
    EndState {
        definitions: definitions(admin, database),
        rows,
    }
}

/// base64 of a bcrypt hash of upstream's cost.
fn is_bcrypt(stored: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(stored)
        .is_ok_and(|hash| hash.len() == 60 && hash.starts_with(b"$2b$12$"))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// UNIX seconds of the last hour before `now`.
fn is_recent(text: &str, now: f64) -> bool {
    text.parse::<f64>()
        .is_ok_and(|time| (now - 3600.0..=now).contains(&time))
}
