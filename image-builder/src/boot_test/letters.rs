//! Where the nodes of a run call home: HTTP on loopback, which keeps what is
//! posted. As real ones may, it is not ready at once, and who does not know its
//! token is refused.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sf_contract::secret::Secret;

use super::infra::HOST_FROM_INSIDE;
use super::loopback::{self, Answer, Request};

/// The path of all letters.
const PATH: &str = "/letters";

/// One letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Header lines, one each.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

#[derive(Debug, Default)]
struct Inside {
    turned_away: bool,
    letters: Vec<Letter>,
}

/// A server that runs until the process ends.
#[derive(Clone, Debug)]
pub struct LetterBox {
    port: u16,
    inside: Arc<Mutex<Inside>>,
}

impl LetterBox {
    /// Starts it on a free port; `token` is what letters must know.
    pub fn start(token: &str) -> io::Result<Self> {
        let inside: Arc<Mutex<Inside>> = Arc::default();
        let served = Arc::clone(&inside);
        let wanted = Secret::new(target(token));
        let port = loopback::serve(move |request| take(&request, wanted.expose(), &served))?;
        Ok(Self { port, inside })
    }

    /// Its URL as machines reach it, token included.
    pub fn url(&self, token: &str) -> String {
        format!("http://{HOST_FROM_INSIDE}:{}{}", self.port, target(token))
    }

    /// All letters so far, oldest first.
    pub fn letters(&self) -> Vec<Letter> {
        lock(&self.inside).letters.clone()
    }
}

fn target(token: &str) -> String {
    format!("{PATH}?token={token}")
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(request: &Request, wanted: &str, inside: &Mutex<Inside>) -> Answer {
    let mut inside = lock(inside);
    let status = if request.method != "POST" {
        "405 Method Not Allowed"
    } else if request.target != wanted {
        "401 Unauthorized"
    } else if inside.turned_away {
        inside.letters.push(Letter {
            headers: request.headers.clone(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
        });
        "204 No Content"
    } else {
        inside.turned_away = true;
        "503 Service Unavailable"
    };
    (status, Secret::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_with_the_token_are_kept_from_the_second_try_on() {
        let letters = LetterBox::start("word").unwrap();
        let url = letters.url("word");
        assert!(
            url.starts_with("http://10.0.2.2:") && url.ends_with("/letters?token=word"),
            "{url}"
        );
        let post = |target: &str| {
            let request = format!(
                "POST {target} HTTP/1.1\r\nHost: x\r\ncontent-length: 16\r\n\r\n{{\"node\": \"db1\"}} "
            );
            loopback::ask(letters.port, &request)
        };
        assert!(post("/letters").starts_with("HTTP/1.1 401"));
        assert!(post("/letters?token=word").starts_with("HTTP/1.1 503"));
        assert!(letters.letters().is_empty());
        assert!(post("/letters?token=word").starts_with("HTTP/1.1 204"));
        let get = loopback::ask(letters.port, "GET /letters?token=word HTTP/1.1\r\n\r\n");
        assert!(get.starts_with("HTTP/1.1 405"));
        let [letter] = &letters.letters()[..] else {
            panic!("one letter")
        };
        assert_eq!(letter.body, "{\"node\": \"db1\"} ");
        assert!(letter.headers.contains(&"Host: x".to_owned()));
    }
}
