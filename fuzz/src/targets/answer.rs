//! What servers answer, over a connection that is memory: through hyper, our
//! bounds and classes, and what each service's documents are read by. There is
//! no network and no clock: who would have to wait has waited in vain.

use std::fmt::Write as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use sf_firstboot::failure::Failure;
use sf_firstboot::sources::cloud::Cloud;
use sf_firstboot::sources::http::{self, Answer, LIMIT, Request, Trouble, Url};
use sf_firstboot::sources::{Found, cloud_by, url_by};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::MARK;

/// Stands between two answers.
const NEXT: u8 = 0x1e;
/// Stands for 64 KiB of `#`, so that a small input can be a large answer.
const MUCH: u8 = 0x1f;
const MUCH_IS: usize = 64 * 1024;
static FILLING: [u8; MUCH_IS] = [b'#'; MUCH_IS];
/// More than is read of one answer; a longer input would only take longer.
const MOST: usize = LIMIT + 3 * MUCH_IS;
/// Requests of one conversation are fewer; the rest is for trying again.
const MOST_ANSWERS: usize = 12;

/// Who is asked (a digit), how the answers come (a digit), then the answers.
pub fn answer(data: &[u8]) {
    let [who, how, answers @ ..] = data else {
        return;
    };
    let length = length(answers);
    if length > MOST {
        return;
    }
    let answers: Vec<&[u8]> = answers
        .split(|byte| *byte == NEXT)
        .take(MOST_ANSWERS)
        .collect();
    let who = Who::ALL[usize::from(who.wrapping_sub(b'0')) % Who::ALL.len()];
    let how = how.wrapping_sub(b'0');
    let piece = [usize::MAX, 1, 7, 1000][usize::from(how >> 1) % 4];
    let plain = Manner {
        open: how & 1 == 1,
        piece: usize::MAX,
        first: false,
        is_cut: piece != usize::MAX,
    };
    let manner = Manner {
        piece,
        first: how & 8 == 8,
        ..plain
    };
    let mut told = conversation(who, &answers, plain);
    if manner != plain {
        let other = conversation(who, &answers, manner);
        // hyper's bound on a head is on what it has read when it looks, so a
        // head of about that size is too large only if it comes slowly.
        assert!(
            other.outcome == told.outcome || (plain.is_cut && length >= MUCH_IS),
            "how bytes come decides: {} or {}",
            told.outcome,
            other.outcome
        );
        told.shown.push_str(&other.shown);
    }
    if !answers.iter().any(|answer| has_shown_mark(answer)) {
        assert!(!told.shown.contains(MARK), "a secret is shown");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Cloud(Cloud),
    Url,
    UrlWithDigest,
    Report,
}

impl Who {
    const ALL: [Self; 7] = [
        Self::Cloud(Cloud::Ec2),
        Self::Cloud(Cloud::OpenStack),
        Self::Cloud(Cloud::Gce),
        Self::Cloud(Cloud::Azure),
        Self::Url,
        Self::UrlWithDigest,
        Self::Report,
    ];
}

/// How a server writes its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Manner {
    /// It does not close the connection.
    open: bool,
    /// In pieces of this size.
    piece: usize,
    /// Without waiting for the request.
    first: bool,
    /// What comes in pieces is compared with what comes at once. hyper looks
    /// again at a head that was no HTTP yet only once it is whole, so what has
    /// no end is then as broken as what is no HTTP.
    is_cut: bool,
}

impl Manner {
    fn is_broken(self, trouble: &Trouble) -> bool {
        let broken = matches!(
            trouble,
            Trouble::CutOff(_) | Trouble::Timeout { .. } | Trouble::NotHttp(_)
        );
        self.is_cut && broken
    }
}

/// What came of a conversation.
#[derive(Default)]
struct Told {
    /// What an operator may be shown.
    shown: String,
    /// What the answers were taken for.
    outcome: String,
}

/// How many bytes come for these.
fn length(bytes: &[u8]) -> usize {
    let one = |byte: &u8| if *byte == MUCH { MUCH_IS } else { 1 };
    bytes.iter().map(one).sum()
}

