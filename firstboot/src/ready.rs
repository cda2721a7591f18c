//! Asks the daemons whether they serve, over HTTP on the loopback address, as
//! the release descriptor says. The request is nine words long, so it is
//! written by hand.

use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use sf_contract::release::{Daemon, Probe};
use sf_contract::secret::{MASK, Secret, is_secret_key, mask_urls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::codes;
use crate::failure::Failure;
use crate::image::Image;
use crate::paths::Paths;
use crate::read;
use crate::units;

/// For one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Lines of a silent daemon's journal that go on the card.
const LINES: usize = 5;

/// Waits until every daemon that has a probe answers as it should. Returns
/// the names of all daemons; a daemon without a probe counts as it starts.
pub async fn wait(
    paths: &Paths,
    image: &Image,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<String>, Vec<Failure>> {
    let began = Instant::now();
    let mut failures = Vec::new();
    for daemon in image.daemons() {
        let Some(probe) = &daemon.readiness else {
            continue;
        };
        // From the start of all of them: what waited for another has waited already.
        let deadline = began + Duration::from_secs(probe.within_seconds);
        loop {
            let reason = match ask(probe).await {
                Ok(status) if status == probe.status => {
                    tracing::info!(
                        daemon = daemon.unit,
                        seconds = began.elapsed().as_secs(),
                        "answers"
                    );
                    break;
                }
                Ok(status) => format!("answers {status}, which should be {}", probe.status),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                failures.push(silent(paths, daemon, probe, &reason));
                break;
            }
            tell(&format!(
                "waiting for {} on port {}: {reason}",
                daemon.unit, probe.port
            ));
            tokio::time::sleep(PAUSE).await;
        }
    }
    if failures.is_empty() {
        Ok(image.manifest.daemons.clone())
    } else {
        Err(failures)
    }
}

fn silent(paths: &Paths, daemon: &Daemon, probe: &Probe, reason: &str) -> Failure {
    let unit = format!("{}.service", daemon.unit);
    let state = units::state(paths, &unit).unwrap_or_else(|| "unknown".into());
    let mut failure = Failure::new(
        &codes::DAEMON_NOT_READY,
        format!(
            "{} does not answer within {} s: {reason}",
            daemon.unit, probe.within_seconds
        ),
    )
    .value(format!(
        "GET http://127.0.0.1:{}{}; the unit is {state}",
        probe.port, probe.path
    ))
    .source("release descriptor")
    .remedy(format!(
        "See in its journal why (`journalctl -b -u {unit}`); the agent keeps asking."
    ))
    .next_command(format!("journalctl -b -u {unit}"));
    if state.starts_with("inactive") || state.starts_with("failed") {
        failure = failure
            .remedy(format!(
                "The unit is down, and systemd does not start it again by itself: `systemctl status \
                 {unit}` and its journal say why. Mend that, then: systemctl start {unit}; the agent \
                 keeps asking."
            ))
            .next_command(format!("systemctl status {unit}"));
    }
    // More than are shown: the gate's own lines are among them.
    let tail = units::journal_tail(paths, &unit, 4 * LINES);
    let secrets = secrets_of_daemons(paths);
    // A daemon could say so, too.
    failure
        .causes
        .extend(refused(&tail).map(|said| masked(&said, &secrets)));
    let tail: Vec<String> = tail
        .iter()
        .filter_map(|line| shown(line, &secrets))
        .collect();
    let tail = &tail[tail.len().saturating_sub(LINES)..];
    if !tail.is_empty() {
        failure.causes.push(format!(
            "the last lines of its journal:\n{}",
            tail.join("\n")
        ));
    }
    failure
}

/// A line of a daemon's log as the card shows it; `None` for what the gate
/// said in the daemon's name. A line that may carry a secret is left out: the
/// daemons are not ours, and one is known to print its whole configuration.
fn shown(line: &str, secrets: &[Secret]) -> Option<String> {
    let object = serde_json::from_str::<serde_json::Value>(line).ok();
    let field = |key| object.as_ref().and_then(|object| object.get(key)?.as_str());
    if field("program") == Some(env!("CARGO_PKG_NAME")) {
        return None;
    }
    let text = field("message").unwrap_or(line);
    let upper = line.to_ascii_uppercase();
    let suspicious = [
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "PWD",
        "TOKEN",
        "AUTH_HEADER",
        "AUTHORIZATION",
        "BEARER",
        "_SEED",
        "_KEY",
    ];
    if suspicious.iter().any(|word| upper.contains(word)) {
        return Some("(a line that may hold a secret is left out)".into());
    }
    // Before anything is cut: half of a secret is not recognised.
    Some(masked(text, secrets).chars().take(200).collect())
}

fn masked(text: &str, secrets: &[Secret]) -> String {
    // Them first: a password with a colon before an @ looks like a URL's, and what
    // was masked of it would hide the rest.
    let plain = secrets.iter().fold(text.to_owned(), |text, secret| {
        text.replace(secret.expose(), MASK)
    });
    mask_urls(&plain)
}

/// The secrets that daemons have, as they stand in their configuration and as
/// they are when a URL's encoding is undone: all that one of them could print.
fn secrets_of_daemons(paths: &Paths) -> Vec<Secret> {
    let text = read::text(&paths.config()).unwrap_or_default();
    let mut secrets: Vec<Secret> = text
        .lines()
        .filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let value = value.trim_matches('"');
            // A short one would be masked out of the middle of words.
            let secret = is_secret_key(key) && value.len() >= 4;
            secret.then(|| {
                [
                    value.to_owned(),
                    percent_decode_str(value).decode_utf8_lossy().into_owned(),
                ]
            })
        })
        .flatten()
        .map(Secret::new)
        .collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
    secrets
}

