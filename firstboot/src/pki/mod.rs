//! Certificates and private keys, judged: pure functions over bytes and a
//! given time. [`crate::preflight`] runs them on the metadata's `[pki]`, and
//! the database's TLS failures are explained by them.
//!
//! Rules come from RFC 5280 (chains, dates, usages), RFC 6125 (names) and
//! RFC 8446 section 4.4.2 (the leaf comes first). Chains and names are verified
//! by rustls-webpki, as the agent's own TLS does; nothing here re-implements
//! a signature. No text that leaves this module holds key material.

mod chain;
mod der;
mod facts;
mod judge;
mod key;
mod pem;
mod read;
mod server;

pub(crate) use der::converted;
pub use der::{Thing, der_thing};
pub use facts::{Certificate, WARN_DAYS, day};
pub use judge::{Item, Set, Usage, Verdict, days_until, judge};
pub use pem::certificates;
pub use server::{Flaw, flaw};

#[cfg(test)]
mod tests;