fn conversation(who: Who, answers: &[&[u8]], manner: Manner) -> Told {
    let mut told = Told::default();
    let mut left = answers.iter();
    let mut carrier = async |request: &Request| {
        let mut last = Trouble::Refused(io::ErrorKind::ConnectionRefused.into());
        // What does not last is asked again, as the agent does.
        for answer in left.by_ref() {
            match exchange(request, answer, manner, &mut told) {
                Err(trouble) if trouble.transient() || manner.is_broken(&trouble) => last = trouble,
                outcome => return outcome,
            }
        }
        Err(last)
    };
    let url = |path: &str| {
        let url = format!("http://metadata.example.com{path}?token={MARK}");
        Url::parse(&url).expect("a URL")
    };
    let looked = match who {
        Who::Cloud(cloud) => {
            let service = Url::parse("http://169.254.169.254").expect("a URL");
            run(cloud_by(cloud, service, &mut carrier))
        }
        Who::Url => run(url_by(url("/n"), None, &mut carrier)),
        Who::UrlWithDigest => run(url_by(url("/n"), Some([0; 32]), &mut carrier)),
        Who::Report => {
            let request = Request::post_json(url("/r"), "{}".into())
                .header("authorization", format!("Bearer {MARK}"));
            let _ = run(carrier(&request)).expect("nothing waits");
            return told;
        }
    }
    .unwrap_or_else(|| unreachable!("nothing waits"));
    match &looked.found {
        // What it says is for the target `metadata`.
        Found::Here(_) => told.outcome.push_str("metadata"),
        Found::NotHere(why) => told.outcome.push_str(why),
        Found::Broken(failure) => {
            judge(failure);
            let _ = write!(told.shown, "{failure} {looked} {looked:?}");
            if !manner.is_cut {
                let _ = write!(told.outcome, "{failure}");
            }
        }
    }
    told.shown.push_str(&told.outcome);
    told
}

/// One request and the answer to it, held to what is promised of them.
fn exchange(
    request: &Request,
    answer: &[u8],
    manner: Manner,
    told: &mut Told,
) -> Result<Answer, Trouble> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let length = length(answer);
    let wire = Wire {
        bytes: answer.to_vec(),
        at: 0,
        of_much: 0,
        // Megabytes in single bytes would only take long.
        piece: manner.piece.max(length / 1024).max(1),
        waiting: !manner.first,
        open: manner.open,
        written: written.clone(),
        reader: None,
    };
    let doing = std::cell::Cell::new("connecting");
    let outcome = run(http::converse(request, wire, &doing)).unwrap_or_else(|| {
        assert!(manner.open, "it waits for more after the end");
        Err(Trouble::Timeout {
            doing: doing.get(),
            after: Duration::from_secs(3),
        })
    });
    let written = written.lock().unwrap_or_else(PoisonError::into_inner);
    check_request(request, &written);
    match &outcome {
        Ok(answered) => {
            let status = answered.status;
            assert!(is_final(request, status), "{status} is an answer");
            assert!(has_number(answer, status), "{status} is made up");
            assert!(answered.body.len() <= LIMIT.min(length));
            assert!(answered.body.capacity() <= 2 * LIMIT, "no bound");
            let empty = !(200..300).contains(&status) || request.method == "POST";
            assert!(!empty || answered.body.is_empty(), "a body is read in vain");
            let shown = format!("{answered:?}");
            assert!(shown.len() < 64, "the body is shown: {shown}");
            let _ = write!(told.outcome, "{status} {}; ", answered.body.len());
        }
        Err(trouble) => {
            match trouble {
                Trouble::Unavailable(status) | Trouble::Redirect { status, .. } => {
                    assert!(!is_final(request, *status), "{status} is no answer");
                    assert!(has_number(answer, *status), "{status} is made up");
                }
                Trouble::Timeout { .. }
                | Trouble::CutOff(_)
                | Trouble::TooLarge
                | Trouble::WrongType(_)
                | Trouble::NotHttp(_) => {}
                other => unreachable!("not what an answer can be: {other}"),
            }
            let failure = trouble.failure(&request.url, "fuzz");
            assert_eq!(failure.kind().retried(), trouble.transient());
            judge(&failure);
            let _ = write!(told.shown, "{trouble} {trouble:?} {failure:?} {request:?}");
            if manner.is_broken(trouble) {
                told.outcome.push_str("broken; ");
            } else {
                let _ = write!(told.outcome, "{trouble}; ");
            }
        }
    }
    outcome
}

