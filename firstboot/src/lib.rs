//! The first-boot agent: reads what the operator says about this node, checks
//! it, bootstraps the cluster exactly once, checks versions, and only then
//! starts the daemons.

pub mod codes;
pub mod failure;
