//! Fetches small documents over HTTP/1.1: one connection for each request, a
//! deadline on everything, a bound on the size, no redirects, no proxies.
//! hyper reads the protocol and rustls the encryption; what is here decides
//! what is an answer, what is worth another try, and what it is called.

mod address;
mod tls;
mod trouble;
mod turn;

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::Tell;
use crate::database::Backoff;

pub use address::Url;
pub use tls::{Fingerprint, Trust};
pub use trouble::Trouble;

/// The largest answer that is read.
pub const LIMIT: usize = 1024 * 1024;
/// For one address to accept the connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For one whole attempt: at least, when hardly any time is left, and at most.
const LEAST: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(20);

const LOOKING_UP: &str = "looking up the name";

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PUT` without a body, or `POST`, whose answer's body is not read.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers besides the usual ones; values can be secret.
    pub headers: Vec<(&'static str, sf_contract::secret::Secret)>,
    /// What is sent; empty but for `POST`.
    pub body: Bytes,
    /// Statuses that mean "not now" with this service, besides 408, 425, 429 and 5xx.
    pub not_now: &'static [u16],
    /// Is its answer not worth another try?
    pub once: bool,
}

impl Request {
    /// A plain `GET`.
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: Vec::new(),
            body: Bytes::new(),
            not_now: &[],
            once: false,
        }
    }

    /// A `POST` of a JSON document.
    pub fn post_json(url: Url, body: Bytes) -> Self {
        Self {
            method: Method::POST,
            body,
            ..Self::get(url)
        }
        .header("content-type", "application/json")
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = sf_contract::secret::Secret::new(value);
        self.headers.push((name, value));
        self
    }
}

/// An answer with a status that is final: success, or a refusal that the
/// caller may understand.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, at most 1 MiB. Never shown.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = self.body.len();
        write!(formatter, "{} with a body of {length} bytes", self.status)
    }
}

impl Answer {
    /// The body of a success; `None` for 404; other statuses are trouble.
    pub fn document(self) -> Result<Option<Zeroizing<Vec<u8>>>, Trouble> {
        match self.status {
            200 | 203 => Ok(Some(self.body)),
            204 | 404 => Ok(None),
            status => Err(Trouble::Status(status)),
        }
    }
}

/// Who carries a request to its server and brings the answer: on a node
/// [`ask`], over the network.
pub trait Carrier: AsyncFnMut(&Request) -> Result<Answer, Trouble> {}

impl<C: AsyncFnMut(&Request) -> Result<Answer, Trouble>> Carrier for C {}

/// Asks until there is an answer, a trouble that lasts, or the deadline; at
/// least once.
pub async fn ask(
    request: &Request,
    trust: &Trust,
    deadline: Instant,
    tell: Tell<'_>,
) -> Result<Answer, Trouble> {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5), deadline);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = left.clamp(LEAST, ATTEMPT);
        let trouble = match once(request, trust, limit).await {
            Err(trouble) if trouble.transient() && !request.once => trouble,
            outcome => return outcome,
        };
        tell(&format!("waiting for {}: {trouble}", request.url));
        if !backoff.pause().await {
            return Err(trouble);
        }
    }
}

async fn once(request: &Request, trust: &Trust, limit: Duration) -> Result<Answer, Trouble> {
    let doing = Cell::new(LOOKING_UP);
    match tokio::time::timeout(limit, exchange(request, trust, limit, &doing)).await {
        Ok(outcome) => outcome,
        Err(_) if doing.get() == LOOKING_UP => Err(dns(
            &request.url,
            std::io::Error::new(std::io::ErrorKind::TimedOut, "no name server answers"),
        )),
        Err(_) => Err(Trouble::Timeout {
            doing: doing.get(),
            after: limit,
        }),
    }
}

async fn exchange(
    request: &Request,
    trust: &Trust,
    limit: Duration,
    doing: &Cell<&'static str>,
) -> Result<Answer, Trouble> {
    let url = &request.url;
    let stream = connect(url, limit, doing).await?;
    if !url.https {
        return converse(request, stream, doing).await;
    }
    let Trust::Tls(config) = trust else {
        return Err(Trouble::Tls("no CA was named to know it by".into()));
    };
    doing.set("making the TLS connection");
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| Trouble::Tls("its name cannot stand in a certificate".into()))?;
    let stream = TlsConnector::from(config.clone())
        .connect(name, stream)
        .await
        .map_err(|error| Trouble::handshake(error, &url.host))?;
    converse(request, stream, doing).await
}

/// Tries every address of the name, all of them within `limit`.
async fn connect(
    url: &Url,
    limit: Duration,
    doing: &Cell<&'static str>,
) -> Result<TcpStream, Trouble> {
    let deadline = Instant::now() + limit;
    let addresses: Vec<SocketAddr> = match url.host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, url.port)],
        Err(_) => tokio::net::lookup_host((url.host.as_str(), url.port))
            .await
            .map_err(|source| dns(url, source))?
            .collect(),
    };
    doing.set("connecting");
    first_of(&addresses, deadline).await.map_err(|trouble| {
        trouble.unwrap_or_else(|| dns(url, std::io::Error::other("the name has no address")))
    })
}

/// Connects to the first address that takes it. Of what goes wrong that is told
/// which got furthest: that there is no way to one address (IPv6, mostly) says
/// nothing where another refused.
async fn first_of(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<TcpStream, Option<Trouble>> {
    let mut furthest: Option<Trouble> = None;
    for (remaining, address) in (1..=addresses.len()).rev().zip(addresses) {
        // No address may use up the time of the others; a tenth is left for
        // telling what was found.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left * 9 / 10 / u32::try_from(remaining).unwrap_or(u32::MAX);
        let limit = share.min(CONNECT);
        let trouble = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Trouble::connecting(error),
            Err(_) => Trouble::Timeout {
                doing: "connecting",
                after: limit,
            },
        };
        if furthest
            .as_ref()
            .is_none_or(|other| trouble.distance() > other.distance())
        {
            furthest = Some(trouble);
        }
    }
    Err(furthest)
}

fn dns(url: &Url, source: std::io::Error) -> Trouble {
    Trouble::Dns {
        host: url.host.clone(),
        source,
    }
}

/// One request and its answer on an open connection; `doing` is what is under
/// way.
pub async fn converse(
    request: &Request,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    doing: &Cell<&'static str>,
) -> Result<Answer, Trouble> {
    doing.set("waiting for the answer");
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(100)
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(turn::InTurn::new(stream)))
        .await
        .map_err(Trouble::exchange)?;
    let mut built = hyper::Request::builder()
        .method(request.method.clone())
        .uri(&request.url.target)
        .header(HOST, &request.url.authority)
        .header(
            USER_AGENT,
            concat!("sf-firstboot/", env!("CARGO_PKG_VERSION")),
        );
    for (name, value) in &request.headers {
        built = built.header(*name, value.expose());
    }
    let built = built
        .body(Full::new(request.body.clone()))
        .map_err(|error| Trouble::NotHttp(format!("the request cannot be written: {error}")))?;
    let answer = async {
        let response = sender
            .send_request(built)
            .await
            .map_err(Trouble::exchange)?;
        doing.set("reading the answer");
        read(request, response).await
    };
    // The connection's own error reaches the answer as well.
    let connection = async {
        let _told_by_the_answer = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = connection => Err(Trouble::CutOff("the connection ended".into())),
    }
}

async fn read(
    request: &Request,
    response: Response<hyper::body::Incoming>,
) -> Result<Answer, Trouble> {
    let (head, mut body) = response.into_parts();
    let status = head.status.as_u16();
    let header = |name| {
        let value = head.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    if head.status.is_redirection() {
        let target = header(LOCATION).unwrap_or_default();
        return Err(Trouble::Redirect {
            status,
            target: address::without_query(&target),
        });
    }
    if head.status.is_server_error()
        || matches!(status, 408 | 425 | 429)
        || request.not_now.contains(&status)
    {
        return Err(Trouble::Unavailable(status));
    }
    if !head.status.is_success() || request.method == Method::POST {
        // What a server says about its refusal is for browsers; what it says to
        // a post, for nobody.
        return Ok(Answer {
            status,
            body: Zeroizing::default(),
        });
    }
    if let Some(kind) = header(CONTENT_TYPE).filter(|kind| !could_be_metadata(kind)) {
        return Err(Trouble::WrongType(clean(&kind)));
    }
    if let Some(coding) = header(CONTENT_ENCODING).filter(|coding| coding != "identity") {
        return Err(Trouble::NotHttp(format!(
            "it is compressed ({}), which was not asked for",
            clean(&coding)
        )));
    }
    let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > LIMIT) {
        return Err(Trouble::TooLarge);
    }
    // Room enough from the start: growing would leave copies behind.
    let room = length.unwrap_or(64 * 1024);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Trouble::exchange)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + data.len() > LIMIT {
            return Err(Trouble::TooLarge);
        }
        bytes.extend_from_slice(data);
    }
    Ok(Answer {
        status,
        body: bytes,
    })
}

/// Servers call TOML by many names, so only what it cannot be is refused.
fn could_be_metadata(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let never = [
        "image/",
        "audio/",
        "video/",
        "font/",
        "text/html",
        "application/xhtml",
        "application/pdf",
    ];
    !never
        .iter()
        .any(|never| kind.trim_start().starts_with(never))
}

fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where nothing listens, where nobody accepts, where no way leads, and
    /// where somebody is.
    #[tokio::test]
    async fn of_several_addresses_that_is_told_which_got_furthest() {
        let local = "127.0.0.1:0".parse().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(local).unwrap();
        let silent = socket.listen(0).unwrap();
        let full = silent.local_addr().unwrap();
        // Its queue is full: what comes now is not answered.
        let _first = TcpStream::connect(full).await.unwrap();
        let listener = tokio::net::TcpListener::bind(local).await.unwrap();
        let here = listener.local_addr().unwrap();
        let gone = tokio::net::TcpListener::bind(local).await.unwrap();
        let refused = gone.local_addr().unwrap();
        drop(gone);
        // TCP to a group has no route on any machine.
        let nowhere: SocketAddr = "224.0.0.1:80".parse().unwrap();
        let short = || Instant::now() + Duration::from_millis(500);
        for (addresses, found) in [
            (vec![refused, nowhere], "connection refused"),
            (vec![nowhere, refused], "connection refused"),
            (vec![full, refused], "connection refused"),
            (vec![refused, full], "connection refused"),
            (
                vec![full, nowhere],
                "no answer within 1 s: it stopped while connecting",
            ),
            (
                vec![nowhere, full],
                "no answer within 1 s: it stopped while connecting",
            ),
            (vec![nowhere], "there is no route to it"),
        ] {
            let trouble = first_of(&addresses, short()).await.unwrap_err().unwrap();
            assert_eq!(trouble.to_string(), found, "{addresses:?}");
        }
        assert!(first_of(&[], short()).await.unwrap_err().is_none());
        // A dead address leaves the next one its time.
        let deadline = Instant::now() + Duration::from_secs(3);
        first_of(&[nowhere, full, here], deadline).await.unwrap();
        assert!(Instant::now() < deadline);
    }
}
