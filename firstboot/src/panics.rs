//! A panic is a defect, and told like every other failure: one card, exit code
//! 70; 75 where the machine is too full for another thread. Without the hook it
//! would be a line in the journal and a signal, and the line could hold a secret.

use std::any::Any;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::card::Card;
use crate::codes;
use crate::failure::Failure;

/// The thread that panics may hold a lock that the card needs, and a console
/// may be slow; the process ends all the same.
const LIMIT: Duration = Duration::from_secs(10);

/// The thread that tells of a panic.
const TELLER: &str = "panic";

/// How the panics of Rust's own checks begin. They are made of numbers alone;
/// whatever else is put together at run time may quote a secret.
const HARMLESS: [&str; 6] = [
    "index out of bounds:",
    "range start index ",
    "range end index ",
    "slice index starts at ",
    "attempt to ",
    "copy_from_slice: ",
];

/// And of those that are no defect: the machine has no thread left, or no memory
/// for one. They quote the kernel alone.
const CROWDED: [&str; 4] = [
    "failed to spawn thread: ",
    "OS can't spawn worker thread: ",
    // A thread that could be started, and finds no room for what it needs itself.
    "failed to allocate an alternative stack: ",
    "failed to set up alternative stack guard page: ",
];

static PANICKED: AtomicBool = AtomicBool::new(false);

/// From now on a panic anywhere in this process is given to `tell` as a card,
/// and ends the process with the card's exit code.
pub fn install(tell: impl FnOnce(&Card) + Send + 'static) {
    let (cards, to_tell) = mpsc::channel::<Card>();
    let (done, told) = mpsc::channel();
    let told = Mutex::new(told);
    // In a thread of its own, which holds no lock; from now on, since who
    // panics for want of threads gets none for this.
    let _teller = thread::Builder::new().name(TELLER.into()).spawn(move || {
        if let Ok(card) = to_tell.recv() {
            tell(&card);
            let _gone = done.send(());
        }
    });
    panic::set_hook(Box::new(move |info| {
        let card = Card::new(vec![failure(info)]);
        if thread::current().name() == Some(TELLER) {
            shout(&card);
            end(&card);
        }
        if PANICKED.swap(true, Ordering::SeqCst) {
            // The first one ends the process, once it is told.
            thread::sleep(LIMIT);
            end(&card);
        }
        let told = cards.send(card.clone()).is_ok()
            && told
                .lock()
                .is_ok_and(|told| told.recv_timeout(LIMIT).is_ok());
        if !told {
            shout(&card);
        }
        end(&card);
    }));
}

/// Past all locks, where it could not be told, or not in time: better twice
/// than not at all.
fn shout(card: &Card) {
    let _closed = rustix::io::write(io::stderr(), card.errors().as_bytes());
}

#[expect(
    clippy::exit,
    reason = "nothing of this process is to be relied on any more"
)]
fn end(card: &Card) -> ! {
    std::process::exit(card.exit_code().into())
}

fn failure(info: &PanicHookInfo<'_>) -> Failure {
    let words = words(info.payload());
    let (code, what) = if begins(&words, &CROWDED) {
        (
            &codes::AGENT_CROWDED,
            "the agent could not start a thread, and stopped",
        )
    } else {
        (
            &codes::INTERNAL,
            "the agent came upon something that it takes for impossible, and stopped",
        )
    };
    let failure = Failure::new(code, what).because(words);
    match info.location() {
        Some(place) => failure.source(place.to_string()),
        None => failure,
    }
    .next_command("journalctl -b -u sf-firstboot")
}

/// What a panic says, as far as it cannot hold a secret.
fn words(payload: &(dyn Any + Send)) -> String {
    const UNTOLD: &str = "what it says is not shown, since it might quote a secret";
    if let Some(literal) = payload.downcast_ref::<&'static str>() {
        return (*literal).to_owned();
    }
    payload
        .downcast_ref::<String>()
        .filter(|text| begins(text, &HARMLESS) || begins(text, &CROWDED))
        .map_or_else(|| UNTOLD.to_owned(), Clone::clone)
}

