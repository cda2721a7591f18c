//! The first-boot agent: reads what the operator says about this node, checks
//! it, bootstraps the cluster exactly once, checks versions, and only then
//! starts the daemons.

pub mod bootstrap;
pub mod call_home;
pub mod card;
pub mod claim;
pub mod cli;
pub mod clock;
pub mod codes;
pub mod configure;
pub mod database;
pub mod engine;
pub mod failure;
pub mod fleet;
pub mod forecast;
pub mod gate;
pub mod hook;
pub mod identity;
pub mod image;
pub mod interfaces;
pub mod log;
pub mod metrics;
pub mod migration;
pub mod panics;
pub mod paths;
pub mod pki;
pub mod plain;
pub mod preflight;
pub mod read;
pub mod ready;
pub mod reference;
pub mod report;
pub mod sources;
pub mod state;
pub mod status;
pub mod units;
pub mod unstarted;
pub mod write;

#[cfg(test)]
mod testing;
