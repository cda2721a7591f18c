//! Asking before something is done that another command does not undo.

use std::io::{BufRead as _, IsTerminal as _};

use super::narrate;
use crate::codes;
use crate::failure::Failure;

/// What is about to be done.
pub(super) struct Question<'q> {
    /// One line: what will be done.
    pub(super) what: &'q str,
    /// Reasons to think twice; with any, the answer has to be typed in full.
    pub(super) warnings: &'q [String],
    /// What has to be typed then.
    pub(super) name: &'q str,
    /// `--yes` was given.
    pub(super) yes: bool,
    /// `--force` was given.
    pub(super) force: bool,
}

impl Question<'_> {
    /// Asks at the terminal; elsewhere, goes by the options alone.
    pub(super) fn ask(&self) -> Result<(), Failure> {
        for warning in self.warnings {
            narrate(&format!("warning: {warning}\n"));
        }
        if self.yes && (self.warnings.is_empty() || self.force) {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            let option = if self.warnings.is_empty() {
                "--yes"
            } else {
                "--yes --force"
            };
            let mut failure = Failure::new(
                &codes::UNCONFIRMED,
                format!("not confirmed, nothing was done: \"{}\"", self.what),
            )
            .remedy(format!(
                "Run it at a terminal, or with {option} once you are sure."
            ));
            failure.causes = self.warnings.to_vec();
            return Err(failure);
        }
        let wanted = if self.warnings.is_empty() {
            narrate(&format!("{}. Go on? [y/N] ", self.what));
            "y"
        } else {
            narrate(&format!("{}. Type \"{}\" to go on: ", self.what, self.name));
            self.name
        };
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        let answer = answer.trim();
        let agreed = answer == wanted || (wanted == "y" && answer.eq_ignore_ascii_case("yes"));
        if read.is_ok() && agreed {
            Ok(())
        } else {
            Err(Failure::new(
                &codes::UNCONFIRMED,
                "not confirmed; nothing was done",
            ))
        }
    }
}
