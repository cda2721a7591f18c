//! How running a command can fail. Each variant carries the command as shown
//! (secrets masked), so that a message can be read without its context.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of standard error that a failure keeps.
pub(crate) const ROOM: usize = 1024;

/// A command that did not do what it was for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The program is not on this machine.
    #[error("{program} is not on this machine{}", remedy(*package))]
    NotFound {
        /// Its name or path.
        program: String,
        /// The Debian package that brings it, when it is a known tool.
        package: Option<&'static str>,
    },
    /// The operating system refused to start it.
    #[error("could not start `{command}`")]
    CouldNotStart {
        /// The command, masked.
        command: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It ended with a non-zero exit code.
    #[error("`{command}` ended with exit code {code}{}", said(stderr))]
    Exit {
        /// The command, masked.
        command: String,
        /// The exit code, 1 to 255.
        code: i32,
        /// The lines of its standard error that tell most, 1 KiB at most (of
        /// both streams when they were streamed together), masked.
        stderr: String,
    },
    /// A signal ended it.
    #[error("`{command}` was ended by signal {signal}{}{}", signal_name(*signal), said(stderr))]
    Signal {
        /// The command, masked.
        command: String,
        /// The signal's number.
        signal: i32,
        /// As in [`Failure::Exit`].
        stderr: String,
    },
    /// It ran longer than its limit and was ended.
    #[error("`{command}` was ended after its limit of {}{}", seconds(*limit), said(stderr))]
    Timeout {
        /// The command, masked.
        command: String,
        /// The limit.
        limit: Duration,
        /// As in [`Failure::Exit`].
        stderr: String,
    },
    /// It wrote more to standard output than may be captured, and was cut off.
    #[error("`{command}` was ended: it wrote more than {} MiB{}", room >> 20, said(stderr))]
    TooMuch {
        /// The command, masked.
        command: String,
        /// What may be captured, in bytes.
        room: usize,
        /// As in [`Failure::Exit`].
        stderr: String,
    },
    /// Whoever ran it wanted it to go on no longer.
    #[error("`{command}` was ended: {reason}{}", said(stderr))]
    Stopped {
        /// The command, masked.
        command: String,
        /// Why, in the words of whoever ran it.
        reason: String,
        /// As in [`Failure::Exit`].
        stderr: String,
    },
    /// Its output or state could not be read.
    #[error("lost track of `{command}` while {doing}")]
    Io {
        /// The command, masked.
        command: String,
        /// What was being done.
        doing: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file that keeps its output could not be written.
    #[error("could not write the output of `{command}` to {}", path.display())]
    Log {
        /// The command, masked.
        command: String,
        /// The log file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl Failure {
    /// The exit code, when there was one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Exit { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// What it said that tells most, masked; empty when it never ran.
    pub fn stderr(&self) -> &str {
        match self {
            Self::Exit { stderr, .. }
            | Self::Signal { stderr, .. }
            | Self::Stopped { stderr, .. }
            | Self::TooMuch { stderr, .. }
            | Self::Timeout { stderr, .. } => stderr,
            _ => "",
        }
    }
}

fn remedy(package: Option<&str>) -> String {
    package
        .map(|p| format!("; install the Debian package {p}"))
        .unwrap_or_default()
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() {
        "; it said nothing".to_owned()
    } else {
        format!(": {stderr}")
    }
}

fn seconds(limit: Duration) -> String {
    if limit.subsec_millis() == 0 {
        format!("{} s", limit.as_secs())
    } else {
        format!("{:.1} s", limit.as_secs_f64())
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL: killed from outside, or out of memory)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_to_do() {
        let not_found = Failure::NotFound {
            program: "mcopy".into(),
            package: Some("mtools"),
        };
        assert_eq!(
            not_found.to_string(),
            "mcopy is not on this machine; install the Debian package mtools"
        );
        let exit = Failure::Exit {
            command: "x".into(),
            code: 3,
            stderr: String::new(),
        };
        assert_eq!(
            exit.to_string(),
            "`x` ended with exit code 3; it said nothing"
        );
        let limit = Duration::from_millis(1500);
        let late = Failure::Timeout {
            command: "x".into(),
            limit,
            stderr: "a".into(),
        };
        assert_eq!(
            late.to_string(),
            "`x` was ended after its limit of 1.5 s: a"
        );
    }
}
