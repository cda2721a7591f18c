//! A command as a value.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::quote::{MASK, mask, quote};
use crate::tool::Tool;

/// Bytes of standard output that are captured where nothing else is said: far
/// more than any answer has.
const ROOM: usize = 16 << 20;

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A known tool, resolved to its absolute path when it is started.
    Tool(Tool),
    /// A file: what this project built itself, or a test's stand-in.
    Path(PathBuf),
}

/// Where a spawned process writes. Ignored by the functions that capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sink {
    /// Nowhere.
    #[default]
    Null,
    /// To this process's own stream.
    Inherit,
    /// To the end of a file, made when absent.
    File(PathBuf),
    /// To a pipe that [`Child::take_stdout`](crate::Child::take_stdout) or
    /// `take_stderr` hands out.
    Pipe,
}

/// A command: program, arguments, environment, folder, input, time limit, and
/// which values must never be shown. `Display` gives a line that a shell takes,
/// with secrets masked.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Cmd {
    pub(crate) program: Program,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) env_clear: bool,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) stdout: Sink,
    pub(crate) stderr: Sink,
    pub(crate) secrets: Vec<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) room: usize,
}

impl Cmd {
    /// A command that runs `tool`.
    pub fn new(tool: Tool) -> Self {
        Self::with(Program::Tool(tool))
    }

    /// A command that runs the file at `path`.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::with(Program::Path(path.into()))
    }

    fn with(program: Program) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            env_clear: false,
            cwd: None,
            stdin: None,
            stdout: Sink::Null,
            stderr: Sink::Null,
            secrets: Vec::new(),
            timeout: None,
            room: ROOM,
        }
    }

    /// The same command (environment, folder, input, secrets, limit) with
    /// another program and no arguments: for wrapping it in `unshare` and such.
    pub fn replace(self, tool: Tool) -> Self {
        Self {
            program: Program::Tool(tool),
            args: Vec::new(),
            ..self
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), Some(value.into())));
        self
    }

    /// Removes an environment variable that the child would inherit.
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.env.push((key.into(), None));
        self
    }

    /// Inherits nothing: the child sees only what [`Cmd::env`] sets.
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self
    }

    /// Runs in `folder`.
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// Gives `bytes` on standard input. Without it standard input is empty.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Where a spawned process's standard output goes.
    pub fn stdout(mut self, sink: Sink) -> Self {
        self.stdout = sink;
        self
    }

    /// Where a spawned process's standard error goes.
    pub fn stderr(mut self, sink: Sink) -> Self {
        self.stderr = sink;
        self
    }

    /// Both streams of a spawned process, appended to one file.
    pub fn log_to(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.stdout(Sink::File(path.clone()))
            .stderr(Sink::File(path))
    }

    /// Masks `value` wherever this command, its output lines or its failure is
    /// shown. This is a second net: a secret belongs on stdin or in a file, not
    /// in an argument.
    pub fn secret(mut self, value: impl Into<String>) -> Self {
        self.secrets.push(value.into());
        self
    }

    /// How many bytes of standard output [`Cmd::run`] may capture, in place of 16
    /// MiB. A command that writes more fails.
    pub fn room(mut self, bytes: usize) -> Self {
        self.room = bytes;
        self
    }

    /// Ends the command, with everything it started, after `limit`.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// What is run.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The arguments, without the program.
    pub fn get_args(&self) -> &[OsString] {
        &self.args
    }

    /// The environment changes: `None` is a removal.
    pub fn get_env(&self) -> &[(OsString, Option<OsString>)] {
        &self.env
    }

    /// The folder it runs in, when set.
    pub fn get_cwd(&self) -> Option<&Path> {
        self.cwd.as_deref()
    }

    /// `text` with this command's secrets masked.
    pub(crate) fn masked(&self, text: &str) -> String {
        mask(text, &self.secrets).into_owned()
    }

    fn word(&self, word: &OsStr) -> String {
        let text = word.to_string_lossy();
        let masked = mask(&text, &self.secrets);
        // Quotes around the mask would only be noise.
        if masked == MASK {
            MASK.to_owned()
        } else {
            quote(&masked).into_owned()
        }
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cwd) = &self.cwd {
            write!(f, "cd {} && ", self.word(cwd.as_os_str()))?;
        }
        let changed = self.env_clear || !self.env.is_empty();
        let removed: Vec<_> = self
            .env
            .iter()
            .filter(|(_, value)| value.is_none())
            .collect();
        if changed && (self.env_clear || !removed.is_empty()) {
            f.write_str("env ")?;
            if self.env_clear {
                f.write_str("-i ")?;
            }
            for (key, _) in removed {
                write!(f, "-u {} ", self.word(key))?;
            }
        }
        for (key, value) in &self.env {
            if let Some(value) = value {
                write!(f, "{}={} ", key.to_string_lossy(), self.word(value))?;
            }
        }
        match &self.program {
            Program::Tool(tool) => f.write_str(tool.program())?,
            Program::Path(path) => f.write_str(&self.word(path.as_os_str()))?,
        }
        for arg in &self.args {
            write!(f, " {}", self.word(arg))?;
        }
        Ok(())
    }
}

/// The same as `Display`: the derived form would show secrets and stdin.
impl fmt::Debug for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cmd({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_line_a_shell_takes() {
        let cmd = Cmd::new(Tool::Cp)
            .args(["--sparse=always", "a b"])
            .arg("it's")
            .env("LC_ALL", "C")
            .env_remove("TMPDIR")
            .cwd("/tmp/x y");
        assert_eq!(
            cmd.to_string(),
            r"cd '/tmp/x y' && env -u TMPDIR LC_ALL=C cp --sparse=always 'a b' 'it'\''s'"
        );
        assert_eq!(
            Cmd::path("/x").env_clear().env("A", "").to_string(),
            "env -i A='' /x"
        );
    }

    #[test]
    fn never_shows_a_secret_or_stdin() {
        let cmd = Cmd::path("/bin/hunter2-tool")
            .args(["--password=hunter2", "hunter2"])
            .env("PW", "hunter2")
            .stdin("hunter2")
            .secret("hunter2");
        for text in [cmd.to_string(), format!("{cmd:?}"), cmd.masked("x hunter2")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(cmd.to_string().ends_with(" ***"));
    }
}
