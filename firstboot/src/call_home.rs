//! `[report] url`: the agent's result, posted to where the operator collects
//! them. The run only leaves a letter in the runtime folder; `sf-report.path`
//! sees it and starts `sf-report.service`, which posts it, as often as it
//! takes. Nothing of the boot waits for that. A newer letter takes the place
//! of one that is still under way: the last word counts.
//!
//! A letter holds the status, which holds no secret, and the URL, which may
//! have a token in its query: it is for root alone.

use std::time::{Duration, Instant};

use fs_err as fs;
use hyper::body::Bytes;
use sf_contract::secret::Secret;
use zeroize::Zeroizing;

use crate::codes;
use crate::failure::Failure;
use crate::paths::Paths;
use crate::read;
use crate::sources::http::{self, Request, Trouble, Trust, Url};
use crate::status::Status;
use crate::write::{self, Access};

/// The letter that waits; `sf-report.path` watches for it.
const LETTER: &str = "report.json";
/// The letter that is being posted.
const UNDER_WAY: &str = "report.sending.json";
/// Where letters of this boot go to, for the run that asks the daemons.
const ADDRESS: &str = "report.address.json";
/// The public authorities of the image.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What helps where the server is not known by any authority.
const UNKNOWN: &str = "Add the CA of report.url's server to pki.ca, behind what is there (the \
                       database and other nodes are known by that), or give the server a \
                       certificate of a known CA; then: systemctl restart sf-firstboot.";
/// For one attempt; systemd makes the next one.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Where letters go.
#[derive(Clone, Debug)]
pub struct Address {
    /// `report.url`, as it was written.
    pub url: Secret,
    /// `pki.ca`: trusted beside the public authorities.
    pub ca: Option<Secret>,
}

impl Address {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "url": self.url.expose(),
            "ca": self.ca.as_ref().map(Secret::expose),
        })
    }

    fn from_json(value: &serde_json::Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().map(Secret::new);
        Some(Self {
            url: text("url")?,
            ca: text("ca"),
        })
    }

    /// Remembers it until the next boot.
    pub fn keep(&self, paths: &Paths) -> std::io::Result<()> {
        put(paths, ADDRESS, &self.to_json())
    }

    /// The one that was kept.
    pub fn kept(paths: &Paths) -> Option<Self> {
        let text = Zeroizing::new(read::text(&paths.runtime(ADDRESS)).ok()?);
        Self::from_json(&serde_json::from_str(&text).ok()?)
    }

    /// No letter of this boot goes anywhere any more.
    pub fn forget(paths: &Paths) -> std::io::Result<()> {
        write::remove(&paths.runtime(ADDRESS)).map(drop)
    }

    /// Leaves a letter.
    pub fn write(&self, paths: &Paths, status: &Status) -> std::io::Result<()> {
        let letter = serde_json::json!({"to": self.to_json(), "status": status});
        put(paths, LETTER, &letter)
    }
}

fn put(paths: &Paths, name: &str, value: &serde_json::Value) -> std::io::Result<()> {
    let text = Zeroizing::new(value.to_string());
    write::atomically(&paths.runtime(name), text.as_bytes(), Access::PRIVATE).map(drop)
}

/// Posts the letter that waits, or the one that an earlier attempt did not get
/// off. `Ok(None)` when there is none; else where it went, without the query.
pub async fn post(paths: &Paths) -> Result<Option<String>, Failure> {
    let (letter, under_way) = (paths.runtime(LETTER), paths.runtime(UNDER_WAY));
    // After this the path unit is free to see the next one.
    match fs::rename(&letter, &under_way) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(unusable("it cannot be taken").cause(&error));
        }
        _ => {}
    }
    let text = match read::text(&under_way) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable("it cannot be read").cause(&error)),
    };
    let sent = send(paths, &text).await;
    let again = sent.as_ref().is_err_and(|failure| failure.kind().retried());
    if !again {
        write::remove(&under_way)
            .map_err(|error| unusable("it cannot be removed").cause(&error))?;
    }
    sent.map(|url| Some(url.to_string()))
}

async fn send(paths: &Paths, letter: &str) -> Result<Url, Failure> {
    let value: serde_json::Value =
        serde_json::from_str(letter).map_err(|_| unusable("it is not what the agent writes"))?;
    let to = Address::from_json(&value["to"]).ok_or_else(|| unusable("it names no URL"))?;
    let url = Url::parse(to.url.expose()).map_err(|why| {
        Failure::new(&codes::REPORT_REJECTED, format!("report.url: {why}"))
            .source("metadata field report.url")
    })?;
    let trust = trust(paths, &url, to.ca.as_ref())?;
    let body = Bytes::from(value["status"].to_string());
    let request = Request::post_json(url.clone(), body);
    // One attempt: a letter that is written meanwhile must not wait behind this one.
    let answer = tokio::time::timeout(
        ATTEMPT,
        http::ask(&request, &trust, Instant::now(), &mut |_| {}),
    )
    .await
    .unwrap_or(Err(Trouble::Timeout {
        doing: "posting the result",
        after: ATTEMPT,
    }));
    let trouble = match answer {
        Ok(answer) if (200..300).contains(&answer.status) => return Ok(url),
        Ok(answer) => Trouble::Status(answer.status),
        Err(trouble) => trouble,
    };
    let code = if trouble.transient() {
        &codes::REPORT_UNSENT
    } else {
        &codes::REPORT_REJECTED
    };
    let mut failure = Failure::new(
        code,
        format!("the result could not be posted to {url}: {trouble}"),
    )
    .source("metadata field report.url");
    if let Some(cause) = std::error::Error::source(&trouble) {
        failure = failure.cause(cause);
    }
    Err(match trouble {
        Trouble::Stranger => failure.remedy(UNKNOWN),
        Trouble::OwnAuthority(_) => failure.remedy(
            "Give report.url's server a certificate that an authority has issued it (CA:FALSE), and \
             put that authority into pki.ca; then: systemctl restart sf-firstboot.",
        ),
        Trouble::Expired => failure.remedy(
            "Renew the certificate of report.url's server, and look at this node's clock (`date \
             --utc`); then: systemctl restart sf-firstboot.",
        ),
        Trouble::WrongName(host) => failure.remedy(format!(
            "Name the server in report.url as its certificate does, or issue it one for {host}; \
             then: systemctl restart sf-firstboot."
        )),
        _ => failure,
    })
}

/// The public authorities, and the cluster's own. Over `http://` anybody may
/// listen, which the operator has chosen: the status holds no secret.
fn trust(paths: &Paths, url: &Url, ca: Option<&Secret>) -> Result<Trust, Failure> {
    if !url.https {
        return Ok(Trust::Plain);
    }
    let mut pem = read::text(&paths.at(SYSTEM_CAS)).unwrap_or_default();
    if let Some(ca) = ca {
        pem.push('\n');
        pem.push_str(ca.expose());
    }
    Trust::public(&pem).map_err(|why| {
        Failure::new(
            &codes::REPORT_REJECTED,
            format!("there is no authority to know {url} by: {SYSTEM_CAS} and pki.ca: {why}"),
        )
        .source("metadata field report.url")
        .remedy(UNKNOWN)
    })
}

fn unusable(why: &str) -> Failure {
    Failure::new(
        &codes::REPORT_REJECTED,
        format!("the result was not posted: {why}"),
    )
    .source(format!("/run/sf-firstboot/{LETTER}"))
    .remedy(
        "It is about that file, and not about report.url: see the cause (`df -h /run`). The next \
         result is posted again: systemctl restart sf-firstboot.",
    )
}
