//! The least of an HTTP server, on loopback: one request a connection, until
//! the process ends. For what machines ask of their surroundings.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use sf_contract::secret::Secret;

/// How long a client may take over its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest body that is read.
const LARGEST: usize = 1 << 20;

/// What a client asks.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header lines, one each.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What it is told: status line and body.
pub type Answer = (&'static str, Secret);

/// Serves on a free port, which is the result.
pub fn serve(answer: impl Fn(Request) -> Answer + Send + 'static) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that goes away in the middle is its own business.
            let _gone = converse(&client, &answer);
        }
    });
    Ok(port)
}

fn converse(mut client: &TcpStream, answer: impl Fn(Request) -> Answer) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client);
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        headers.push(header);
    }
    let length = headers.iter().find_map(|header| {
        let (name, value) = header.split_once(':')?;
        (name.eq_ignore_ascii_case("content-length")).then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or_default().min(LARGEST)];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (status, body) = answer(Request {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers,
        body,
    });
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/toml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.expose().len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.expose().as_bytes())
}

/// Sends a request and gives the whole answer.
#[cfg(test)]
pub(super) fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
