//! As much of a `MySQL` 8 server as an agent meets: it lets everybody in, knows
//! none of `MariaDB`'s own variables, and tells its version.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// Packets are small, and their numbers stay under 256.
#[expect(
    clippy::cast_possible_truncation,
    reason = "all packets of this server are short"
)]
fn send(stream: &mut TcpStream, number: u8, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    stream.write_all(&[length as u8, (length >> 8) as u8, 0, number])?;
    stream.write_all(body)
}

/// The next packet's body.
fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; usize::from(head[0]) | usize::from(head[1]) << 8];
    stream.read_exact(&mut body)?;
    Ok(body)
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const END_OF_ROWS: &[u8] = &[0xfe, 0, 0, 2, 0];

fn serve(mut stream: TcpStream, version: &str) -> io::Result<()> {
    // Protocol 4.1, secure connection, a database at login, several statements
    // and results, plugins; no TLS.
    let greeting = [
        b"\x0a".as_slice(),
        version.as_bytes(),
        b"\0\x01\0\0\0saltsalt\0\x08\xa2\xff\x02\0\x0b\0\x15",
        &[0; 10],
        b"saltsaltsalt\0mysql_native_password\0",
    ]
    .concat();
    send(&mut stream, 0, &greeting)?;
    receive(&mut stream)?;
    send(&mut stream, 2, OK)?;
    loop {
        let command = receive(&mut stream)?;
        let text = String::from_utf8_lossy(&command);
        if command.first() == Some(&1) {
            return Ok(());
        } else if text.contains("VERSION()") {
            let cell = [&[version.len().to_le_bytes()[0]], version.as_bytes()].concat();
            let column = b"\x03def\0\0\0\x01v\0\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0";
            for (number, body) in [&[1][..], column, END_OF_ROWS, &cell, END_OF_ROWS]
                .into_iter()
                .enumerate()
            {
                send(&mut stream, number.to_le_bytes()[0] + 1, body)?;
            }
        } else if text.contains("wsrep") || text.contains("check_constraint_checks") {
            send(&mut stream, 1, b"\xff\xa9\x04#HY000Unknown system variable")?;
        } else {
            send(&mut stream, 1, OK)?;
        }
    }
}

/// Starts it; it ends with the process.
pub(crate) fn start(version: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, version));
        }
    });
    address
}
