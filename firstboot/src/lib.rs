//! The first-boot agent.
