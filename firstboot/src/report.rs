//! Says what the agent does, everywhere that somebody may look: systemd's
//! `STATUS=`, the log, the status file, the consoles, the result port.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::call_home::Address;
use crate::card::{self, Card, console, journal, port};
use crate::image::Image;
use crate::paths::Paths;
use crate::status::{State, Status, Timed};

/// A wait shorter than this is nobody's business at the console.
const CONSOLE_AFTER: Duration = Duration::from_secs(10);

/// How often the console and the log repeat what is waited for.
const CONSOLE_EVERY: Duration = Duration::from_secs(30);
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Phases of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Reads the image's facts and the metadata's sources.
    Discover,
    /// Puts the sources together, by precedence.
    Merge,
    /// Makes typed values of them.
    Validate,
    /// Checks everything, changes nothing.
    Preflight,
    /// Bootstraps the cluster, or waits for it.
    Bootstrap,
    /// Compares versions.
    Gate,
    /// Writes files.
    Configure,
    /// Starts the daemons.
    Start,
    /// Asks the daemons.
    Ready,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 9] = [
        Self::Discover,
        Self::Merge,
        Self::Validate,
        Self::Preflight,
        Self::Bootstrap,
        Self::Gate,
        Self::Configure,
        Self::Start,
        Self::Ready,
    ];

    /// Its name in logs, in the status and on the result port.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Merge => "merge",
            Self::Validate => "validate",
            Self::Preflight => "preflight",
            Self::Bootstrap => "bootstrap",
            Self::Gate => "gate",
            Self::Configure => "configure",
            Self::Start => "start",
            Self::Ready => "ready",
        }
    }
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A node: all places.
    Node,
    /// A person at a desk: the log alone; nothing is written.
    Desk,
}

/// Is this process run by a person, rather than as a service of systemd?
pub fn by_hand() -> bool {
    std::env::var_os("INVOCATION_ID").is_none()
}

/// Each finding as a line of the log, with all that an operator is told.
pub fn log_findings(card: &Card) {
    for finding in &card.findings {
        tracing::error!(
            code = finding.code.id,
            exception_class = finding.code.id,
            value = finding.value,
            source = finding.source,
            causes = (!finding.causes.is_empty()).then(|| finding.causes.join("; ")),
            remedy = finding.remedy_text(),
            next_command = finding.next_command,
            "{}",
            finding.what
        );
    }
}

/// The one that tells.
#[derive(Debug)]
pub struct Reporter {
    paths: Paths,
    audience: Audience,
    /// Run by a person, who is shown the findings otherwise than by the log.
    by_hand: bool,
    /// Not the first attempt of this boot.
    again: bool,
    /// What the attempt before has told the console to be resumed.
    resumed_before: Option<String>,
    began: Instant,
    /// The phase under way, and since when.
    under_way: Option<(Phase, Instant)>,
    status: Status,
    /// Where results are posted to.
    home: Option<Address>,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    logged: Instant,
    text: String,
    console: Option<Instant>,
}

impl Reporter {
    /// Begins a run.
    pub fn new(paths: &Paths, audience: Audience) -> Self {
        let before = match audience {
            Audience::Node => Status::read(paths).unwrap_or_default(),
            Audience::Desk => Status::default(),
        };
        let boot_id = crate::identity::boot_id(paths);
        let again = before.boot_id == boot_id && !before.started_at.is_empty();
        Self {
            paths: paths.clone(),
            audience,
            again,
            resumed_before: before.resumed.clone().filter(|_| again),
            by_hand: by_hand(),
            began: Instant::now(),
            under_way: None,
            status: Status {
                schema: 1,
                started_at: crate::clock::now(),
                // Until this attempt has ended, the card of the last one is what there is.
                last: before.ended().filter(|_| again),
                card: before.card.filter(|_| again),
                attempts: if again { before.attempts } else { 0 }.saturating_add(1),
                boot_id,
                ..Status::default()
            },
            home: None,
            waiting: None,
        }
    }

    /// Continues from what an earlier run of this boot wrote.
    pub fn resume(paths: &Paths) -> Self {
        let mut reporter = Self::new(paths, Audience::Node);
        let ours = Status::read(paths).filter(|before| before.boot_id == reporter.status.boot_id);
        if let Some(before) = ours {
            let Status {
                started_at,
                boot_id,
                ..
            } = reporter.status;
            reporter.home = Address::kept(paths);
            reporter.status = Status {
                started_at,
                boot_id,
                state: State::Running,
                last: before.ended(),
                finished_at: None,
                exit_code: None,
                ..before
            };
        }
        reporter
    }

    /// Is it in this phase, or in a later one?
    pub fn has_reached(&self, phase: Phase) -> bool {
        self.under_way.is_some_and(|(now, _)| now >= phase)
    }

    /// The phase that it is in.
    pub fn phase_name(&self) -> &str {
        &self.status.phase
    }

