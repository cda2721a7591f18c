//! The consoles, and the file above the login prompt.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use crate::paths::Paths;
use crate::read;
use crate::write::{self, Access};

/// Where agetty looks for what to show above the prompt, beside /etc/issue.d.
const ISSUE: &str = "/run/issue.d/50-sf-firstboot.issue";

/// Writes to every console of the kernel. A console that is missing, hung or
/// busy is passed over: the card is in other places as well.
pub fn say(paths: &Paths, text: &str) {
    let consoles = read::text(&paths.at("/proc/consoles")).unwrap_or_default();
    let mut block = String::from("\r\n");
    for line in text.lines() {
        block.push_str(line);
        block.push_str("\r\n");
    }
    for name in names(&consoles) {
        // Non-blocking: a serial line whose other end holds it up must not hold up the node.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let device = paths.at("/dev").join(name);
        let opened = std::fs::OpenOptions::new()
            .append(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(&device);
        let Ok(mut console) = opened else { continue };
        patiently(&mut console, block.as_bytes());
    }
}

/// Writes all of it, waiting for a slow line up to a second in all.
fn patiently(console: &mut std::fs::File, mut bytes: &[u8]) {
    let mut naps = 0;
    while !bytes.is_empty() {
        match console.write(bytes) {
            Ok(0) => return,
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && naps < 50 => {
                naps += 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(_) => return,
        }
    }
}

/// Device names of consoles that can be written to, from /proc/consoles.
fn names(consoles: &str) -> impl Iterator<Item = &str> {
    consoles.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        // `-W-` or `RW-`; tty0 is whichever virtual terminal is in front.
        words.next()?.contains('W').then_some(name)
    })
}

/// Puts the card above the login prompt. agetty interprets backslashes.
pub fn above_login(paths: &Paths, text: &str) -> std::io::Result<()> {
    let escaped = text.replace('\\', "\\\\");
    write::atomically(
        &paths.at(ISSUE),
        format!("{escaped}\n").as_bytes(),
        Access::PUBLIC,
    )
    .map(drop)
}

/// Takes it away again.
pub fn clear_login(paths: &Paths) -> std::io::Result<()> {
    write::remove(&paths.at(ISSUE)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writable_console_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        for folder in ["proc", "dev"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::write(
            paths.at("/proc/consoles"),
            "tty0                 -WU (EC  p  )    4:7\nttyS0                -W- (E   p a)    4:64\nx0 R-- (E) 1:1\nabsent -W- (E) 1:2\n",
        )
        .unwrap();
        for device in ["tty0", "ttyS0", "x0"] {
            std::fs::write(paths.at("/dev").join(device), "").unwrap();
        }
        say(&paths, "one\ntwo\n");
        let read = |device| std::fs::read_to_string(paths.at("/dev").join(device)).unwrap();
        assert_eq!(read("tty0"), "\r\none\r\ntwo\r\n");
        assert_eq!(read("ttyS0"), read("tty0"));
        assert_eq!(read("x0"), "");
    }

    #[test]
    fn the_issue_file_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        above_login(&paths, "a\\b").unwrap();
        assert_eq!(
            std::fs::read_to_string(paths.at(ISSUE)).unwrap(),
            "a\\\\b\n"
        );
        clear_login(&paths).unwrap();
        clear_login(&paths).unwrap();
        assert!(!paths.at(ISSUE).exists());
    }
}
