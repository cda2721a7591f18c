//! The metadata server of a run: HTTP on loopback, one document for each
//! machine. As real ones do, it is not ready at once: the first request for a
//! document gets 503.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sf_contract::secret::Secret;
use sha2::{Digest as _, Sha256};

use super::infra::HOST_FROM_INSIDE;

/// How long a client may take over its request.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Documents {
    by_path: BTreeMap<String, Secret>,
    asked: BTreeSet<String>,
}

/// A server that runs until the process ends.
#[derive(Clone, Debug)]
pub struct MetadataServer {
    port: u16,
    documents: Arc<Mutex<Documents>>,
}

impl MetadataServer {
    /// Starts it on a free port.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let server = Self {
            port: listener.local_addr()?.port(),
            documents: Arc::default(),
        };
        let documents = Arc::clone(&server.documents);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that goes away in the middle is its own business.
                let _gone = answer(&client, &documents);
            }
        });
        Ok(server)
    }

    /// Offers a document; what a machine's kernel has to be told to get it.
    pub fn offer(&self, machine: &str, document: &str) -> String {
        let path = format!("/{machine}/metadata.toml");
        let digest = hex::encode(Sha256::digest(document));
        let arguments = format!(
            "sf.metadata_url=http://{HOST_FROM_INSIDE}:{}{path} sf.metadata_sha256={digest}",
            self.port
        );
        let mut documents = lock(&self.documents);
        documents.by_path.insert(path, Secret::new(document));
        arguments
    }
}

fn lock(documents: &Mutex<Documents>) -> std::sync::MutexGuard<'_, Documents> {
    documents.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut client: &TcpStream, documents: &Mutex<Documents>) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(client).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let mut documents = lock(documents);
    let (status, body) = match documents.by_path.get(path).cloned() {
        None => ("404 Not Found", Secret::new("")),
        Some(_) if documents.asked.insert(path.to_owned()) => {
            ("503 Service Unavailable", Secret::new(""))
        }
        Some(document) => ("200 OK", document),
    };
    drop(documents);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/toml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.expose().len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_first_request_is_told_to_come_back() {
        let server = MetadataServer::start().unwrap();
        let arguments = server.offer("db1", "schema = 1\n");
        let url = format!("http://10.0.2.2:{}/db1/metadata.toml", server.port);
        assert!(
            arguments.contains(&url) && arguments.contains(" sf.metadata_sha256="),
            "{arguments}"
        );
        let ask = |path: &str| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        assert!(ask("/db1/metadata.toml").starts_with("HTTP/1.1 503"));
        assert!(ask("/db1/metadata.toml").ends_with("\r\n\r\nschema = 1\n"));
        assert!(ask("/db2/metadata.toml").starts_with("HTTP/1.1 404"));
    }
}
