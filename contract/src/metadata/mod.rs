//! Node metadata (schema 1): what an operator says about a node.
//!
//! Four stages, each a type of its own: [`Fragment`] (one source, as read) ->
//! [`Merged`] (all sources, with who won) -> [`Resolved`] (references followed)
//! -> [`NodeMetadata`] (typed, validated against role and release). No stage
//! stops at the first mistake; every [`crate::problem::Problem`] says where.

mod checking;
pub mod document;
pub mod dsn;
pub mod example;
pub mod explain;
pub mod fields;
pub mod finding;
pub mod fragment;
mod hints;
pub mod merged;
pub mod node;
pub mod origin;
pub mod reference;
mod release_rules;
pub mod roles;
mod rules;
mod single;
pub mod template;
pub mod validate;
pub mod value;

pub use finding::{Class, Finding};
pub use fragment::Fragment;
pub use hints::nearest as nearest_field;
pub use merged::{MOST, Merged, Resolved, Unresolved, merge};
pub use node::NodeMetadata;
pub use origin::{Layer, Origin, Place};
pub use release_rules::required_fields;
pub use roles::{ForRoles, check_roles};
pub use validate::{Checked, Target, check};
pub use value::{Reference, SettingText, Value};

/// The schema that this code reads, `schema = 1`.
pub const SCHEMA: i64 = 1;

#[cfg(test)]
mod tests;
