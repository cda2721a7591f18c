//! Types that the builder and the first-boot agent agree on: node metadata,
//! image manifest, release descriptor, version series, failure kinds and
//! redaction. Pure data and parsing; this crate does no I/O.

pub mod document;
pub mod failure;
pub mod manifest;
pub mod metadata;
pub mod problem;
pub mod release;
pub mod role;
pub mod secret;
pub mod series;
