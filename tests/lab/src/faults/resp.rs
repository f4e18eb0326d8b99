//! Reads RESP, the protocol of Redis, in versions 2 and 3.
//!
//! The parser is fed whatever bytes have arrived and keeps its place between
//! calls, so a frame may be cut anywhere and every byte is looked at once.
//! It is a reader for a log: long strings are cut, sizes are not.

/// Strings in a log keep this many bytes; what follows is counted by nobody.
pub const KEEP: usize = 256;

/// Frames nested deeper than this are refused. Redis itself stays below ten.
const DEEPEST: usize = 64;

/// A line (a status, an error, a number, an inline command) longer than this is refused,
/// as Redis does.
const LONGEST_LINE: usize = 64 * 1024;

/// A value of the protocol. Strings are cut at [`KEEP`] bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// `+OK`
    Status(String),
    /// `-ERR …`, or RESP3's long form of it.
    Error(String),
    /// `:42`
    Int(i64),
    /// A string of bytes, also RESP3's verbatim string without its three-letter format.
    Bulk(Vec<u8>),
    /// The null of RESP3 and both nulls of RESP2.
    Nil,
    /// `*`: a list.
    Array(Vec<Reply>),
    /// `%`, RESP3: pairs in the order they came.
    Map(Vec<(Reply, Reply)>),
    /// `~`, RESP3.
    Set(Vec<Reply>),
    /// `>`, RESP3: said by the broker without having been asked.
    Push(Vec<Reply>),
    /// `,`, RESP3.
    Double(f64),
    /// `#`, RESP3.
    Bool(bool),
    /// `(`, RESP3: as its digits.
    BigNumber(String),
}

impl Reply {
    /// The number, if this is one (also one written as a string).
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Reply::Int(number) => Some(*number),
            Reply::Bulk(_) | Reply::Status(_) => self.as_str()?.parse().ok(),
            _ => None,
        }
    }

    /// The text, if this is a string, a status or an error in valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Reply::Status(text) | Reply::Error(text) | Reply::BigNumber(text) => Some(text),
            Reply::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The items, if this is a list, a set or a push.
    pub fn as_array(&self) -> Option<&[Reply]> {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => Some(items),
            _ => None,
        }
    }

    /// True for an error reply.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// True for a null.
    pub fn is_nil(&self) -> bool {
        matches!(self, Reply::Nil)
    }
}

