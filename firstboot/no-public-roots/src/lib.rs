//! Stands in for the crate `webpki-roots` (`[patch.crates-io]` in the
//! workspace's `Cargo.toml`) and holds nothing.
//!
//! sqlx adds Mozilla's authorities to whatever `ssl_ca` names, and has no
//! switch against it. An operator who names the authority of the database
//! means that one alone: with a hundred public ones beside it, anybody who
//! gets a certificate for any name of his own passes `ssl-mode=verify-ca`.
//! The agent gives the driver the operator's authority, or else the system's
//! store, itself.
#![no_std]

use pki_types::TrustAnchor;

/// None.
pub const TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[];
