//! One command and its reply, as they passed the proxy.

use std::time::Duration;

use super::Reply;

/// A command that a client sent, and what came of it.
///
/// All times count from the moment the lab began.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// The connection it came on, numbered from 1 in the order they were opened.
    pub connection: u64,
    /// Its place in the proxy's log: the same scale as [`Proxy::mark`](super::Proxy::mark).
    pub seq: usize,
    /// When the whole command had reached the proxy.
    pub sent: Duration,
    /// When the whole reply had reached the proxy; for a command inside a
    /// transaction, when the reply of its `EXEC` had.
    pub replied: Option<Duration>,
    /// The command's words. A word longer than 256 bytes is cut there.
    pub command: Vec<Vec<u8>>,
    /// What the broker answered, long strings cut in the same way. Inside a
    /// transaction: `QUEUED` at first, the command's own result once `EXEC` succeeded.
    pub reply: Option<Reply>,
    /// True from `MULTI` to `EXEC` or `DISCARD`, both included.
    pub transaction: bool,
    /// For a command of a transaction: the `seq` of its `MULTI`.
    pub multi: Option<usize>,
    /// True if the command was passed on to the broker. False if it was refused
    /// or the connection was cut before it.
    pub forwarded: bool,
    /// True if the proxy refused it: see [`Proxy::forbidden`](super::Proxy::forbidden).
    pub refused: bool,
    /// True if its connection ended before the client was given the reply. The broker
    /// may have carried it out: `reply` tells, if the proxy still saw it.
    pub lost: bool,
}

impl Exchange {
    /// The command's name in upper case.
    pub fn name(&self) -> String {
        self.arg(0).to_ascii_uppercase()
    }

    /// Word `i` of the command (0 is its name) up to the first byte that is not
    /// UTF-8; empty if there is no such word.
    pub fn arg(&self, i: usize) -> &str {
        let bytes = self.command.get(i).map_or(&[][..], Vec::as_slice);
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// All words from `i` on, in the manner of [`arg`](Self::arg).
    pub fn args(&self, i: usize) -> Vec<&str> {
        (i..self.command.len()).map(|i| self.arg(i)).collect()
    }

    /// True if the command begins with these words, in whatever case:
    /// `is("XADD")`, `is("XGROUP CREATE")`.
    pub fn is(&self, name: &str) -> bool {
        begins_with(&self.command, name)
    }

    /// True if one of the words after the name is exactly `key`.
    pub fn mentions(&self, key: &str) -> bool {
        self.command
            .iter()
            .skip(1)
            .any(|word| word == key.as_bytes())
    }

    /// The word that follows the option `name`, as `option("COUNT")` of
    /// `XREADGROUP … COUNT 10 …`. Looks no further than `STREAMS`.
    pub fn option(&self, name: &str) -> Option<&str> {
        (1..self.command.len())
            .take_while(|i| !self.arg(*i).eq_ignore_ascii_case("STREAMS"))
            .find(|i| self.arg(*i).eq_ignore_ascii_case(name))
            .map(|i| self.arg(i + 1))
    }

    /// True if the broker may let this command wait: `BLPOP` and its kin, and the
    /// stream reads with `BLOCK`. Inside a transaction nothing waits.
    pub fn is_blocking(&self) -> bool {
        !self.transaction && is_blocking(&self.command)
    }

    /// True if it reached the broker and was answered with something other than an error.
    pub fn succeeded(&self) -> bool {
        self.forwarded && self.reply.as_ref().is_some_and(|reply| !reply.is_error())
    }
}

/// Commands that make the broker wait, whatever their arguments.
const WAITING: [&str; 9] = [
    "BLPOP",
    "BRPOP",
    "BLMOVE",
    "BRPOPLPUSH",
    "BLMPOP",
    "BZPOPMIN",
    "BZPOPMAX",
    "BZMPOP",
    "WAIT",
];

pub(super) fn is_blocking(command: &[Vec<u8>]) -> bool {
    let Some(name) = command.first() else {
        return false;
    };
    let named = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if named("XREAD") || named("XREADGROUP") {
        return command
            .iter()
            .skip(1)
            .take_while(|word| !word.eq_ignore_ascii_case(b"STREAMS"))
            .any(|word| word.eq_ignore_ascii_case(b"BLOCK"));
    }
    // Looked at for every command: the first letter decides almost always.
    matches!(name.first(), Some(b'B' | b'b' | b'W' | b'w')) && WAITING.iter().any(|w| named(w))
}

pub(super) fn begins_with(command: &[Vec<u8>], words: &str) -> bool {
    let mut i = 0;
    for word in words.split(' ') {
        match command.get(i) {
            Some(given) if given.eq_ignore_ascii_case(word.as_bytes()) => i += 1,
            _ => return false,
        }
    }
    true
}
