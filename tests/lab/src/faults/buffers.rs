//! What lies between two sockets: bytes that have come and bytes that are to go.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::resp::{Malformed, Parser};
use super::trigger::State;
use super::{Action, Reply};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// With so much still to be written to one side, the other is not read any further.
const MOST_UNWRITTEN: usize = 32 << 20;

/// Bytes from one side: `[start..frame]` are whole frames that may be passed on,
/// `[frame..scanned]` is the beginning of one that is not complete.
pub(super) struct Inbox {
    pub(super) bytes: Vec<u8>,
    start: usize,
    pub(super) frame: usize,
    scanned: usize,
    parser: Parser,
    pub(super) gate: Option<Gate>,
    /// The last read filled its buffer: there is more where that came from.
    pub(super) filled: bool,
    pub(super) ended: bool,
}

/// Keeps the frame that ends at `frame` and all after it.
pub(super) struct Gate {
    pub(super) seq: usize,
    until: Until,
    /// Without it a dropped fault would let go what it holds.
    _state: Arc<State>,
}

enum Until {
    Released(watch::Receiver<bool>),
    Instant(Instant),
}

/// Bytes to one side.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    written: usize,
    /// Nobody is there to read them.
    gone: bool,
}

impl Inbox {
    pub(super) fn new(parser: Parser) -> Self {
        Inbox {
            bytes: Vec::new(),
            start: 0,
            frame: 0,
            scanned: 0,
            parser,
            gate: None,
            filled: false,
            ended: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.gate.is_none()
    }

    /// The next whole frame and where it begins.
    pub(super) fn next_frame(&mut self) -> Result<Option<(usize, Reply)>, Malformed> {
        let (used, value) = self.parser.feed(&self.bytes[self.scanned..])?;
        self.scanned += used;
        Ok(value.map(|value| {
            let begin = self.frame;
            self.frame = self.scanned;
            (begin, value)
        }))
    }

    /// Passes on what is complete, or everything.
    pub(super) fn pass_on(&mut self, to: &mut Outbox, everything: bool) {
        if everything {
            self.frame = self.bytes.len();
            self.scanned = self.frame;
        }
        self.pass_on_until(self.frame, to);
    }

    pub(super) fn pass_on_until(&mut self, end: usize, to: &mut Outbox) {
        to.bytes.extend_from_slice(&self.bytes[self.start..end]);
        self.start = end;
    }

    /// Leaves out the frame that was just read.
    pub(super) fn drop_frame(&mut self) {
        self.start = self.frame;
    }

    /// Makes room: what was passed on is of no use any more.
    pub(super) fn forget_passed(&mut self) {
        self.bytes.drain(..self.start);
        self.frame -= self.start;
        self.scanned -= self.start;
        self.start = 0;
    }

    pub(super) fn read_from(&mut self, from: &TcpStream) {
        self.bytes.reserve(CHUNK);
        let room = self.bytes.capacity() - self.bytes.len();
        match from.try_read_buf(&mut self.bytes) {
            Ok(0) => self.ended = true,
            Ok(read) => self.filled = read == room,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.filled = false,
            // A reset is an end as well.
            Err(_) => self.ended = true,
        }
    }
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < MOST_UNWRITTEN
    }

    /// Writes as much as goes without waiting.
    pub(super) fn write_to(&mut self, to: &TcpStream) {
        while !self.gone && self.written < self.bytes.len() {
            match to.try_write(&self.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.written > MOST_UNWRITTEN {
                        self.bytes.drain(..self.written);
                        self.written = 0;
                    }
                    return;
                }
                // The other side has gone; that it has will be read from it, too.
                Err(_) => self.gone = true,
            }
        }
        self.bytes.clear();
        self.written = 0;
    }
}

impl Gate {
    pub(super) fn new(seq: usize, action: Action, state: Arc<State>) -> Self {
        let until = match action {
            Action::Delay(by) => Until::Instant(Instant::now() + by),
            _ => Until::Released(state.released()),
        };
        Gate {
            seq,
            until,
            _state: state,
        }
    }
}

/// Waits until the gate may open, and opens it.
pub(super) async fn opened(gate: &mut Option<Gate>) {
    match gate.as_mut().map(|gate| &mut gate.until) {
        None => {}
        Some(Until::Instant(instant)) => tokio::time::sleep_until(*instant).await,
        // It fails only when nobody is left who could release it, and the gate itself is.
        Some(Until::Released(released)) => drop(released.wait_for(|released| *released).await),
    }
    *gate = None;
}
