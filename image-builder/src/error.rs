//! What the command shows when it fails, and its exit code.
//!
//! Owns: turning each module's error into who must act and what they should do.
//! Refuses: hiding a cause; every link of the chain is shown on its own line.

use std::error::Error as StdError;
use std::fmt::Write as _;

use sf_contract::failure::Kind;

/// A failure of the command.
#[derive(Debug)]
pub struct Report {
    /// Who must act; decides the exit code.
    pub kind: Kind,
    /// The error and, below it, its causes, without those that an error above
    /// already shows.
    pub chain: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
    /// Text that stands by itself above the error: source frames.
    pub detail: Option<String>,
}

impl Report {
    /// A report from an error and its sources.
    pub fn new(kind: Kind, error: &(dyn StdError + 'static)) -> Self {
        let mut chain: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Transparent errors, and those that quote their source, say it once.
            if !chain.iter().any(|above| above.contains(&text)) {
                chain.push(text);
            }
            // Below a line of the log that explains stands only the command,
            // which is long, and in the log.
            next = if explains(error) {
                None
            } else {
                error.source()
            };
        }
        let mut report = Self {
            kind,
            chain,
            hints: Vec::new(),
            detail: None,
        };
        report.add_known_hints();
        report
    }

    /// A report of one sentence.
    pub fn text(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            chain: vec![message.into()],
            hints: Vec::new(),
            detail: None,
        }
    }

    /// The same with a remedy, when there is one.
    #[must_use]
    pub fn hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hints.extend(hint.map(Into::into));
        self.hints.dedup();
        self
    }

    /// The same with text above it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Remedies for what the operating system says, wherever it says it.
    fn add_known_hints(&mut self) {
        let all = self.chain.join("\n");
        for (text, hint) in [
            ("No space left on device", crate::explain::FREE_SOME_SPACE),
            (
                "Read-only file system",
                "name a folder that can be written (SF_CACHE_DIR, --output-dir; boot-test's --work-dir)",
            ),
            (
                "Permission denied",
                "run as root, or name a folder that this user can write (SF_CACHE_DIR, --output-dir; boot-test's --work-dir)",
            ),
        ] {
            if all.contains(text) {
                self.hints.push(hint.to_owned());
            }
        }
    }

    /// What is written to standard error.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Some(detail) = &self.detail {
            let _ = writeln!(text, "{}\n", detail.trim_end());
        }
        for (index, line) in self.chain.iter().enumerate() {
            let label = if index == 0 { "error" } else { "  caused by" };
            let _ = writeln!(text, "{label}: {}", line.trim_end());
        }
        for hint in &self.hints {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }

    /// The same as one JSON object, for `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": self.chain.first(),
            "causes": self.chain.get(1..).unwrap_or_default(),
            "hints": self.hints,
            "detail": self.detail,
            "exit_code": self.kind.exit_code(),
        })
    }
}

