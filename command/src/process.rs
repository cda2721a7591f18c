//! The one place that starts processes.
//!
//! Every child leads its own process group and carries a parent-death signal,
//! so neither a killed builder nor a dropped handle leaves anything running.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process_group,
    set_parent_process_death_signal, waitid,
};

use crate::cmd::{Cmd, Program, Sink};
use crate::failure::{Failure, ROOM};
use crate::telling::telling;

/// How long a dropped child may take to end after SIGTERM.
const DROP_GRACE: Duration = Duration::from_secs(2);

/// A running process, the leader of its own group. Dropping it ends the group:
/// SIGTERM, and SIGKILL two seconds later.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
    command: String,
    status: Option<ExitStatus>,
}

impl Cmd {
    /// Starts the command and does not wait for it. Its streams go where
    /// [`Cmd::stdout`] and [`Cmd::stderr`] say; a time limit is not applied.
    pub fn spawn(&self) -> Result<Child, Failure> {
        let stdio = |sink: &Sink| match sink {
            Sink::Null => Ok(Stdio::null()),
            Sink::Inherit => Ok(Stdio::inherit()),
            Sink::Pipe => Ok(Stdio::piped()),
            Sink::File(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(Stdio::from)
                .map_err(|source| self.log_failure(path, source)),
        };
        self.start(stdio(&self.stdout)?, stdio(&self.stderr)?)
    }

    pub(crate) fn log_failure(&self, path: &std::path::Path, source: io::Error) -> Failure {
        Failure::Log {
            command: self.to_string(),
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn start(&self, stdout: Stdio, stderr: Stdio) -> Result<Child, Failure> {
        let program = match &self.program {
            Program::Path(path) => path.clone(),
            Program::Tool(tool) => tool.resolve().map_err(|missing| Failure::NotFound {
                program: missing.tool.program().to_owned(),
                package: Some(missing.package),
            })?,
        };
        #[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
        let mut command = Command::new(&program);
        command.args(&self.args).process_group(0);
        if self.env_clear {
            command.env_clear();
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let stdin = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        die_with_parent(&mut command);

        let mut inner = spawn_on_lasting_thread(command).map_err(|source| {
            // A missing working folder gives the same error as a missing program.
            let folder_ok = self.cwd.as_ref().is_none_or(|dir| dir.is_dir());
            if source.kind() == io::ErrorKind::NotFound && folder_ok && !program.exists() {
                Failure::NotFound {
                    program: program.display().to_string(),
                    package: None,
                }
            } else {
                Failure::CouldNotStart {
                    command: self.to_string(),
                    source,
                }
            }
        })?;
        if let (Some(bytes), Some(mut pipe)) = (self.stdin.clone(), inner.stdin.take()) {
            // A thread, because a child that does not read would block us. One
            // that ends without reading everything is no failure.
            thread::spawn(move || {
                let _ = pipe.write_all(&bytes);
            });
        }
        Ok(Child {
            inner,
            command: self.to_string(),
            status: None,
        })
    }

    /// What a failure keeps of what the command said. Masked before anything is
    /// left out: half of a secret is not recognised.
    pub(crate) fn said(&self, bytes: &[u8]) -> String {
        telling(&self.masked(&String::from_utf8_lossy(bytes)), ROOM)
    }

    /// The failure, if any, that an exit status amounts to.
    pub(crate) fn judge(&self, status: ExitStatus, stderr: &[u8]) -> Result<(), Failure> {
        let (command, stderr) = (self.to_string(), self.said(stderr));
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => Err(Failure::Exit {
                command,
                code,
                stderr,
            }),
            (None, signal) => Err(Failure::Signal {
                command,
                signal: signal.unwrap_or_default(),
                stderr,
            }),
        }
    }
}

/// Makes the kernel kill the child when this process is gone, even by SIGKILL.
#[expect(
    unsafe_code,
    reason = "a parent-death signal can only be set between fork and exec"
)]
fn die_with_parent(command: &mut Command) {
    let parent = Pid::from_raw(std::process::id().cast_signed());
    // SAFETY: the closure runs in the forked child, where only async-signal-safe
    // work is allowed: it makes two system calls and touches no lock and no heap.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the call above took effect.
            if getppid() == parent {
                Ok(())
            } else {
                Err(io::ErrorKind::Interrupted.into())
            }
        });
    }
}

type Request = (Command, mpsc::Sender<io::Result<std::process::Child>>);

/// Spawns from a thread that lives as long as the process: the parent-death
/// signal fires when the *thread* that forked ends, and callers may well start
/// a VM from a worker thread and hand it on.
fn spawn_on_lasting_thread(command: Command) -> io::Result<std::process::Child> {
    static SPAWNER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in requests {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let gone = || io::Error::other("the thread that starts processes is gone");
    let (answer, result) = mpsc::channel();
    SPAWNER.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

impl Child {
    /// The process id of the group's leader.
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// The command it was started with, masked.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The read end of its standard output, once, when that is a pipe.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.inner.stdout.take()
    }

    /// The read end of its standard error, once, when that is a pipe.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.inner.stderr.take()
    }

    /// Its exit status when it has ended; what it left in its group is killed.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.poll(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG)
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> Result<ExitStatus, Failure> {
        loop {
            if let Some(status) = self.poll(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)? {
                return Ok(status);
            }
        }
    }

    /// Waits at most `limit`; `None` when it still runs.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<ExitStatus>, Failure> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            let Some(left) = limit
                .checked_sub(start.elapsed())
                .filter(|left| !left.is_zero())
            else {
                return Ok(None);
            };
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Ends the group: SIGTERM, then SIGKILL when the leader still runs after
    /// `grace`.
    pub fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, Failure> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.signal_group(Signal::TERM);
        match self.wait_timeout(grace)? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// Ends the group at once.
    pub fn kill(&mut self) -> Result<ExitStatus, Failure> {
        if self.status.is_none() {
            self.signal_group(Signal::KILL);
        }
        self.wait()
    }

    fn poll(&mut self, options: WaitIdOptions) -> Result<Option<ExitStatus>, Failure> {
        if let Some(status) = self.status {
            return Ok(Some(status));
        }
        let pid = self.leader();
        // NOWAIT leaves the zombie, and with it the group's number, in place:
        // the group can be killed without the risk of hitting another's.
        let ended = loop {
            match waitid(WaitId::Pid(pid), options) {
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(self.lost("waiting for it", errno.into())),
                Ok(state) => break state.is_some(),
            }
        };
        if !ended {
            return Ok(None);
        }
        self.signal_group(Signal::KILL);
        let status = self
            .inner
            .wait()
            .map_err(|source| self.lost("reaping it", source))?;
        self.status = Some(status);
        Ok(self.status)
    }

    fn leader(&self) -> Pid {
        // A child's id is a positive i32 by the kernel's own rules.
        Pid::from_raw(self.inner.id().cast_signed()).unwrap_or(Pid::INIT)
    }

    fn signal_group(&self, signal: Signal) {
        // The only failure for a group of ours is that it is already gone.
        if self.status.is_none() && self.leader() != Pid::INIT {
            let _ = kill_process_group(self.leader(), signal);
        }
    }

    fn lost(&self, doing: &'static str, source: io::Error) -> Failure {
        Failure::Io {
            command: self.command.clone(),
            doing,
            source,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.terminate(DROP_GRACE);
    }
}