/// A status that the caller is to understand.
fn is_final(request: &Request, status: u16) -> bool {
    !(300..400).contains(&status)
        && !(500..600).contains(&status)
        && ![408, 425, 429].contains(&status)
        && !request.not_now.contains(&status)
}

fn has_number(answer: &[u8], number: u16) -> bool {
    let number = format!("{number:03}");
    answer.windows(3).any(|digits| digits == number.as_bytes())
}

/// A failure fits a console: lines of ours, of a length that somebody reads.
fn judge(failure: &Failure) {
    assert!(failure.code.id.starts_with("SF-"), "{failure}");
    let texts = [
        Some(&failure.what),
        failure.value.as_ref(),
        failure.source.as_ref(),
        failure.remedy.as_ref(),
    ];
    for text in texts.into_iter().flatten().chain(&failure.causes) {
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.len() <= 2048, "{text:?}");
    }
}

/// Nothing that a server said earlier adds a line to a request.
fn check_request(request: &Request, written: &[u8]) {
    let Some((head, _)) = std::str::from_utf8(written)
        .ok()
        .and_then(|text| text.split_once("\r\n\r\n"))
    else {
        return;
    };
    let mut lines = head.split("\r\n");
    let first = format!("{} {} HTTP/1.1", request.method, request.url.target);
    assert_eq!(lines.next(), Some(first.as_str()));
    for line in lines {
        let name = line.split(':').next().unwrap_or_default();
        let ours = ["host", "user-agent", "content-length"].contains(&name)
            || request.headers.iter().any(|(ours, _)| *ours == name);
        assert!(ours && !line.contains('\n'), "{name} was not asked for");
    }
}

/// Does the mark stand in a header where it is shown?
fn has_shown_mark(answer: &[u8]) -> bool {
    answer.split(|byte| *byte == b'\n').any(|line| {
        let line: String = line
            .iter()
            .copied()
            .filter(u8::is_ascii_graphic)
            .map(char::from)
            .collect();
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "location" => without_secrets(value).contains(MARK),
            "content-type" | "content-encoding" => value.contains(MARK),
            _ => false,
        }
    })
}

/// A URL less its query and a password.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let shown = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{name}@{host}")
        }
        None => authority.to_owned(),
    };
    format!("{scheme}://{shown}/{path}")
}

/// The server's end of a connection.
struct Wire {
    bytes: Vec<u8>,
    at: usize,
    /// How much of a [`MUCH`] has been read.
    of_much: usize,
    piece: usize,
    /// It has not seen the whole request yet.
    waiting: bool,
    open: bool,
    written: Arc<Mutex<Vec<u8>>>,
    reader: Option<Waker>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let is_over = self.at == self.bytes.len();
        if self.waiting || (is_over && self.open) {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut room = self.piece.min(buffer.remaining());
        while room > 0 && self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            let take = if rest[0] == MUCH {
                let take = room.min(MUCH_IS - self.of_much);
                buffer.put_slice(&FILLING[..take]);
                self.of_much = (self.of_much + take) % MUCH_IS;
                self.at += usize::from(self.of_much == 0);
                take
            } else {
                let plain = rest.iter().position(|byte| *byte == MUCH);
                let take = room.min(plain.unwrap_or(rest.len()));
                buffer.put_slice(&rest[..take]);
                self.at += take;
                take
            };
            room -= take;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        let whole = written.windows(4).any(|end| end == b"\r\n\r\n");
        drop(written);
        if whole && self.waiting {
            self.waiting = false;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs to the end; `None` when it waits for what never comes.
fn run<F: Future>(future: F) -> Option<F::Output> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if !woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
    }
}
