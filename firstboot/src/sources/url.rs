//! `sf.metadata_url=` on the kernel command line, or as a systemd credential.
//!
//! Whoever can answer for that URL decides what this node is, so the answer
//! must be vouched for: `sf.metadata_sha256=` is the digest of the document,
//! `sf.metadata_ca=` says which authority the server's certificate must come
//! from. `http://` needs the digest. `https://` needs the authority, and takes
//! the digest as well; the public authorities are meant by `system` only, as
//! any of a hundred of them could vouch for a stranger.

use std::io;

use sf_contract::document::did_you_mean;
use sf_contract::metadata::Layer;
use sf_contract::secret::Secret;
use sha2::{Digest as _, Sha256};

use super::fetch::{self, Problem, Said, Server};
use super::http::{Carrier, Fingerprint, Request, Trouble, Trust, Url};
use super::read::{self, Files};
use super::{Found, Looked, Places, Remote, Tell, kernel};
use crate::codes;
use crate::failure::Failure;

const CMDLINE: &str = "/proc/cmdline";
const URL: &str = "sf.metadata_url";
const SHA256: &str = "sf.metadata_sha256";
const CA: &str = "sf.metadata_ca";
/// Whether the cloud's metadata service is asked.
pub(super) const CLOUD: &str = "sf.metadata_cloud";
/// Everything of ours on the kernel command line. The same as credentials say
/// where metadata is, rather than being metadata: a cloud gives nobody a kernel
/// command line, and a unified kernel image has its own.
pub(super) const PARAMETERS: [&str; 4] = [URL, SHA256, CA, CLOUD];
/// What `sf.metadata_ca=system` means.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A document to fetch, and who vouches for it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) url: Url,
    pub(super) digest: Option<[u8; 32]>,
    pub(super) trust: Trust,
    pub(super) source: String,
}

pub(super) fn named(places: &Places, tell: Tell<'_>) -> Vec<Looked> {
    if places.remote == Remote::Skip {
        let skipped = Found::NotHere(super::SKIPPED.into());
        return vec![Looked::new(Layer::Url, URL, skipped)];
    }
    vec![match plan(places) {
        Ok(None) => Looked::new(
            Layer::Url,
            URL,
            Found::NotHere("it is neither on the kernel command line nor a credential".into()),
        ),
        Ok(Some(plan)) => fetch::look(Layer::Url, &Server::Named(plan), places, tell),
        Err(failure) => Looked::new(Layer::Url, URL, Found::Broken(failure)),
    }]
}

/// A setting and where it stands.
struct Setting {
    value: Secret,
    from: String,
}

/// Where it says that the cloud is not to be asked, if it does.
pub(super) fn cloud_is_off(places: &Places) -> Result<Option<String>, Box<Failure>> {
    let Some(Setting { value, from }) = setting(places, CLOUD)? else {
        return Ok(None);
    };
    match value.expose() {
        "no" => Ok(Some(from)),
        "yes" => Ok(None),
        _ => Err(refusal(
            &codes::FETCH_URL,
            format!("{CLOUD} is neither yes nor no"),
            &from,
            &format!("Write {CLOUD}=no, or leave it out."),
        )),
    }
}

/// One of our parameters; also refuses what looks like one and is none.
fn parameter(places: &Places, wanted: &str) -> Result<Option<String>, Box<Failure>> {
    let line = match crate::read::bytes(&places.at(CMDLINE), read::LIMIT) {
        Ok(line) => read::Bytes::new(line),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read::unreadable(CMDLINE, &error)),
    };
    let mut found: Option<String> = None;
    for (name, value) in kernel::parameters(&line) {
        let ours = PARAMETERS.contains(&name.as_str());
        // `sf.metadata_sha` is rather cut short than misspelt.
        let cut = PARAMETERS
            .into_iter()
            .find(|full| name.starts_with("sf.metadata_") && full.starts_with(name.as_str()));
        let near = cut
            .or_else(|| did_you_mean(&name, PARAMETERS.into_iter()))
            .filter(|_| !ours && name.starts_with("sf."));
        if near.is_some() || (name.starts_with("sf.metadata_") && !ours) {
            let remedy = match near {
                Some(near) => format!("Did you mean {near}?"),
                None => format!("There are {}.", PARAMETERS.join(", ")),
            };
            return Err(wrong(
                format!("there is no kernel parameter {name}"),
                remedy,
            ));
        }
        if name != wanted {
            continue;
        }
        let Ok(value) = String::from_utf8(value.unwrap_or_default()) else {
            return Err(wrong(
                format!("the value of {wanted} is not UTF-8 text"),
                "Write it in ASCII; a URL has any other byte as % and two hex digits.".into(),
            ));
        };
        if found.as_ref().is_some_and(|found| *found != value) {
            return Err(wrong(
                format!("{wanted} stands there twice, with different values"),
                "Leave one of them.".into(),
            ));
        }
        found = Some(value);
    }
    Ok(found)
}

