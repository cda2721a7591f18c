//! What can be said of a step's action without running it.

use super::Action;

impl Action {
    /// Whether later steps make no sense when this one fails.
    pub fn others_build_on(&self) -> bool {
        matches!(
            self,
            Self::Start(_)
                | Self::Stop(_)
                | Self::Boot(_)
                | Self::PowerOff { .. }
                | Self::Agent(_)
                | Self::Ready { .. }
        )
    }

    /// The step's verb, as in a scenario file.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Boot(_) => "boot",
            Self::PowerOff { .. } => "power_off",
            Self::Agent(_) => "agent",
            Self::Ready { .. } => "ready",
            Self::Request(_) => "request",
            Self::Sql { .. } => "sql",
            Self::Snapshot { .. } => "snapshot",
            Self::UnchangedSince(_) => "unchanged_since",
            Self::Run { .. } => "run",
            Self::Console { .. } => "console",
            Self::Letter(_) => "letter",
            Self::SearchSecrets(_) => "search_secrets",
        }
    }

    /// The one machine that it is about.
    pub fn machine(&self) -> Option<&str> {
        match self {
            Self::Boot(vm)
            | Self::PowerOff { vm, .. }
            | Self::Ready { vm, .. }
            | Self::Run { vm, .. }
            | Self::Console { vm, .. } => Some(vm),
            Self::Agent(step) => Some(&step.vm),
            Self::Request(step) => Some(&step.vm),
            _ => None,
        }
    }
}
