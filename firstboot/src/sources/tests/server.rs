//! A real HTTP server on loopback that does what a test tells it, also what no
//! server should do.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, crypto::ring,
};

/// A request as it came: its first line, and its headers in lower case.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) headers: Vec<String>,
}

impl Asked {
    pub(super) fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|line| line == header)
    }
}

/// What the server does with a request.
#[derive(Clone)]
pub(super) enum Act {
    /// Writes these bytes and closes.
    Bytes(Vec<u8>),
    /// Writes these bytes one by one, this far apart.
    Drip(Vec<u8>, Duration),
    /// Says nothing until the client goes away.
    Silence,
}

/// An answer with a status and a body.
pub(super) fn answer(status: u16, body: impl AsRef<[u8]>) -> Act {
    with(status, "", body)
}

/// The same with more header lines, each ending in CRLF.
pub(super) fn with(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    Act::Bytes(bytes)
}

type Behaviour = Box<dyn FnMut(&Asked) -> Act + Send>;

pub(super) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) fn start(behaviour: impl FnMut(&Asked) -> Act + Send + 'static) -> Self {
        Self::listen(None, Box::new(behaviour))
    }

    pub(super) fn tls(
        config: ServerConfig,
        behaviour: impl FnMut(&Asked) -> Act + Send + 'static,
    ) -> Self {
        Self::listen(Some(Arc::new(config)), Box::new(behaviour))
    }

    fn listen(tls: Option<Arc<ServerConfig>>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let behaviour = Arc::new(Mutex::new(behaviour));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let log = asked.clone();
        // Lives as long as the test process; it only ever waits.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, behaviour, log) = (tls.clone(), behaviour.clone(), log.clone());
                std::thread::spawn(move || match tls {
                    None => {
                        serve(stream, &behaviour, &log);
                    }
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        let mut stream = StreamOwned::new(connection, stream);
                        if !serve(&mut stream, &behaviour, &log) {
                            // To close while the client writes would reset the
                            // connection, and what it has not read yet with it.
                            let _ = std::io::copy(&mut stream.sock, &mut std::io::sink());
                        }
                    }
                });
            }
        });
        Self {
            address,
            scheme,
            asked,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.address.port())
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// An address at which nothing listens.
pub(super) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port())
}

/// An address that takes connections and never reads or writes.
pub(super) fn deaf() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    (listener, url)
}

/// Was there a request?
fn serve(
    mut stream: impl Read + Write,
    behaviour: &Mutex<Behaviour>,
    log: &Mutex<Vec<Asked>>,
) -> bool {
    let Some(asked) = request(&mut stream) else {
        return false;
    };
    log.lock().unwrap().push(asked.clone());
    let act = behaviour.lock().unwrap()(&asked);
    // A client that has gone away is what some tests want.
    let _ = match act {
        Act::Bytes(bytes) => stream.write_all(&bytes).and_then(|()| stream.flush()),
        Act::Drip(bytes, pause) => bytes.chunks(1).try_for_each(|byte| {
            std::thread::sleep(pause);
            stream.write_all(byte).and_then(|()| stream.flush())
        }),
        Act::Silence => stream.read(&mut [0; 1]).map(drop),
    };
    true
}

fn request(stream: &mut impl Read) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next()?.ok()?;
    let mut headers = Vec::new();
    for header in lines {
        let header = header.ok()?;
        if header.is_empty() {
            break;
        }
        headers.push(header.to_ascii_lowercase());
    }
    Some(Asked { line, headers })
}

/// An authority made for one test.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        }
    }

    /// `sha256:` and the fingerprint, as openssl prints it.
    pub(super) fn pin(&self) -> String {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(&self.der);
        let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        format!("sha256:{}", bytes.join(":"))
    }

    /// A certificate for `name` and its key, both in DER.
    pub(super) fn leaf(&self, name: &str, years: [i32; 2]) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years[0], 1, 1);
        params.not_after = rcgen::date_time_ymd(years[1], 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().to_vec(), key.serialize_der())
    }

    /// A server's certificate for `name`, good from and to these years; its
    /// chain ends with the authority when that is to be sent along.
    pub(super) fn server(&self, name: &str, years: [i32; 2], with_ca: bool) -> ServerConfig {
        let (certificate, key) = self.leaf(name, years);
        let mut chain = vec![certificate];
        if with_ca {
            chain.push(self.der.clone());
        }
        Self::config(chain, key)
    }

    /// A server that shows the authority's certificate as its own.
    pub(super) fn alone(&self) -> ServerConfig {
        Self::config(vec![self.der.clone()], self.issuer.key().serialize_der())
    }

    /// The same, for clients alone that show a certificate of this authority.
    pub(super) fn mutual(&self, name: &str) -> ServerConfig {
        let (certificate, key) = self.leaf(name, [2020, 2100]);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone().into()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate.into(), self.der.clone().into()], key)
            .unwrap()
    }

    fn config(chain: Vec<Vec<u8>>, key: Vec<u8>) -> ServerConfig {
        let chain = chain.into_iter().map(Into::into).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }
}