/// The bytes are not RESP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not RESP: {0}")]
pub struct Malformed(&'static str);

/// An incremental reader of frames.
#[derive(Debug)]
pub struct Parser {
    /// Requests may also be written inline: words on a line.
    inline: bool,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    /// The string whose end has not arrived.
    bulk: Option<Bulk>,
    /// The aggregates that are not complete, outermost first.
    open: Vec<Aggregate>,
}

#[derive(Debug)]
struct Bulk {
    kind: u8,
    /// Bytes to come, the closing CR LF included.
    left: usize,
    kept: Vec<u8>,
    room: usize,
}

#[derive(Debug)]
struct Aggregate {
    kind: u8,
    wanted: usize,
    items: Vec<Reply>,
}

impl Parser {
    /// A reader of what a client sends.
    pub fn requests() -> Self {
        Parser {
            inline: true,
            line: Vec::new(),
            bulk: None,
            open: Vec::new(),
        }
    }

    /// A reader of what a broker sends.
    pub fn replies() -> Self {
        Parser {
            inline: false,
            ..Parser::requests()
        }
    }

    /// Reads on. Returns how many bytes were used and the frame that ended with them;
    /// without a frame all of `input` was used and more is wanted.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes cannot be RESP; the parser is of no use after that.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), Malformed> {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let (used, value) = if self.bulk.is_some() {
                self.read_bulk(rest)
            } else {
                self.read_line(rest)?
            };
            at += used;
            if let Some(value) = value
                && let Some(frame) = self.settle(value)
            {
                return Ok((at, Some(frame)));
            }
        }
        Ok((at, None))
    }

    /// Reads to the end of the line, then opens what the line announces.
    fn read_line(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), Malformed> {
        // By hand, here and below: what an unoptimised build makes of iterators
        // costs more than all the rest of the proxy.
        let mut end = 0;
        while end < input.len() && input[end] != b'\n' {
            end += 1;
        }
        if end == input.len() {
            self.line.extend_from_slice(input);
            if self.line.len() > LONGEST_LINE {
                return Err(Malformed("a line does not end"));
            }
            return Ok((input.len(), None));
        };
        let used = end + 1;
        let value = if self.line.is_empty() {
            self.open_line(&input[..end], &input[used..])?
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&input[..end]);
            self.open_line(&line, &input[used..])?
        };
        // A string that has arrived as a whole was read along with its line.
        match value {
            Opened::Value(value) => Ok((used, Some(value))),
            Opened::WithBytes(more, value) => Ok((used + more, Some(value))),
            Opened::More => Ok((used, None)),
        }
    }

    fn open_line(&mut self, line: &[u8], after: &[u8]) -> Result<Opened, Malformed> {
        let line = match line {
            [line @ .., b'\r'] => line,
            line => line,
        };
        if self.inline && self.open.is_empty() && line.first() != Some(&b'*') {
            return Ok(Opened::Value(inline_command(line)));
        }
        let [kind, rest @ ..] = line else {
            return Err(Malformed("an empty line"));
        };
        let value = match kind {
            b'$' | b'!' | b'=' => return self.open_bulk(*kind, length(rest)?, after),
            b'*' | b'~' | b'>' | b'%' | b'|' => return self.open_aggregate(*kind, length(rest)?),
            b'+' => Reply::Status(text(rest)),
            b'-' => Reply::Error(text(rest)),
            b':' => Reply::Int(number(rest)?),
            b'_' => Reply::Nil,
            b'#' => Reply::Bool(rest == b"t"),
            b'(' => Reply::BigNumber(text(rest)),
            b',' => Reply::Double(text(rest).parse().map_err(|_| Malformed("not a double"))?),
            _ => return Err(Malformed("an unknown type")),
        };
        Ok(Opened::Value(value))
    }

    fn open_bulk(
        &mut self,
        kind: u8,
        length: Option<usize>,
        after: &[u8],
    ) -> Result<Opened, Malformed> {
        let Some(length) = length else {
            return Ok(Opened::Value(Reply::Nil));
        };
        let room = length.min(KEEP);
        let whole = length + 2;
        if after.len() >= whole {
            let kept = after[..room].to_vec();
            return Ok(Opened::WithBytes(whole, bulk_value(kind, kept)));
        }
        self.bulk = Some(Bulk {
            kind,
            left: whole,
            kept: Vec::with_capacity(room),
            room,
        });
        Ok(Opened::More)
    }

    fn open_aggregate(&mut self, kind: u8, length: Option<usize>) -> Result<Opened, Malformed> {
        let Some(length) = length else {
            return Ok(Opened::Value(Reply::Nil));
        };
        if self.open.len() == DEEPEST {
            return Err(Malformed("nested too deep"));
        }
        let wanted = if matches!(kind, b'%' | b'|') {
            length * 2
        } else {
            length
        };
        let aggregate = Aggregate {
            kind,
            wanted,
            // The announced length is not believed before the items are there.
            items: Vec::with_capacity(wanted.min(1024)),
        };
        if wanted > 0 {
            self.open.push(aggregate);
            return Ok(Opened::More);
        }
        Ok(match aggregate.close() {
            Some(value) => Opened::Value(value),
            None => Opened::More,
        })
    }

    fn read_bulk(&mut self, input: &[u8]) -> (usize, Option<Reply>) {
        let Some(bulk) = &mut self.bulk else {
            return (0, None);
        };
        let used = bulk.left.min(input.len());
        let keep = (bulk.room - bulk.kept.len()).min(used);
        bulk.kept.extend_from_slice(&input[..keep]);
        bulk.left -= used;
        if bulk.left > 0 {
            return (used, None);
        }
        let value = self
            .bulk
            .take()
            .map(|bulk| bulk_value(bulk.kind, bulk.kept));
        (used, value)
    }

    /// Puts a complete value where it belongs; returns it if it is a whole frame.
    fn settle(&mut self, mut value: Reply) -> Option<Reply> {
        loop {
            let Some(parent) = self.open.last_mut() else {
                return Some(value);
            };
            parent.items.push(value);
            if parent.items.len() < parent.wanted {
                return None;
            }
            // An attribute is no value: it speaks about the one that follows.
            value = self.open.pop()?.close()?;
        }
    }
}

enum Opened {
    Value(Reply),
    /// A value that took so many bytes after its line.
    WithBytes(usize, Reply),
    More,
}

impl Aggregate {
    /// The finished value; none for an attribute.
    fn close(self) -> Option<Reply> {
        match self.kind {
            b'~' => Some(Reply::Set(self.items)),
            b'>' => Some(Reply::Push(self.items)),
            b'%' => {
                let mut items = self.items.into_iter();
                let mut pairs = Vec::with_capacity(self.wanted / 2);
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Some(Reply::Map(pairs))
            }
            b'|' => None,
            _ => Some(Reply::Array(self.items)),
        }
    }
}

fn bulk_value(kind: u8, mut bytes: Vec<u8>) -> Reply {
    match kind {
        b'!' => Reply::Error(text(&bytes)),
        b'=' => {
            bytes.drain(..bytes.len().min(4));
            Reply::Bulk(bytes)
        }
        _ => Reply::Bulk(bytes),
    }
}

/// Words between blanks. Quotes, which only a person at a terminal writes, are left as they are.
fn inline_command(line: &[u8]) -> Reply {
    Reply::Array(
        line.split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .map(|word| Reply::Bulk(word[..word.len().min(KEEP)].to_vec()))
            .collect(),
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(KEEP)]).into_owned()
}

fn number(bytes: &[u8]) -> Result<i64, Malformed> {
    // Almost every number of the protocol is a short length; this path is much
    // quicker than going through `str` when the compiler optimises nothing.
    if bytes.len() < 10 && !bytes.is_empty() {
        let mut value = 0;
        let mut digits = bytes;
        while let [digit @ b'0'..=b'9', rest @ ..] = digits {
            value = value * 10 + (*digit - b'0') as i64;
            digits = rest;
        }
        if digits.is_empty() {
            return Ok(value);
        }
    }
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(Malformed("not a number"))
}

/// A length; none for the `-1` that is RESP2's null.
fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match number(bytes)? {
        -1 => Ok(None),
        length @ 0..=0x7fff_ffff => Ok(Some(length as usize)),
        _ => Err(Malformed("an impossible length")),
    }
}
