//! The inspection channel: scripts into a running machine, output back.
//!
//! It works without any test code in an image: a unit that serves a second
//! virtio-serial port travels as systemd credentials.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The program that serves the channel inside.
const SERVER: &str = include_str!("inspect.sh");

/// Name of the unit inside.
pub const UNIT: &str = "sf-boot-test.service";

/// A script's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Exit code; 124 when it ran out of time.
    pub exit: i64,
    /// Both streams, as written.
    pub output: String,
}

/// Why a script has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine has not opened its end in time.
    #[error("the machine does not answer on its inspection channel")]
    Silent,
    /// No answer in time, though the channel was open.
    #[error("no answer to a script within {0} s")]
    Late(u64),
    /// The machine has gone.
    #[error("the inspection channel is closed")]
    Closed(#[source] std::io::Error),
}

/// The host's end.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    received: Vec<u8>,
    open: bool,
    next: u64,
}

/// Name and content of the credentials that put the server into a machine.
/// With `sample` it keeps a record of all processes.
pub fn credentials(sample: bool) -> [(String, String); 2] {
    let script = STANDARD.encode(SERVER);
    let argument = if sample { "sample" } else { "" };
    // As soon as files can be written, so that it sees the agent from its first
    // moment and serves while the agent still waits for something. The same
    // credentials reach the initrd, where there is nothing to serve.
    let unit = format!(
        "[Unit]\nDescription=Inspection channel of a boot test\n\
         DefaultDependencies=no\nConditionPathExists=!/etc/initrd-release\n\
         After=local-fs.target systemd-tmpfiles-setup.service\n\
         Conflicts=shutdown.target\nBefore=shutdown.target\n\
         [Service]\nType=exec\nStandardOutput=null\nStandardError=journal\n\
         ExecStart=/bin/bash -c 'exec /bin/bash <(base64 -d <<<{script}) {argument}'\n"
    );
    [
        (format!("systemd.extra-unit.{UNIT}"), unit),
        (
            "systemd.unit-dropin.sysinit.target~boot-test".to_owned(),
            format!("[Unit]\nWants={UNIT}\n"),
        ),
    ]
}

impl Channel {
    /// Connects to the socket that QEMU serves.
    pub fn connect(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            open: false,
            next: 1,
        })
    }

    /// Whether the machine's end has said that it serves.
    pub fn is_open(&mut self) -> bool {
        if !self.open {
            // A closed end is noticed when something is asked.
            let _ = self.receive();
            // The greeting is a line with the number 0.
            while let Some((id, _)) = self.take_line() {
                self.open |= id == 0;
            }
        }
        self.open
    }

    /// Runs a bash script inside; waits for the channel and the answer at most
    /// `limit` each.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Answer, Error> {
        let id = self.tell(script, limit)?;
        // The script's own limit is enforced inside; its answer may be long.
        let deadline = Instant::now() + limit + limit.min(Duration::from_secs(30));
        loop {
            let closed = self.receive();
            while let Some((answered, answer)) = self.take_line() {
                if answered == id {
                    return Ok(answer);
                }
            }
            closed?;
            if Instant::now() > deadline {
                return Err(Error::Late(limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a bash script inside and does not wait for its answer, which a
    /// machine that is told to go off may not give. The result is its number.
    pub fn tell(&mut self, script: &str, limit: Duration) -> Result<u64, Error> {
        let deadline = Instant::now() + limit;
        while !self.is_open() {
            if Instant::now() > deadline {
                return Err(Error::Silent);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let id = self.next;
        self.next += 1;
        let seconds = limit.as_secs().max(1);
        self.send(format!("{id} {seconds} {}\n", STANDARD.encode(script)).as_bytes())?;
        Ok(id)
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(Error::Closed(error)),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Error::Closed(ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Closed(error)),
            }
        }
    }

    fn take_line(&mut self) -> Option<(u64, Answer)> {
        loop {
            let end = self.received.iter().position(|byte| *byte == b'\n')?;
            let line: Vec<u8> = self.received.drain(..=end).collect();
            if let Some(answer) = answer(&line) {
                return Some(answer);
            }
        }
    }
}

fn answer(line: &[u8]) -> Option<(u64, Answer)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.trim_end_matches(['\n', '\r']).splitn(3, ' ');
    let id = words.next()?.parse().ok()?;
    let exit = words.next()?.parse().ok()?;
    let output = STANDARD.decode(words.next()?).ok()?;
    Some((
        id,
        Answer {
            exit,
            output: String::from_utf8_lossy(&output).into_owned(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn answers_are_matched_by_number_and_noise_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let guest = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"noise\n0 0 \n").unwrap();
            let mut buffer = [0; 256];
            let count = stream.read(&mut buffer).unwrap();
            let line = String::from_utf8_lossy(&buffer[..count]).into_owned();
            stream.write_all(b"7 0 eA==\n1 3 ").unwrap();
            stream
                .write_all(format!("{}\n", STANDARD.encode("hello")).as_bytes())
                .unwrap();
            line
        });
        let mut channel = Channel::connect(&path).unwrap();
        let answer = channel.run("true", Duration::from_secs(5)).unwrap();
        assert_eq!(
            answer,
            Answer {
                exit: 3,
                output: "hello".into()
            }
        );
        assert_eq!(guest.join().unwrap(), "1 5 dHJ1ZQ==\n");
        assert!(channel.run("true", Duration::ZERO).is_err());
    }

    #[test]
    fn the_unit_starts_early_and_carries_the_server() {
        let [(name, unit), (dropin, wants)] = credentials(true);
        assert_eq!(name, "systemd.extra-unit.sf-boot-test.service");
        assert!(dropin.starts_with("systemd.unit-dropin.sysinit.target"));
        assert!(wants.contains(UNIT));
        assert!(unit.contains("DefaultDependencies=no") && !unit.contains("multi-user"));
        // systemd expands % and $ in ExecStart=, base64 has neither.
        let exec = unit
            .lines()
            .find(|line| line.starts_with("ExecStart="))
            .unwrap();
        assert!(!exec.contains('%') && !exec.contains('$'));
    }
}
