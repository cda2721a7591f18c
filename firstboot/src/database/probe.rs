//! Looks at the first bytes that a server says, to tell a MariaDB server from
//! something else on its port. Only after the driver failed: a server counts
//! connections that end before the login, and blocks whoever makes many.

use std::time::Duration;

use sf_contract::metadata::dsn::HostPort;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// How long the probe may take.
const LIMIT: Duration = Duration::from_secs(2);

/// What a server says first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// A handshake or an error packet of the `MySQL` protocol.
    Server(Option<String>),
    /// Nothing, though it accepts connections.
    Silent,
    /// Something else, made printable.
    Other(String),
}

/// Connects and reads; `None` when there is no connection at all.
pub(super) async fn greeting(host: &HostPort) -> Option<Greeting> {
    let connect = TcpStream::connect((host.host.as_str(), host.port));
    let mut stream = tokio::time::timeout(LIMIT, connect).await.ok()?.ok()?;
    let mut bytes = [0; 128];
    let read = tokio::time::timeout(LIMIT, stream.read(&mut bytes)).await;
    match read {
        Ok(Ok(0) | Err(_)) => None,
        Ok(Ok(length)) => Some(parse(bytes.get(..length).unwrap_or_default())),
        Err(_) => Some(Greeting::Silent),
    }
}

/// A packet is its length (3 bytes, little endian), a sequence number (0 for
/// the greeting) and a body that starts with the protocol's version, 10, or
/// with 255 for an error.
pub(super) fn parse(bytes: &[u8]) -> Greeting {
    match bytes {
        [_, _, 0, 0, 10, rest @ ..] => {
            let version = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            Greeting::Server(Some(printable(version)))
        }
        [_, _, 0, 0, 255, ..] => Greeting::Server(None),
        other => Greeting::Other(printable(other)),
    }
}

fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take_while(|byte| !matches!(byte, b'\r' | b'\n'))
        .take(60)
        .map(|byte| {
            if matches!(byte, b' '..=b'~') && *byte != b'"' {
                char::from(*byte)
            } else {
                '.'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_and_others_are_told_apart() {
        assert_eq!(
            parse(b"\x5a\0\0\0\x0a8.0.36\0rest"),
            Greeting::Server(Some("8.0.36".into()))
        );
        assert_eq!(
            parse(b"\x17\0\0\0\xff\x10\x04Too many"),
            Greeting::Server(None)
        );
        assert_eq!(
            parse(b"SSH-2.0-OpenSSH_9.2\r\n"),
            Greeting::Other("SSH-2.0-OpenSSH_9.2".into())
        );
        assert_eq!(parse(b"\x01\x02"), Greeting::Other("..".into()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_safely(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Greeting::Other(text) = parse(&bytes) {
                prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            }
        }
    }
}