/// Does the error quote the line of a tool's output that says why?
fn explains(error: &(dyn StdError + 'static)) -> bool {
    use crate::apt::AptError::Fetch;
    use crate::mkosi_run::MkosiRunError;
    use crate::venv::VenvError::Step;
    if let Some(error) = error.downcast_ref::<MkosiRunError>() {
        return error.explanation.is_some();
    }
    matches!(
        error.downcast_ref(),
        Some(Fetch {
            explanation: Some(_),
            ..
        })
    ) || matches!(
        error.downcast_ref(),
        Some(Step {
            explanation: Some(_),
            ..
        })
    )
}

/// Which [`Kind`] an error is, and its remedy.
macro_rules! reports {
    ($($error:ty => |$name:ident| $kind:expr, $hint:expr;)+) => {
        $(impl From<$error> for Report {
            fn from($name: $error) -> Self {
                let (kind, hint): (Kind, Option<String>) = ($kind, $hint);
                Self::new(kind, &$name).hint(hint)
            }
        })+
    };
}

reports! {
    crate::checkout::CheckoutError => |error| match error {
        crate::checkout::CheckoutError::Read(_) => Kind::Environment,
        _ => Kind::Usage,
    }, error.hint();
    crate::version::VersionError => |error| Kind::Usage,
        Some("give a shorter or plainer one with --image-version, such as 0.7.2-1".into());
    crate::cache::CacheError => |error| Kind::Environment,
        Some("SF_CACHE_DIR names another place".into());
    crate::apt::AptError => |error| Kind::Environment, error.hint().map(Into::into);
    crate::mkosi::MkosiError => |error| Kind::Environment, match &error {
        crate::mkosi::MkosiError::Fetch(apt) => apt.hint().map(Into::into),
        _ => None,
    };
    crate::tools_tree::ToolsError => |error| Kind::Environment, match &error {
        crate::tools_tree::ToolsError::Build(run) => run.hint().map(Into::into),
        crate::tools_tree::ToolsError::Cache(_) => None,
    };
    crate::venv::VenvError => |error| Kind::Environment, error.hint().map(Into::into);
    crate::agent_binary::AgentError => |error| Kind::Environment, error.hint().map(Into::into);
    crate::mkosi_run::MkosiRunError => |error| match error.explanation.as_ref().map(|e| e.cause) {
        Some(crate::explain::Cause::NoSuchPackage | crate::explain::Cause::Configuration) => Kind::Configuration,
        _ => Kind::Environment,
    }, error.hint().map(Into::into);
    crate::collect::CollectError => |error| Kind::Internal, None;
    crate::publish::PublishError => |error| Kind::Environment, None;
    crate::metadata::ReadError => |error| match &error {
        crate::metadata::ReadError::Read { .. } => Kind::Environment,
        _ => Kind::Configuration,
    }, match &error {
        crate::metadata::ReadError::Read { .. } => Some("name a file that exists and that you may read; `sf-image metadata new --profile NAME` writes a template".into()),
        _ => Some("check that it is the file that was meant; metadata is TOML, not compressed or encrypted".into()),
    };
    crate::metadata::seal::SealError => |error| match &error {
        crate::metadata::seal::SealError::Exists { .. } => Kind::Usage,
        crate::metadata::seal::SealError::NoName
        | crate::metadata::seal::SealError::TooLarge { .. } => Kind::Configuration,
        crate::metadata::seal::SealError::Lossy { .. } => Kind::Internal,
        _ => Kind::Environment,
    }, match &error {
        crate::metadata::seal::SealError::Exists { .. } => Some("--force replaces it".into()),
        crate::metadata::seal::SealError::NoName => Some("set node.name, or give it with --node".into()),
        crate::metadata::seal::SealError::TooLarge { .. } => Some("certificates and keys are a few KiB each; look for a file that was taken by mistake".into()),
        crate::metadata::seal::SealError::Encrypt { tpm2: true, .. } => Some("systemd-creds says why; `systemd-creds has-tpm2` tells whether this machine has a TPM, --with-key host needs none".into()),
        crate::metadata::seal::SealError::Encrypt { .. } => Some("systemd-creds says why; without --host-key it takes this machine's host key, which only root can read".into()),
        _ => None,
    };
    crate::host::Unfit => |error| Kind::Environment, None;
    crate::host::InstallError => |error| Kind::Environment, match &error {
        crate::host::InstallError::Apt(apt) => apt.hint().map(Into::into),
        crate::host::InstallError::ByHand(_) => None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not write {0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn causes_stand_on_their_own_lines_and_once() {
        let cause = std::io::Error::other("disk on fire: No space left on device (os error 28)");
        let report = Report::new(Kind::Environment, &Outer("/out", cause)).hint(Some("do x"));
        assert_eq!(
            report.render(),
            "error: could not write /out\n  caused by: disk on fire: No space left on device (os error 28)\n\
             hint: free some space, or name another place (SF_CACHE_DIR, --output-dir; boot-test's --work-dir)\nhint: do x\n"
        );
        assert_eq!(report.to_json()["exit_code"], 69);
        let quoted = Report::new(
            Kind::Internal,
            &Outer("x: a", std::io::Error::other("x: a")),
        );
        assert_eq!(quoted.chain.len(), 1);
    }

    #[test]
    fn a_command_is_not_shown_below_the_line_that_explains() {
        let failure = || sf_command::Failure::Exit {
            command: "a very long command".into(),
            code: 100,
            stderr: String::new(),
        };
        let error = |explanation| crate::mkosi_run::MkosiRunError {
            step: Some("Installing Debian".into()),
            explanation,
            log: "/out/x.log".into(),
            source: Box::new(failure()),
        };
        let explained = crate::explain::explain("E: Unable to locate package nope").map(Box::new);
        let report = Report::from(error(explained));
        assert_eq!(report.kind, Kind::Configuration);
        assert_eq!(report.chain.len(), 1, "{:?}", report.chain);
        assert!(report.chain[0].contains("Unable to locate package nope"));
        let unexplained = Report::from(error(None));
        assert!(
            unexplained.chain[1].contains("a very long command"),
            "{:?}",
            unexplained.chain
        );
    }
}
