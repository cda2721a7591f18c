//! A proxy that understands the framing of MariaDB's protocol, counts a
//! client's commands, and stops at the n-th: before the server has seen it, or
//! after the server has executed it and before the client has the answer. What
//! happens then is the caller's choice: [`Then`].
//!
//! A packet is its length (3 bytes, little endian), a sequence number, and its
//! body. Commands start a new sequence, so a packet from the client with number
//! 0 is a command; those of the login have other numbers.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Which side of the command the world ends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The server never sees the command.
    Before,
    /// The server has executed it; its answer is withheld.
    After,
}

/// Which command to stop at, counted from 1 over all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The n-th.
    Command(usize),
    /// The n-th COMMIT.
    Commit(usize),
    /// The first whose text has this in its beginning.
    Saying(&'static str),
}

/// What becomes of the connection at the point, once the action is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It breaks, for both sides.
    Cut,
    /// It goes on: the command, or the answer, is delivered.
    Pass,
    /// It stays open, and the client hears nothing more.
    Silence,
    /// The server is at the command while it breaks for the client.
    Leave,
}

/// The command that closes a statement.
const STMT_CLOSE: u8 = 0x19;

type Action = Box<dyn FnOnce() -> Then + Send>;

/// What flows back to the client: through, or held.
#[derive(Default)]
struct Valve {
    held: bool,
    /// Answers that came while it was held, or that the server hung up.
    bytes: Vec<u8>,
    ended: bool,
}

struct State {
    server: SocketAddr,
    /// Connections that are being carried.
    live: AtomicUsize,
    /// Commands seen, over all connections.
    seen: AtomicUsize,
    /// COMMITs among them.
    commits: AtomicUsize,
    /// The command to stop at.
    stop: Mutex<Option<(At, Side, Action)>>,
    /// First bytes of each command, for reports.
    log: Mutex<Vec<String>>,
    /// Error numbers that the server answered with, with the command.
    errors: Mutex<Vec<(u16, String)>>,
}

/// A running proxy. Its thread ends with the process.
pub(crate) struct Proxy {
    /// Loopback port to connect to.
    pub(crate) port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// In front of the server on a loopback port.
    pub(crate) fn start(server: u16) -> Self {
        Self::before((Ipv4Addr::LOCALHOST, server).into())
    }

