//! A problem with its class, so that each gets the code that runbooks know.

use crate::problem::Problem;

/// What kind of mistake a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Not TOML, or empty.
    Syntax,
    /// `schema` is missing, or another one.
    Schema,
    /// A key, table or credential that the schema does not have.
    UnknownKey,
    /// A value of the wrong type, or one that breaks a rule.
    Value,
    /// A reference that leads nowhere.
    Reference,
    /// A field that this node cannot do without is absent.
    Missing,
    /// Allowed, but unlikely to be meant.
    Unlikely,
}

impl Class {
    /// The code that runbooks know it by, in the agent and at the desk.
    pub fn code(self) -> &'static str {
        match self {
            Self::Syntax => "SF-META-SYNTAX",
            Self::Schema => "SF-META-SCHEMA",
            Self::UnknownKey => "SF-META-UNKNOWN-KEY",
            Self::Value => "SF-META-INVALID",
            Self::Reference => "SF-META-REFERENCE",
            Self::Missing => "SF-META-REQUIRED",
            Self::Unlikely => "SF-META-UNLIKELY",
        }
    }
}

/// A classified problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its class.
    pub class: Class,
    /// The problem with its place.
    pub problem: Problem,
}