fn wrong(what: String, remedy: String) -> Box<Failure> {
    Box::new(
        Failure::new(&codes::FETCH_URL, what)
            .source("kernel command line")
            .remedy(remedy)
            .next_command("cat /proc/cmdline"),
    )
}

/// What the credential of that name says, and what the kernel command line says.
fn both(places: &Places, name: &str) -> Result<(Option<Setting>, Option<Setting>), Box<Failure>> {
    let line = parameter(places, name)?.map(|value| Setting {
        value: Secret::new(value),
        from: format!("kernel command line, {name}"),
    });
    let from = format!("credential {name}");
    let credential = match &places.credentials {
        Some(store) => store.text(name, &from)?,
        None => None,
    };
    let credential = credential.map(|read| Setting {
        value: Secret::new(read.text.expose().trim_start_matches('\u{feff}').trim()),
        from,
    });
    Ok((credential, line))
}

/// A setting that may stand in either place, and in both only if they agree.
fn setting(places: &Places, name: &str) -> Result<Option<Setting>, Box<Failure>> {
    match both(places, name)? {
        (Some(credential), Some(line)) if credential.value != line.value => Err(refusal(
            &codes::FETCH_URL,
            format!("the credential {name} and the kernel command line disagree"),
            &credential.from,
            "Leave one of them; which one is meant is not guessed.",
        )),
        (credential, line) => Ok(credential.or(line)),
    }
}

fn refusal(code: &'static codes::Code, what: String, source: &str, remedy: &str) -> Box<Failure> {
    Box::new(Failure::new(code, what).source(source).remedy(remedy))
}

fn plan(places: &Places) -> Result<Option<Plan>, Box<Failure>> {
    let (url, digest) = (setting(places, URL)?, setting(places, SHA256)?);
    let (ca_given, ca_line) = both(places, CA)?;
    let Some(url) = url else {
        let Some(stray) = digest.or(ca_given).or(ca_line) else {
            return Ok(None);
        };
        return Err(refusal(
            &codes::FETCH_URL,
            format!("{} is there, but {URL} is not", stray.from),
            &stray.from,
            &format!("Add {URL}=https://…, or remove it."),
        ));
    };
    let source = url.from;
    if url.value.expose().is_empty() {
        return Err(refusal(
            &codes::FETCH_URL,
            format!("{URL} is empty"),
            &source,
            "Write it like https://deploy.example.com/nodes/hv1.toml, or leave it out.",
        ));
    }
    let url = Url::parse(url.value.expose()).map_err(|why| {
        refusal(
            &codes::FETCH_URL,
            format!("{URL} cannot be used: {why}"),
            &source,
            "Write it like https://deploy.example.com/nodes/hv1.toml.",
        )
    })?;
    let digest = digest.map(|setting| digest_of(&setting)).transpose()?;
    let trust = if url.https {
        trust(places, &url, &source, ca_given.as_ref(), ca_line.as_ref())?
    } else if digest.is_some() {
        Trust::Plain
    } else {
        return Err(refusal(
            &codes::FETCH_UNTRUSTED,
            format!("{url} is plain http:// and there is no digest to know the answer by"),
            &source,
            &format!(
                "Add {SHA256}=DIGEST (from `sha256sum FILE`), or serve it by https:// and name its CA with {CA}=sha256:FINGERPRINT."
            ),
        ));
    };
    Ok(Some(Plan {
        url,
        digest,
        trust,
        source,
    }))
}

/// 64 hex digits, as sha256sum prints them.
fn digest_of(setting: &Setting) -> Result<[u8; 32], Box<Failure>> {
    match Fingerprint::parse(setting.value.expose()) {
        Some(Fingerprint(bytes)) => Ok(bytes),
        None => Err(refusal(
            &codes::FETCH_URL,
            format!("{SHA256} is not a SHA-256 digest: 64 hexadecimal digits"),
            &setting.from,
            "Copy it from the output of: sha256sum FILE",
        )),
    }
}

