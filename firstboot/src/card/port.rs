//! The boot test's result port: a virtio-serial port that gets one JSON object
//! a line, each run closed by `{"event":"END"}`. On a node without the port,
//! which is every real one, nothing happens.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use serde_json::{Value, json};

use crate::paths::Paths;

const DEVICE: &str = "/dev/virtio-ports/sf.result";

/// Writes events. The port blocks while nobody listens, so it is opened
/// non-blocking and what cannot be written at once is given up.
pub fn emit(paths: &Paths, events: &[Value]) {
    let flags = rustix::fs::OFlags::NONBLOCK;
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(paths.at(DEVICE));
    let Ok(mut port) = opened else { return };
    let mut lines = Vec::new();
    for event in events {
        lines.extend_from_slice(event.to_string().as_bytes());
        lines.push(b'\n');
    }
    let mut left: &[u8] = &lines;
    let mut naps = 0;
    while !left.is_empty() && naps < 100 {
        match port.write(left) {
            Ok(count) => left = left.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                naps += 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(_) => return,
        }
    }
}

/// The line that closes a run.
pub fn end() -> Value {
    json!({"event": "END"})
}