    /// What the image is, once known.
    pub fn image(&mut self, image: &Image) {
        let manifest = &image.manifest;
        self.status.role = Some(manifest.role.name().into());
        self.status.image_id = Some(manifest.image_id.clone());
        self.status.image_version = Some(manifest.image_version.clone());
        self.status.shakenfist_version = Some(manifest.shakenfist_version.to_string());
        self.status.debug = manifest.debug;
        if manifest.debug {
            tracing::warn!("this is a debug image: root can log in");
            if !self.again {
                self.say(
                    "sf-firstboot: THIS IS A DEBUG IMAGE: root can log in. Not for production.",
                );
            }
        }
    }

    /// The node's name, once known.
    pub fn node(&mut self, name: &str) {
        self.status.node = Some(name.to_owned());
    }

    /// Where results are posted to, once known.
    pub fn call_home(&mut self, home: Option<Address>) {
        self.home = home;
        if self.audience == Audience::Desk {
            return;
        }
        let kept = match &self.home {
            Some(home) => home.keep(&self.paths),
            None => Address::forget(&self.paths),
        };
        if let Err(error) = kept {
            tracing::warn!(cause = %error, "report.url could not be kept for later");
        }
    }

    /// An earlier run began at this time and was not finished. The console is
    /// told once, not by each attempt.
    pub fn resumed(&mut self, began: &str) {
        tracing::warn!(began, "a first boot that was not finished is resumed");
        if self.resumed_before.as_deref() != Some(began) {
            self.say(&format!(
                "sf-firstboot: resuming a first boot that began {began} and was not finished"
            ));
        }
        self.status.resumed = Some(began.to_owned());
    }

    /// What was created in the cluster.
    pub fn created(&mut self, names: Vec<String>) {
        self.status.created = names;
    }

    /// A phase begins.
    pub fn phase(&mut self, phase: Phase) {
        self.phase_ends();
        self.under_way = Some((phase, Instant::now()));
        self.waiting = None;
        phase.name().clone_into(&mut self.status.phase);
        self.status.waiting_for = None;
        match self.audience {
            Audience::Node => tracing::info!(phase = phase.name(), "phase begins"),
            Audience::Desk => tracing::debug!(phase = phase.name(), "phase begins"),
        }
        self.notify(phase.name());
        if self.audience == Audience::Node {
            port::emit(
                &self.paths,
                &[json!({"event": "phase", "phase": phase.name()})],
            );
        }
        self.keep();
    }