fn begins(text: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use rustix::process::{Resource, Rlimit, setrlimit};

    use super::*;
    use crate::paths::Paths;
    use crate::report::{Audience, Phase, Reporter};
    use crate::status::{State, Status};

    /// Where the process of [`dies`] keeps its node, and how it is to die.
    const ROOT: &str = "SF_TEST_PANIC_ROOT";
    const HOW: &str = "SF_TEST_PANIC_HOW";

    /// Not a test: run by the others as a process of its own, since a panic
    /// ends it.
    #[test]
    #[ignore = "a process of the other tests"]
    fn dies() {
        let Some(root) = std::env::var_os(ROOT) else {
            return;
        };
        let paths = Paths::under(std::path::Path::new(&root));
        let how = std::env::var(HOW).unwrap();
        let mut reporter = Reporter::new(&paths, Audience::Node);
        reporter.phase(Phase::Preflight);
        let tell = {
            let (paths, how) = (paths.clone(), how.clone());
            move |card: &Card| {
                assert_ne!(how, "twice", "the teller itself");
                Reporter::resume(&paths).failed(card);
                if how == "locked" {
                    eprintln!("this waits for the thread that panicked");
                }
            }
        };
        install(tell);
        match how.as_str() {
            "secret" => panic!("byte index 3 of `marker-{how}-77`"),
            "thread" => drop(thread::spawn(|| panic!("elsewhere")).join()),
            "index" => {
                let empty: Vec<u8> = how.bytes().filter(|byte| *byte == 0).collect();
                std::hint::black_box(std::hint::black_box(&empty)[empty.len() + 5]);
            }
            "locked" => {
                let _held = (std::io::stdout().lock(), std::io::stderr().lock());
                panic!("with both streams locked");
            }
            "threads" => {
                // Less than a stack's room is left.
                let status = std::fs::read_to_string("/proc/self/status").unwrap();
                let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
                let size = size.unwrap().trim().strip_suffix(" kB").unwrap();
                let limit = Some((size.parse::<u64>().unwrap() + 1024) * 1024);
                let limit = Rlimit {
                    current: limit,
                    maximum: limit,
                };
                setrlimit(Resource::As, limit).unwrap();
                drop(thread::spawn(|| ()).join());
            }
            _ => panic!("{}", "twice"),
        }
    }

    /// Exit code, standard error and status of a process that panicked.
    fn died(how: &str) -> (Option<i32>, String, Option<Status>) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        #[expect(clippy::disallowed_methods, reason = "this test, once more")]
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "panics::tests::dies", "--ignored", "--nocapture"])
            .env(ROOT, dir.path())
            .env(HOW, how)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let shown = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8(shown).unwrap(),
            Status::read(&paths),
        )
    }

    #[test]
    fn a_panic_anywhere_is_a_card_and_ends_with_70() {
        for (how, said, place) in [
            (
                "index",
                "index out of bounds: the len is 0 but the index is 5",
                "src/panics.rs:",
            ),
            ("thread", "elsewhere", "src/panics.rs:"),
        ] {
            let (code, shown, status) = died(how);
            assert_eq!(code, Some(70), "{shown}");
            let status = status.expect("a status");
            assert_eq!((status.state, status.exit_code), (State::Failed, Some(70)));
            assert_eq!(status.code.as_deref(), Some("SF-INTERNAL"));
            assert_eq!((status.phase.as_str(), status.attempts), ("preflight", 1));
            let card = status.card.expect("a card");
            for part in [said, place, "exit 70 (internal)"] {
                assert!(card.contains(part), "{part} not in {card}");
            }
        }
    }

    #[test]
    fn a_machine_without_threads_is_no_defect_and_tried_again() {
        let (code, shown, status) = died("threads");
        assert_eq!(code, Some(75), "{shown}");
        let status = status.expect("a status");
        assert_eq!(status.code.as_deref(), Some("SF-AGENT-CROWDED"));
        let card = status.card.expect("a card");
        assert!(card.contains("could not start a thread"), "{card}");
        assert!(!card.contains("might quote a secret"), "{card}");
    }

    #[test]
    fn what_a_panic_quotes_is_not_shown() {
        let (code, shown, status) = died("secret");
        assert_eq!(code, Some(70), "{shown}");
        let card = status.unwrap().card.expect("a card");
        assert!(card.contains("might quote a secret"), "{card}");
        assert!(!shown.contains("marker-secret") && !card.contains("marker-secret"));
    }

    #[test]
    fn neither_held_locks_nor_a_second_panic_keep_the_process() {
        let (code, shown, status) = died("locked");
        assert_eq!(code, Some(70), "{shown}");
        assert_eq!(status.unwrap().state, State::Failed);
        assert!(shown.contains("error: SF-INTERNAL"), "{shown}");
        let (code, shown, _) = died("twice");
        assert_eq!(code, Some(70), "{shown}");
        assert!(shown.contains("error: SF-INTERNAL"), "{shown}");
    }
}