    /// In front of the server at an address.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            server,
            live: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            stop: Mutex::new(None),
            log: Mutex::new(Vec::new()),
            errors: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                state.live.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let _ = serve(client, &state);
                    state.live.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, state }
    }

    /// Counts from zero again, and at command `number` drops the connection
    /// after calling `action`. Happens once; later commands pass.
    pub(crate) fn arm(&self, number: usize, side: Side, action: impl FnOnce() + Send + 'static) {
        self.arm_then(At::Command(number), side, || {
            action();
            Then::Cut
        });
    }

    /// Counts from zero again, and at that command does what `action` says once
    /// it returns. Happens once; later commands pass.
    pub(crate) fn arm_then(
        &self,
        at: At,
        side: Side,
        action: impl FnOnce() -> Then + Send + 'static,
    ) {
        self.state.seen.store(0, Ordering::SeqCst);
        self.state.commits.store(0, Ordering::SeqCst);
        self.state.log.lock().unwrap().clear();
        *self.state.stop.lock().unwrap() = Some((at, side, Box::new(action)));
    }

    /// Stops nothing any more. Was the armed point never reached?
    pub(crate) fn disarm(&self) -> bool {
        self.settle();
        self.state.stop.lock().unwrap().take().is_some()
    }

    /// Until the last words of a client that has ended are read: it does not
    /// wait for an answer to its good-bye.
    fn settle(&self) {
        for _ in 0..2_000 {
            if self.state.live.load(Ordering::SeqCst) == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Commands seen since it was armed.
    pub(crate) fn seen(&self) -> usize {
        self.state.seen.load(Ordering::SeqCst)
    }

    /// Error numbers that the server has answered with, each with the command
    /// that it was the answer to.
    pub(crate) fn errors(&self) -> Vec<(u16, String)> {
        self.settle();
        self.state.errors.lock().unwrap().clone()
    }

    /// The commands seen since it was armed, as text.
    pub(crate) fn log(&self) -> Vec<String> {
        self.settle();
        self.state.log.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, state: &Arc<State>) -> io::Result<()> {
    let mut server = TcpStream::connect(state.server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // Answers flow back on their own thread, through a valve.
    let valve = Arc::new(Mutex::new(Valve::default()));
    let answers = thread::spawn({
        let (from, to) = (server.try_clone()?, client.try_clone()?);
        let (valve, state) = (Arc::clone(&valve), Arc::clone(state));
        move || answer(from, to, &valve, &state)
    });
    let _ = relay(&mut client, &mut server, &valve, state);
    // Both ends see the connection break.
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    let _ = answers.join();
    Ok(())
}

/// Carries commands until somebody hangs up or the point is reached.
fn relay(
    client: &mut TcpStream,
    server: &mut TcpStream,
    valve: &Mutex<Valve>,
    state: &State,
) -> io::Result<()> {
    while let Some(packet) = read_packet(client)? {
        let command = packet[3] == 0;
        let stop = command.then(|| count(state, &packet)).flatten();
        let Some((side, action)) = stop else {
            server.write_all(&packet)?;
            continue;
        };
        valve.lock().unwrap().held = true;
        if side == Side::After {
            server.write_all(&packet)?;
            wait_for_answer(packet[4], valve);
        }
        match action() {
            Then::Cut => break,
            Then::Pass => {
                let mut valve = valve.lock().unwrap();
                client.write_all(&valve.bytes)?;
                valve.held = false;
                if valve.ended {
                    break;
                }
                drop(valve);
                if side == Side::Before {
                    server.write_all(&packet)?;
                }
            }
            Then::Leave => {
                server.write_all(&packet)?;
                client.shutdown(Shutdown::Both)?;
                wait_for_answer(packet[4], valve);
                break;
            }
            Then::Silence => {
                // Until the client hangs up. What it says is lost.
                while read_packet(client)?.is_some() {}
                break;
            }
        }
    }
    Ok(())
}

/// Carries answers back until the server hangs up.
fn answer(mut from: TcpStream, mut to: TcpStream, valve: &Mutex<Valve>, state: &State) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        // 255 is an error, and its number follows.
        if let [_, _, _, _, 0xff, low, high, ..] = buffer[..length] {
            let number = u16::from_le_bytes([low, high]);
            let command = state.log.lock().unwrap().last().cloned();
            let mut errors = state.errors.lock().unwrap();
            errors.push((number, command.unwrap_or_default()));
        }
        let mut valve = valve.lock().unwrap();
        if valve.held {
            valve.bytes.extend_from_slice(&buffer[..length]);
        } else if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let mut valve = valve.lock().unwrap();
    // A server that hangs up has answered, too.
    valve.ended = true;
    if !valve.held {
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Counts a command; the action when it is the one to stop at.
fn count(state: &State, packet: &[u8]) -> Option<(Side, Action)> {
    let number = state.seen.fetch_add(1, Ordering::SeqCst) + 1;
    let text: String = String::from_utf8_lossy(&packet[5..])
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let shown: String = text.chars().filter(|c| !c.is_control()).take(70).collect();
    state
        .log
        .lock()
        .unwrap()
        .push(format!("{:#04x} {shown}", packet[4]));
    let commit = shown.ends_with("COMMIT");
    let commits = state
        .commits
        .fetch_add(usize::from(commit), Ordering::SeqCst)
        + 1;
    let mut stop = state.stop.lock().unwrap();
    if stop.as_ref().is_some_and(|(at, ..)| match at {
        At::Command(wanted) => *wanted == number,
        At::Commit(wanted) => commit && *wanted == commits,
        At::Saying(wanted) => shown.contains(wanted),
    }) {
        stop.take().map(|(_, side, action)| (side, action))
    } else {
        None
    }
}

/// The server has executed a command once it answers. Only closing a statement
/// has no answer; it gets a moment.
fn wait_for_answer(command: u8, valve: &Mutex<Valve>) {
    let patience = if command == STMT_CLOSE { 20 } else { 10_000 };
    for _ in 0..patience {
        let valve = valve.lock().unwrap();
        if valve.ended || !valve.bytes.is_empty() {
            return;
        }
        drop(valve);
        thread::sleep(Duration::from_millis(1));
    }
}

/// One packet with its header; `None` at the end of the stream.
fn read_packet(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut packet = vec![0; 4];
    match stream.read_exact(&mut packet) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length =
        usize::from(packet[0]) | usize::from(packet[1]) << 8 | usize::from(packet[2]) << 16;
    packet.resize(4 + length, 0);
    stream.read_exact(&mut packet[4..])?;
    Ok(Some(packet))
}
