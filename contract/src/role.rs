//! What a node is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The role that an image is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs instances.
    Hypervisor,
    /// Routes the floating network; exactly one per cluster.
    Network,
    /// Bootstraps the cluster and, in releases that have it, serves the database to the others.
    DatabaseTier,
    /// Everything on one machine; an example, not a product.
    SingleNode,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [
        Self::Hypervisor,
        Self::Network,
        Self::DatabaseTier,
        Self::SingleNode,
    ];

    /// The name as written in profiles, tables and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hypervisor => "hypervisor",
            Self::Network => "network",
            Self::DatabaseTier => "database-tier",
            Self::SingleNode => "single-node",
        }
    }

    /// May this role bootstrap the cluster? The others wait for it.
    pub fn bootstraps(self) -> bool {
        matches!(self, Self::DatabaseTier | Self::SingleNode)
    }

    /// Does this role run instances, and so serve their consoles?
    pub fn runs_instances(self) -> bool {
        matches!(self, Self::Hypervisor | Self::SingleNode)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            format!("\"{text}\" is not a role; roles are hypervisor, network, database-tier and single-node")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        assert!("web".parse::<Role>().is_err());
    }
}