/// Why the gate did not let the daemon start, if that is the last that it said.
/// Not left to the last lines: systemd has more to say about every failed start.
fn refused(tail: &[String]) -> Option<String> {
    let last = tail.iter().rev().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let level = line["level"].as_str()?;
        (line["program"] == env!("CARGO_PKG_NAME") && ["ERROR", "INFO"].contains(&level))
            .then_some(line)
    })?;
    let field = |key: &str| last[key].as_str().unwrap_or_default();
    (field("level") == "ERROR").then(|| {
        let mut said = format!("the gate refuses it: {}", field("message"));
        for (before, key) in [(" (", "code"), ("): ", "remedy")] {
            said.push_str(before);
            said.push_str(field(key));
        }
        said
    })
}

/// One request; the status of the answer.
async fn ask(probe: &Probe) -> Result<u16, String> {
    match tokio::time::timeout(ATTEMPT, exchange(probe)).await {
        Ok(Ok(head)) => status_of(&head).ok_or_else(|| "what answers does not speak HTTP".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ATTEMPT.as_secs())),
    }
}

async fn exchange(probe: &Probe) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", probe.port)).await?;
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: sf-firstboot\r\nConnection: close\r\n\r\n",
        probe.path
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = vec![0; 64];
    let mut read = 0;
    while read < head.len() && !head[..read].contains(&b'\n') {
        let count = stream.read(&mut head[read..]).await?;
        if count == 0 {
            break;
        }
        read += count;
    }
    head.truncate(read);
    Ok(head)
}

