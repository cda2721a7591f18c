//! Running a command to its end: captured, or streamed line by line.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::cmd::Cmd;
use crate::failure::{Failure, ROOM};
use crate::process::Child;
use crate::streams::{Captured, Keep, capture, lines};
use crate::telling::telling;

/// How long to read on after the process has ended: something that it started
/// in another session may hold the pipe open for ever.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a command that ran into its limit may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// What a command that succeeded wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output, as written.
    pub stdout: Vec<u8>,
    /// Standard error, as written; of a long one the first and last MiB.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Output {
    /// Standard output as text, without white space at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

impl Cmd {
    /// Runs to the end and captures both streams: standard output whole, up to
    /// [`Cmd::room`], of standard error the first and last MiB. Any exit code but
    /// 0 is a failure.
    pub fn run(&self) -> Result<Output, Failure> {
        let start = Instant::now();
        let mut child = self.start(Stdio::piped(), Stdio::piped())?;
        let whole = Keep::Whole(self.room);
        let stdout = child.take_stdout().map(|stream| capture(stream, whole));
        let stderr = child
            .take_stderr()
            .map(|stream| capture(stream, Keep::Ends));
        let status = self.wait_within_limit(&mut child)?;
        let deadline = Instant::now() + DRAIN;
        let collect =
            |stream: Option<Captured>| stream.map(|s| s.take(deadline)).unwrap_or_default();
        let (stdout, stderr) = (collect(stdout), collect(stderr));
        // Before its status, which is that of a program whose pipe was closed.
        if stdout.too_much {
            return Err(Failure::TooMuch {
                command: self.to_string(),
                room: self.room,
                stderr: self.said(&stderr.bytes),
            });
        }
        match status {
            Some(status) => self.judge(status, &stderr.bytes)?,
            None => return Err(self.timed_out(&stderr.bytes)),
        }
        Ok(Output {
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            elapsed: start.elapsed(),
        })
    }

    /// Runs to the end and hands each line of both streams, in the order they
    /// were written, to `on_line`, with secrets masked; a line longer than 64 KiB
    /// comes in pieces. Returns how long it ran.
    pub fn run_streaming(&self, mut on_line: impl FnMut(&str)) -> Result<Duration, Failure> {
        let on_line = |line: &str| {
            on_line(line);
            Ok(())
        };
        self.stream(on_line, || None)
    }

    /// As [`Cmd::run_streaming`], and appends the command and each line to the
    /// file at `log`, which is made when absent.
    pub fn run_logged(&self, log: &Path, on_line: impl FnMut(&str)) -> Result<Duration, Failure> {
        self.run_logged_until(log, on_line, || None)
    }

    /// As [`Cmd::run_logged`], and asks `stop` at least every 50 ms whether the
    /// command should go on: a reason ends it, as [`Failure::Stopped`].
    pub fn run_logged_until(
        &self,
        log: &Path,
        mut on_line: impl FnMut(&str),
        stop: impl FnMut() -> Option<String>,
    ) -> Result<Duration, Failure> {
        let failed = |source| self.log_failure(log, source);
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(failed)?;
        writeln!(file, "$ {self}").map_err(failed)?;
        let on_line = |line: &str| {
            writeln!(file, "{line}").map_err(failed)?;
            on_line(line);
            Ok(())
        };
        self.stream(on_line, stop)
    }

    fn stream(
        &self,
        mut on_line: impl FnMut(&str) -> Result<(), Failure>,
        mut stop: impl FnMut() -> Option<String>,
    ) -> Result<Duration, Failure> {
        let start = Instant::now();
        let pipe = || {
            let (read, write) = io::pipe()?;
            Ok((read, write.try_clone()?, write))
        };
        let (read, stdout, stderr) =
            pipe().map_err(|source: io::Error| Failure::CouldNotStart {
                command: self.to_string(),
                source,
            })?;
        let mut child = self.start(stdout.into(), stderr.into())?;
        let lines = lines(read, self.secrets.clone());
        let mut last = Vec::new();
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            let pause = Duration::from_millis(50);
            match lines.recv_timeout(pause) {
                Ok(line) => {
                    let line = self.masked(&line);
                    last.extend_from_slice(line.as_bytes());
                    last.push(b'\n');
                    if last.len() > 16 * 1024 {
                        // More than is kept in the end.
                        last = telling(&String::from_utf8_lossy(&last), 4 * ROOM).into_bytes();
                        last.push(b'\n');
                    }
                    on_line(&line)?;
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            match ended {
                Some((_, at)) if at.elapsed() > DRAIN => break,
                Some(_) => {}
                None => ended = child.try_wait()?.map(|status| (status, Instant::now())),
            }
            if ended.is_none() && self.timeout.is_some_and(|limit| start.elapsed() > limit) {
                child.terminate(GRACE)?;
                return Err(self.timed_out(&last));
            }
            if ended.is_none()
                && let Some(reason) = stop()
            {
                child.terminate(GRACE)?;
                return Err(Failure::Stopped {
                    command: self.to_string(),
                    reason,
                    stderr: self.said(&last),
                });
            }
        }
        // Both streams closed does not mean that it ended.
        let left = self
            .timeout
            .map(|limit| limit.saturating_sub(start.elapsed()));
        let status = match (ended, left) {
            (Some((status, _)), _) => status,
            (None, None) => child.wait()?,
            (None, Some(left)) => match child.wait_timeout(left)? {
                Some(status) => status,
                None => return Err(self.timed_out(&last)),
            },
        };
        self.judge(status, &last)?;
        Ok(start.elapsed())
    }

    fn wait_within_limit(&self, child: &mut Child) -> Result<Option<ExitStatus>, Failure> {
        let Some(limit) = self.timeout else {
            return child.wait().map(Some);
        };
        let status = child.wait_timeout(limit)?;
        if status.is_none() {
            child.terminate(GRACE)?;
        }
        Ok(status)
    }

    fn timed_out(&self, stderr: &[u8]) -> Failure {
        Failure::Timeout {
            command: self.to_string(),
            limit: self.timeout.unwrap_or_default(),
            stderr: self.said(stderr),
        }
    }
}
