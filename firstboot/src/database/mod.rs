//! The operator's MariaDB: connecting, preflight, the tables.
//!
//! Owns every SQL statement about the server itself and the shape of tables.
//! It refuses to guess: each way in which a connection or a statement can fail
//! has a class, and the class alone decides what is retried and which code the
//! operator sees. Nothing here knows what the rows mean; that is
//! [`crate::bootstrap`]'s and [`crate::gate`]'s.

mod backoff;
mod cluster;
mod connector;
pub mod grants;
mod link;
mod parking;
pub mod preflight;
mod probe;
mod promises;
mod refusal;
pub mod schema;
mod session;
mod tls;
mod trial;
mod trouble;
pub mod upkeep;

pub use backoff::Backoff;
pub use cluster::{ClusterState, OperationRecord, read_cluster};
pub use connector::Connector;
pub use refusal::WHICH_ROLE;
pub use session::Session;

pub(crate) use cluster::{SEED_KEY, operations, read as cluster, seed_text};
pub(crate) use link::Link;
pub(crate) use session::{Arg, Statement};
pub(crate) use trial::trial;
pub(crate) use trouble::{Class, SqlError};
pub(crate) use upkeep::crowded;

use crate::codes;
use crate::failure::Failure;

/// What the agent makes of bytes that came from a server, without one: its
/// greeting, its version, its grants. For fuzzing.
#[doc(hidden)]
pub fn understood(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let grants = grants::Grants::parse(text.lines());
    let needs = grants::needs(
        sf_contract::role::Role::Hypervisor,
        false,
        &sf_contract::release::Schema::Agent,
    );
    format!(
        "{:?}\n{:?}\n{:?}\n{}",
        probe::parse(bytes),
        preflight::parse_version(&text),
        grants.missing("shakenfist", &needs),
        grants::Account::parse(&text)
    )
}

/// The runtime that everything asynchronous of the agent runs on: one thread,
/// timers and sockets.
///
/// End it with `shutdown_background()`: a look-up of a name that a dead name
/// server does not answer may still be waiting in a helper thread.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| {
            Failure::new(&codes::INTERNAL, "the asynchronous runtime does not start").cause(&error)
        })
}

/// Seconds since 1970 as Shaken Fist stores times.
pub(crate) fn unix_seconds() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
