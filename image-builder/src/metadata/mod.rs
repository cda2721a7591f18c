//! Node metadata at the desk: read, judged by the agent's own rules, and made
//! into what a node takes.
//!
//! Owns: reading the files, what cannot be judged away from the node, config
//! drives and credential files. Refuses: rules of its own about fields (they
//! are `sf_contract::metadata`'s), and showing a secret.

pub mod drive;
pub mod encrypt;
pub mod judge;
pub mod output;
pub mod read;
pub mod seal;

pub use judge::{Audience, Verdict};
pub use read::{ReadError, Sources};