/// `HTTP/1.1 401 UNAUTHORIZED` is 401.
fn status_of(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.split_whitespace();
    words
        .next()?
        .starts_with("HTTP/")
        .then(|| words.next()?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use sf_contract::role::Role;
    use tokio::net::TcpListener;

    #[test]
    fn status_lines_are_read() {
        for (head, status) in [
            (&b"HTTP/1.1 401 UNAUTHORIZED\r\nX"[..], Some(401)),
            (b"HTTP/1.0 200", Some(200)),
            (b"SSH-2.0-OpenSSH", None),
            (b"", None),
            (b"HTTP/1.1 abc\n", None),
        ] {
            assert_eq!(status_of(head), status);
        }
    }

    #[test]
    fn a_daemons_last_words_are_made_fit_for_a_card() {
        let secrets = [
            Secret::new("marker-dsn-3f9c"),
            Secret::new("Tr0ub:dor@9xlong"),
        ];
        for (line, wanted) in [
            ("Address in use", Some("Address in use")),
            (
                "mysql+pymysql://sf:p4ss/w0rd@db1/shakenfist refused",
                Some("mysql+pymysql://sf:******@db1/shakenfist refused"),
            ),
            ("refused: marker-dsn-3f9c", Some("refused: ******")),
            (
                "login with Tr0ub:dor@9xlong failed",
                Some("login with ****** failed"),
            ),
            (
                r#"{"program":"sf-api","message":"Address in use"}"#,
                Some("Address in use"),
            ),
            (r#"{"program":"sf-firstboot","message":"may start"}"#, None),
            (
                "config auth_secret_seed=hunter2",
                Some("(a line that may hold a secret is left out)"),
            ),
        ] {
            assert_eq!(shown(line, &secrets).as_deref(), wanted, "{line}");
        }
    }

    #[test]
    fn a_refusal_of_the_gate_is_told_until_it_lets_the_daemon_start() {
        let line = |level: &str, message: &str| {
            serde_json::json!({
                "program": "sf-firstboot", "level": level, "message": message,
                "code": "SF-GATE-VERSION", "remedy": "Boot another image.",
            })
            .to_string()
        };
        let mut tail = vec![
            line("WARNING", "the database cannot be asked"),
            line("ERROR", "0.9 may not run beside 0.7"),
            "sf-api.service: Failed with result 'exit-code'.".into(),
        ];
        assert_eq!(
            refused(&tail).unwrap(),
            "the gate refuses it: 0.9 may not run beside 0.7 (SF-GATE-VERSION): Boot another image."
        );
        tail.push(line("INFO", "may start: the record says so"));
        tail.push(r#"{"program":"sf-api","level":"ERROR","message":"no etcd"}"#.into());
        assert_eq!(refused(&tail), None);
        assert_eq!(refused(&[]), None);
    }

    /// Answers with each line in turn, and then with the last one for ever.
    async fn server(answers: Vec<&'static str>) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 512];
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(buffer[..count].starts_with(b"GET /livez HTTP/1.0\r\n"));
                let answer = if answers.len() > 1 {
                    answers.next()
                } else {
                    answers.peek().copied()
                };
                stream.write_all(answer.unwrap().as_bytes()).await.unwrap();
            }
        });
        port
    }

    fn image(port: u16, seconds: u64) -> Image {
        let mut image = testing::image(Role::Hypervisor);
        for daemon in &mut image.release.daemons {
            daemon.readiness = (daemon.unit == "sf-api").then(|| Probe {
                port,
                path: "/livez".into(),
                status: 200,
                within_seconds: seconds,
            });
        }
        image
    }

    #[tokio::test]
    async fn a_daemon_that_comes_late_is_waited_for() {
        let port = server(vec!["HTTP/1.1 503 X\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]).await;
        let dir = tempfile::tempdir().unwrap();
        let mut told = Vec::new();
        let result = wait(&Paths::under(dir.path()), &image(port, 20), &mut |text| {
            told.push(text.to_owned());
        })
        .await;
        assert_eq!(result.unwrap(), ["sf-database", "sf-api"]);
        assert_eq!(
            told,
            [format!(
                "waiting for sf-api on port {port}: answers 503, which should be 200"
            )]
        );
    }

    #[tokio::test]
    async fn a_silent_daemon_is_named_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        testing::executable(
            &paths.at("/usr/bin/systemctl"),
            "#!/bin/sh\nprintf 'ActiveState=activating\\nSubState=auto-restart\\nNRestarts=3\\n'\n",
        );
        testing::executable(
            &paths.at("/usr/bin/journalctl"),
            "#!/bin/sh\necho 'no etcd'\necho seed AUTH_SECRET_SEED=hunter2\n",
        );
        // A port that was free a moment ago.
        let port = TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let failures = wait(&paths, &image(port, 0), &mut |_| {})
            .await
            .unwrap_err();
        let shown = crate::card::Card::new(failures).render("x");
        for part in [
            "sf-api does not answer within 0 s",
            "activating",
            "restarted 3 times",
            "no etcd",
            "See in its journal why (`journalctl -b -u sf-api.service`)",
            "Next     journalctl -b -u sf-api.service",
        ] {
            assert!(shown.contains(part), "{part} not in\n{shown}");
        }
        assert!(!shown.contains("hunter2"));
        for state in ["inactive", "failed"] {
            testing::executable(
                &paths.at("/usr/bin/systemctl"),
                &format!("#!/bin/sh\nprintf 'ActiveState={state}\\nSubState={state}\\n'\n"),
            );
            let failures = wait(&paths, &image(port, 0), &mut |_| {}).await;
            let failure = &failures.unwrap_err()[0];
            let next = "systemctl status sf-api.service";
            assert_eq!(failure.next_command.as_deref(), Some(next));
            assert!(
                failure
                    .remedy_text()
                    .contains("systemctl start sf-api.service")
            );
        }
    }
}
