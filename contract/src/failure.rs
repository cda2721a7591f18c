//! Who must act on a failure, and the exit code that says so. Codes are those
//! of sysexits(3); systemd restarts the agent on [`Kind::Transient`] alone.

use serde::Serialize;

/// The kind of a failure, by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The command line is wrong: the caller.
    Usage,
    /// Hardware, a missing device, a full disk: the operator.
    Environment,
    /// A defect of the program: us.
    Internal,
    /// Not reachable yet, or a lost race: nobody; waiting mends it.
    Transient,
    /// Version window, claim, contradiction: the operator, after thinking.
    Refused,
    /// Metadata, PKI, DSN, grants: the operator.
    Configuration,
}

impl Kind {
    /// All kinds, in the order of their codes.
    pub const ALL: [Self; 6] = [
        Self::Usage,
        Self::Environment,
        Self::Internal,
        Self::Transient,
        Self::Refused,
        Self::Configuration,
    ];

    /// Exit code, from sysexits(3).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Environment => 69,
            Self::Internal => 70,
            Self::Transient => 75,
            Self::Refused => 77,
            Self::Configuration => 78,
        }
    }

    /// Is the same run worth trying again without anybody having acted?
    pub fn retried(self) -> bool {
        self == Self::Transient
    }
}