/// Whom to believe: PEM, `sha256:HEX` or `system`; of PEM in the credential
/// and a fingerprint on the command line, both.
fn trust(
    places: &Places,
    url: &Url,
    source: &str,
    credential: Option<&Setting>,
    line: Option<&Setting>,
) -> Result<Trust, Box<Failure>> {
    let from = match (credential, line) {
        (Some(ca), _) | (None, Some(ca)) => ca.from.clone(),
        (None, None) => {
            return Err(refusal(
                &codes::FETCH_UNTRUSTED,
                format!("{url} is https://, but nothing says which CA to know the server by"),
                source,
                &format!(
                    "Add {CA}=sha256:FINGERPRINT (from `openssl x509 -in ca.pem -noout -fingerprint -sha256`), or give the CA itself, in PEM, as the credential {CA}; {CA}=system means the public CAs of the image."
                ),
            ));
        }
    };
    let value = |setting: &Setting| setting.value.clone();
    let made = match (credential.map(value), line.map(value)) {
        (Some(pem), Some(pin)) if is_pem(&pem) && !is_pem(&pin) => {
            pin_of(&pin).and_then(|pin| Trust::authorities(pem.expose(), Some(pin)))
        }
        (Some(given), Some(line)) if given != line => {
            Err("the credential and the kernel command line disagree".into())
        }
        (Some(ca), _) | (None, Some(ca)) if is_pem(&ca) => Trust::authorities(ca.expose(), None),
        (Some(ca), _) | (None, Some(ca)) if ca.expose() == "system" => system(places),
        (Some(ca), _) | (None, Some(ca)) => pin_of(&ca).and_then(Trust::pinned),
        (None, None) => Err("it is empty".into()),
    };
    made.map_err(|why| {
        refusal(
            &codes::FETCH_URL,
            format!("{CA} cannot be used: {why}"),
            &from,
            "Write sha256: and the certificate's 64 hexadecimal digits, or give PEM as a credential, or write system.",
        )
    })
}

fn is_pem(text: &Secret) -> bool {
    text.expose().contains("-----BEGIN")
}

fn pin_of(text: &Secret) -> Result<Fingerprint, String> {
    text.expose()
        .strip_prefix("sha256:")
        .and_then(Fingerprint::parse)
        .ok_or_else(|| {
            "a fingerprint is sha256: and 64 hexadecimal digits, with or without colons".into()
        })
}

fn system(places: &Places) -> Result<Trust, String> {
    let read = read::text(&places.at(SYSTEM_CAS), SYSTEM_CAS, Files::Regular)
        .map_err(|failure| failure.to_string())?
        .ok_or_else(|| format!("this image has no public CAs ({SYSTEM_CAS} is not there)"))?;
    Trust::public(read.text.expose())
}

impl Plan {
    /// Is this the document that the operator means?
    pub(super) fn has_digest(&self, bytes: &[u8]) -> bool {
        self.digest
            .is_some_and(|digest| Sha256::digest(bytes).as_slice() == digest)
    }

    /// How to see the digest of what is there; not with a query, which may hold
    /// a token, nor with what a shell would take apart.
    fn digest_by_hand(&self) -> Option<String> {
        let url = self.url.whole();
        let ca = if self.url.https {
            " (with --cacert CA.pem where it is of no public CA)"
        } else {
            ""
        };
        (!url.contains(['?', '\''])).then(|| format!("curl -sS '{url}' | sha256sum{ca}"))
    }

    pub(super) async fn ask(&self, carrier: &mut impl Carrier) -> Result<Said, Problem> {
        let request = Request::get(self.url.clone());
        let problem = |trouble: &Trouble| Problem::of(trouble, &self.url, &self.source);
        let answer = carrier(&request)
            .await
            .map_err(|trouble| problem(&trouble))?;
        if answer.status != 200 {
            return Err(problem(&Trouble::Status(answer.status)));
        }
        if self.digest.is_some() && !self.has_digest(&answer.body) {
            // Its own digest is not told: the document holds secrets, and guesses
            // at them could be tried out against it.
            let failure = Failure::new(
                &codes::FETCH_DIGEST,
                format!("{} gives a document with another digest", self.url),
            )
            .value(format!(
                "expected {}",
                self.digest.map(hex::encode).unwrap_or_default()
            ))
            .source(&self.source);
            return Err(Problem::said(match self.digest_by_hand() {
                Some(command) => failure.remedy(format!(
                    "{} From another machine: {command}",
                    codes::FETCH_DIGEST.remedy
                )),
                None => failure,
            }));
        }
        Ok(Said::Document(answer.body, None))
    }
}
