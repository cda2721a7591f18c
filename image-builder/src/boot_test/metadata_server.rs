//! The metadata server of a run: HTTP on loopback, one document for each
//! machine. As real ones do, it is not ready at once: the first request for a
//! document gets 503.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sf_contract::secret::Secret;
use sha2::{Digest as _, Sha256};

use super::infra::HOST_FROM_INSIDE;
use super::loopback::{self, Answer};

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
        let documents: Arc<Mutex<Documents>> = Arc::default();
        let served = Arc::clone(&documents);
        let port = loopback::serve(move |request| answer(&request.target, &served))?;
        Ok(Self { port, documents })
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

fn lock(documents: &Mutex<Documents>) -> MutexGuard<'_, Documents> {
    documents.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(path: &str, documents: &Mutex<Documents>) -> Answer {
    let mut documents = lock(documents);
    match documents.by_path.get(path).cloned() {
        None => ("404 Not Found", Secret::new("")),
        Some(_) if documents.asked.insert(path.to_owned()) => {
            ("503 Service Unavailable", Secret::new(""))
        }
        Some(document) => ("200 OK", document),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            loopback::ask(server.port, &request)
        };
        assert!(ask("/db1/metadata.toml").starts_with("HTTP/1.1 503"));
        assert!(ask("/db1/metadata.toml").ends_with("\r\n\r\nschema = 1\n"));
        assert!(ask("/db2/metadata.toml").starts_with("HTTP/1.1 404"));
    }
}
