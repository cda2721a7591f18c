//! A proxy that understands the framing of MariaDB's protocol, counts a
//! client's commands, and stops at the n-th: before the server has seen it, or
//! after the server has executed it and before the client has the answer.
//!
//! A packet is its length (3 bytes, little endian), a sequence number, and its
//! body. Commands start a new sequence, so a packet from the client with number
//! 0 is a command; those of the login have other numbers.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
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

/// The command that closes a statement.
const STMT_CLOSE: u8 = 0x19;

type Action = Box<dyn FnOnce() + Send>;

struct State {
    server: u16,
    /// Commands seen, over all connections.
    seen: AtomicUsize,
    /// The command to stop at, counted from 1.
    stop: Mutex<Option<(usize, Side, Action)>>,
    /// First bytes of each command, for reports.
    log: Mutex<Vec<String>>,
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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            server,
            seen: AtomicUsize::new(0),
            stop: Mutex::new(None),
            log: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    let _ = serve(client, &state);
                });
            }
        });
        Self { port, state }
    }

    /// Counts from zero again, and at command `number` drops the connection
    /// after calling `action`. Happens once; later commands pass.
    pub(crate) fn arm(&self, number: usize, side: Side, action: impl FnOnce() + Send + 'static) {
        self.state.seen.store(0, Ordering::SeqCst);
        self.state.log.lock().unwrap().clear();
        *self.state.stop.lock().unwrap() = Some((number, side, Box::new(action)));
    }

    /// Stops nothing any more. Was the armed point never reached?
    pub(crate) fn disarm(&self) -> bool {
        self.state.stop.lock().unwrap().take().is_some()
    }

    /// Commands seen since it was armed.
    pub(crate) fn seen(&self) -> usize {
        self.state.seen.load(Ordering::SeqCst)
    }

    /// The commands seen since it was armed, as text.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.log.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, state: &State) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", state.server))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // Answers flow back on their own thread, through a valve.
    let withheld = Arc::new(AtomicUsize::new(0));
    let valve = Arc::clone(&withheld);
    let (mut back_from, mut back_to) = (server.try_clone()?, client.try_clone()?);
    let answers = thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = back_from.read(&mut buffer) {
            if valve.load(Ordering::SeqCst) > 0 {
                valve.fetch_add(length, Ordering::SeqCst);
            } else if back_to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        // A server that hangs up has answered, too.
        valve.fetch_add(1, Ordering::SeqCst);
        let _ = back_to.shutdown(Shutdown::Both);
    });
    while let Some(packet) = read_packet(&mut client)? {
        let command = packet[3] == 0;
        let stop = command.then(|| count(state, &packet)).flatten();
        let Some((side, action)) = stop else {
            server.write_all(&packet)?;
            continue;
        };
        if side == Side::After {
            withheld.store(1, Ordering::SeqCst);
            server.write_all(&packet)?;
            wait_for_answer(packet[4], &withheld);
        }
        action();
        break;
    }
    // Both ends see the connection break.
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    let _ = answers.join();
    Ok(())
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
    let mut stop = state.stop.lock().unwrap();
    if stop.as_ref().is_some_and(|(at, ..)| *at == number) {
        stop.take().map(|(_, side, action)| (side, action))
    } else {
        None
    }
}

/// The server has executed a command once it answers. Only closing a statement
/// has no answer; it gets a moment.
fn wait_for_answer(command: u8, withheld: &AtomicUsize) {
    let patience = if command == STMT_CLOSE { 20 } else { 10_000 };
    for _ in 0..patience {
        if withheld.load(Ordering::SeqCst) > 1 {
            return;
        }
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
