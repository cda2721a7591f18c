//! Structured entries in the journal, by its native protocol: sent by hand,
//! since all that is needed of it is one datagram with a dozen fields.

use std::io;
use std::os::unix::net::UnixDatagram;

use crate::paths::Paths;

/// `MESSAGE_ID` of every failure card: `journalctl MESSAGE_ID=…` finds them all.
pub const CARD_MESSAGE_ID: &str = "6f1c0a6d1d5a4f0e9b1f4b0a5d2e7c31";

/// `MESSAGE_ID` of the line that says that a node was started.
pub const STARTED_MESSAGE_ID: &str = "b7a9d4c2f83e4a119c0d6e5f2a184b90";

/// Sends one entry. There is no journal at an operator's desk; whoever calls
/// this has other places to say it.
pub fn send(paths: &Paths, fields: &[(&str, &str)]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(&encode(fields), paths.at("/run/systemd/journal/socket"))?;
    Ok(())
}

/// One entry in the native protocol; a value with line breaks carries its length.
fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut entry = Vec::new();
    for (key, value) in fields {
        entry.extend_from_slice(key.as_bytes());
        if value.contains('\n') {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_the_journal_wants_them() {
        assert_eq!(
            encode(&[("MESSAGE", "a\nb"), ("PRIORITY", "3")]),
            b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=3\n"
        );
    }

    #[test]
    fn an_entry_reaches_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        assert!(send(&paths, &[("MESSAGE", "x")]).is_err());
        std::fs::create_dir_all(paths.at("/run/systemd/journal")).unwrap();
        let journal = UnixDatagram::bind(paths.at("/run/systemd/journal/socket")).unwrap();
        send(&paths, &[("MESSAGE", "x")]).unwrap();
        let mut buffer = [0; 64];
        let count = journal.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"MESSAGE=x\n");
    }
}
