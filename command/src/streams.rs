//! Reading what a child writes, in threads and within bounds: a child that
//! writes without end must not take this process's memory.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are kept of the beginning of a stream that is not needed whole,
/// and as many of its end.
const ENDS: usize = 1 << 20;

/// Bytes of one line. A longer one is handed on in pieces, so that nothing of
/// it is lost.
const LINE: usize = 64 * 1024;

/// Lines that wait for whoever takes them.
const WAITING: usize = 256;

/// What is kept of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All, up to so many bytes. Whoever writes more finds the pipe closed.
    Whole(usize),
    /// Its beginning and its end.
    Ends,
}

#[derive(Default)]
struct Kept {
    first: Vec<u8>,
    last: Vec<u8>,
    left_out: u64,
    /// Nobody wants any more of it.
    closed: bool,
}

impl Kept {
    /// Keeps `bytes`, and says whether there is room for more.
    fn push(&mut self, bytes: &[u8], keep: Keep) -> bool {
        let room = match keep {
            Keep::Whole(room) => room,
            Keep::Ends => ENDS,
        };
        let (first, rest) = bytes.split_at(bytes.len().min(room.saturating_sub(self.first.len())));
        self.first.extend_from_slice(first);
        self.last.extend_from_slice(rest);
        if keep != Keep::Ends {
            self.left_out += rest.len() as u64;
            return rest.is_empty() && !self.closed;
        }
        if self.last.len() > 2 * ENDS {
            self.shorten();
        }
        !self.closed
    }

    fn shorten(&mut self) {
        let over = self.last.len().saturating_sub(ENDS);
        self.last.drain(..over);
        self.left_out += over as u64;
    }

    fn joined(mut self) -> Vec<u8> {
        self.shorten();
        let mut bytes = self.first;
        if self.left_out == 0 {
            bytes.append(&mut self.last);
            return bytes;
        }
        // Whole lines only: half of a secret is not recognised.
        let ends = |byte: &u8| *byte == b'\n';
        let end = bytes.iter().rposition(ends).map_or(0, |at| at + 1);
        let start = self.last.iter().position(ends).map_or(0, |at| at + 1);
        bytes.truncate(end);
        bytes.extend(format!("[{} bytes or more are left out here]\n", self.left_out).bytes());
        bytes.extend_from_slice(&self.last[start..]);
        bytes
    }
}

/// A stream that is read to its end by a thread.
pub(crate) struct Captured {
    kept: Arc<Mutex<Kept>>,
    ended: mpsc::Receiver<()>,
    keep: Keep,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) bytes: Vec<u8>,
    /// There was more than may be kept.
    pub(crate) too_much: bool,
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn capture(mut stream: impl Read + Send + 'static, keep: Keep) -> Captured {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let (at_end, ended) = mpsc::channel();
    let ours = Arc::clone(&kept);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n) = stream.read(&mut buffer) {
            if n == 0 || !lock(&ours).push(&buffer[..n], keep) {
                break;
            }
        }
        let _ = at_end.send(());
    });
    Captured { kept, ended, keep }
}

impl Captured {
    /// What was read until the stream's end, or until `deadline`: something in
    /// another session may hold the pipe open for ever.
    pub(crate) fn take(self, deadline: Instant) -> Taken {
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = self.ended.recv_timeout(left.max(Duration::from_millis(1)));
        let mut kept = lock(&self.kept);
        let taken = std::mem::take(&mut *kept);
        kept.closed = true;
        drop(kept);
        Taken {
            too_much: self.keep != Keep::Ends && taken.left_out > 0,
            bytes: taken.joined(),
        }
    }
}