    /// Something is under way or waited for. Called as often as one likes.
    pub fn progress(&mut self, text: &str) {
        let now = Instant::now();
        self.notify(&format!("{}: {text}", self.status.phase));
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            since: now,
            logged: now,
            text: String::new(),
            console: None,
        });
        let news = waiting.text != text;
        if news || now.duration_since(waiting.logged) >= LOG_EVERY {
            waiting.logged = now;
            text.clone_into(&mut waiting.text);
            tracing::info!(
                phase = self.status.phase,
                waited_seconds = now.duration_since(waiting.since).as_secs(),
                "{text}"
            );
        }
        let due = match waiting.console {
            None => now.duration_since(waiting.since) >= CONSOLE_AFTER,
            Some(last) => now.duration_since(last) >= CONSOLE_EVERY,
        };
        if due {
            waiting.console = Some(now);
            let waited = now.duration_since(waiting.since).as_secs();
            self.say(&format!(
                "sf-firstboot: {}: {text} ({waited} s)",
                self.status.phase
            ));
        }
        if news {
            self.status.waiting_for = Some(text.to_owned());
            self.keep();
        }
    }

    /// The daemons have been told to start.
    pub fn started(&mut self) {
        self.end(State::Started, 0);
        let created = if self.status.created.is_empty() {
            "nothing to bootstrap".to_owned()
        } else {
            format!("bootstrapped {}", self.status.created.join(", "))
        };
        let line = format!(
            "sf-firstboot: {}: daemons starting; {created}; {:.1} s",
            self.who(),
            self.seconds()
        );
        tracing::info!(seconds = self.seconds(), "daemons starting; {created}");
        self.notify("started");
        if self.audience == Audience::Node {
            // A card of an earlier attempt must not outlive its cause.
            if let Err(error) = console::clear_login(&self.paths) {
                tracing::warn!(cause = %error, "the card above the login prompt could not be removed");
            }
            self.say(&line);
            let _no_journal = journal::send(
                &self.paths,
                &[
                    ("MESSAGE", &line),
                    ("MESSAGE_ID", journal::STARTED_MESSAGE_ID),
                    ("PRIORITY", "5"),
                    ("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME")),
                ],
            );
            port::emit(
                &self.paths,
                &[self.outcome("started", 0, None), port::end()],
            );
        }
    }

    /// The daemons answer.
    pub fn ready(&mut self, daemons: &[String]) {
        self.status.daemons = daemons.to_vec();
        self.end(State::Ready, 0);
        tracing::info!(daemons = daemons.join(" "), "ready");
        self.notify("ready");
        if let Err(error) = console::clear_login(&self.paths) {
            tracing::warn!(cause = %error, "the card above the login prompt could not be removed");
        }
        self.say(&format!("sf-firstboot: {}: ready", self.who()));
        port::emit(
            &self.paths,
            &[json!({"event": "ready", "daemons": daemons}), port::end()],
        );
    }

    /// The run stops, with a card.
    pub fn failed(&mut self, card: &Card) {
        let text = card.render(&self.who());
        // An outage over night must not bury the console under one card.
        let before = self.status.card.as_deref();
        let told = self.again && before.is_some_and(|before| card::say_the_same(before, &text));
        let still = (told && card.kind().retried()).then(|| {
            format!(
                "sf-firstboot: {}: attempt {}, still {}; the card is above the login prompt ({})",
                self.who(),
                self.status.attempts,
                card.code(),
                crate::clock::now()
            )
        });
        self.status.code = Some(card.code().into());
        self.status.findings = card
            .findings
            .iter()
            .filter_map(|finding| serde_json::to_value(finding).ok())
            .collect();
        self.status.card = Some(text.clone());
        self.log(card);
        self.end(State::Failed, card.exit_code());
        self.notify(&format!(
            "{} {}",
            card.code(),
            card.leading().map_or("", |finding| finding.what.as_str())
        ));
        if self.audience == Audience::Desk {
            return;
        }
        self.say(still.as_ref().unwrap_or(&text));
        if let Err(error) = console::above_login(&self.paths, &text) {
            tracing::warn!(cause = %error, "the card could not be put above the login prompt");
        }
        let exit_code = card.exit_code().to_string();
        let _no_journal = journal::send(
            &self.paths,
            &[
                ("MESSAGE", &text),
                ("MESSAGE_ID", journal::CARD_MESSAGE_ID),
                ("PRIORITY", "3"),
                ("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME")),
                ("SF_CODE", card.code()),
                ("SF_KIND", card::kind_name(card.kind())),
                ("SF_PHASE", &self.status.phase),
                ("EXIT_CODE", &exit_code),
            ],
        );
        port::emit(
            &self.paths,
            &[
                json!({"event": "card", "code": card.code(), "exit_code": card.exit_code(), "text": text}),
                self.outcome("failed", card.exit_code(), Some(card.code())),
                port::end(),
            ],
        );
    }

    /// Another run is under way: the status and the consoles are that one's, and
    /// this one is in the log alone.
    pub fn turned_away(&self, card: &Card) {
        self.log(card);
    }

    /// For a service; a person is shown the findings otherwise.
    fn log(&self, card: &Card) {
        if !self.by_hand {
            log_findings(card);
        }
    }

    fn outcome(&self, outcome: &str, exit_code: u8, code: Option<&str>) -> serde_json::Value {
        json!({
            "event": "outcome",
            "outcome": outcome,
            "exit_code": exit_code,
            "code": code,
            "role": self.status.role,
            "image_version": self.status.image_version,
            "phase": self.status.phase,
            "created": self.status.created,
            "seconds": self.seconds(),
        })
    }

    /// The node as its messages name it.
    fn who(&self) -> String {
        let node = self.status.node.as_deref().unwrap_or("this node");
        match (&self.status.role, &self.status.image_version) {
            (Some(role), Some(version)) => {
                let debug = if self.status.debug { ", DEBUG" } else { "" };
                format!("{node} ({role}, image {version}{debug})")
            }
            _ => node.to_owned(),
        }
    }

    fn seconds(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() * 10.0).round() / 10.0
    }

    fn phase_ends(&mut self) {
        if let Some((phase, since)) = self.under_way.take() {
            self.status.phases.push(Timed {
                phase: phase.name().into(),
                seconds: (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            });
        }
    }

    fn end(&mut self, state: State, exit_code: u8) {
        self.phase_ends();
        self.status.state = state;
        self.status.waiting_for = None;
        self.status.finished_at = Some(crate::clock::now());
        self.status.seconds = Some(self.seconds());
        self.status.exit_code = Some(exit_code);
        self.status.last = None;
        if state != State::Failed {
            (self.status.code, self.status.card) = (None, None);
            self.status.findings.clear();
        }
        self.keep();
        if let (Some(home), Audience::Node) = (&self.home, self.audience)
            && let Err(error) = home.write(&self.paths, &self.status)
        {
            tracing::warn!(cause = %error, "the result could not be left for report.url");
        }
    }

    fn keep(&self) {
        if self.audience == Audience::Node
            && let Err(error) = self.status.write(&self.paths)
        {
            tracing::warn!(cause = %error, "the status file could not be written");
        }
    }

    fn say(&self, text: &str) {
        if self.audience == Audience::Node {
            console::say(&self.paths, text);
        }
    }

    fn notify(&self, text: &str) {
        if self.audience == Audience::Node {
            // Without systemd there is nobody to tell.
            // A line break would end the status and begin another assignment.
            let line = text.replace(['\n', '\r'], " ");
            let _not_a_service = sd_notify::notify(&[sd_notify::NotifyState::Status(&line)]);
        }
    }
}