/// Reads lines in a thread. A carriage return ends nothing: what a progress
/// display overwrote is dropped. Where a long line is taken apart none of
/// `secrets` is, for each piece is masked by itself.
pub(crate) fn lines(
    stream: impl Read + Send + 'static,
    secrets: Vec<String>,
) -> mpsc::Receiver<String> {
    // Bounded, so that a callback slower than the child slows the child down.
    let (sender, receiver) = mpsc::sync_channel(WAITING);
    let reach = secrets.iter().map(String::len).max().unwrap_or_default();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        let send = |line: &[u8]| sender.send(shown(line)).is_ok();
        while let Ok(chunk) = reader.fill_buf() {
            if chunk.is_empty() {
                break;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(chunk.len());
            line.extend_from_slice(&chunk[..taken]);
            reader.consume(taken + usize::from(end.is_some()));
            while line.len() > LINE + reach {
                let at = cut(&line, &secrets);
                if !send(&line[..at]) {
                    return;
                }
                line.drain(..at);
            }
            if end.is_some() {
                if !send(&line) {
                    return;
                }
                line.clear();
            }
        }
        if !line.is_empty() {
            send(&line);
        }
    });
    receiver
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    text.rsplit('\r').next().unwrap_or(text).to_owned()
}

/// Where the first piece of a long line ends: within no character and within
/// no secret.
fn cut(line: &[u8], secrets: &[String]) -> usize {
    let mut at = LINE;
    while at > LINE - 3 && line[at] & 0xc0 == 0x80 {
        at -= 1;
    }
    let across = |at: usize| {
        secrets
            .iter()
            .filter(|secret| !secret.is_empty())
            .find_map(|secret| {
                (at.saturating_sub(secret.len() - 1)..at)
                    .find(|start| line[*start..].starts_with(secret.as_bytes()))
            })
    };
    while let Some(start) = across(at) {
        at = start;
    }
    // A secret as long as a piece.
    if at == 0 { LINE } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(chunks: &[&[u8]], keep: Keep) -> (Vec<u8>, bool) {
        let mut kept = Kept::default();
        let room = chunks.iter().all(|chunk| kept.push(chunk, keep));
        (kept.joined(), room)
    }

    #[test]
    fn of_a_long_stream_both_ends_are_kept_by_whole_lines() {
        let (bytes, room) = keep(&[b"a\n", b"b"], Keep::Ends);
        assert_eq!((bytes.as_slice(), room), (b"a\nb".as_slice(), true));
        let middle = vec![b'x'; ENDS];
        let mut chunks: Vec<&[u8]> = vec![b"first\nhalf of a sec"];
        chunks.extend(std::iter::repeat_n(middle.as_slice(), 8));
        chunks.push(b"ret\nlast\n");
        let (bytes, room) = keep(&chunks, Keep::Ends);
        let text = String::from_utf8(bytes).unwrap();
        assert!(room);
        assert!(text.starts_with("first\n["), "{}", text.len());
        assert!(text.ends_with(" bytes or more are left out here]\nlast\n"));
        // One line without an end.
        let chunks: Vec<&[u8]> = std::iter::repeat_n(middle.as_slice(), 8).collect();
        let (bytes, _) = keep(&chunks, Keep::Ends);
        assert!(bytes.ends_with(b"xxx") && bytes.len() < ENDS + 100);
    }

    #[test]
    fn of_a_whole_stream_there_is_no_more_than_its_room() {
        let (bytes, room) = keep(&[b"12", b"34"], Keep::Whole(4));
        assert_eq!((bytes.as_slice(), room), (b"1234".as_slice(), true));
        assert!(!keep(&[b"12", b"345"], Keep::Whole(4)).1);
    }

    #[test]
    fn a_long_line_comes_in_pieces_that_part_no_secret() {
        let secret = "hunter2".to_owned();
        for before in LINE - 20..LINE + 5 {
            let text = format!("{}{secret}{}", "x".repeat(before), "\u{e9}".repeat(LINE));
            let stream = std::io::Cursor::new(format!("{text}\nend"));
            let pieces: Vec<String> = lines(stream, vec![secret.clone()]).iter().collect();
            assert_eq!(pieces.last().map(String::as_str), Some("end"));
            let pieces = &pieces[..pieces.len() - 1];
            assert_eq!(pieces.concat(), text);
            assert!(
                pieces
                    .iter()
                    .all(|piece| piece.len() <= LINE + secret.len())
            );
            assert!(
                pieces.iter().any(|piece| piece.contains(&secret)),
                "{before}"
            );
        }
    }
}
