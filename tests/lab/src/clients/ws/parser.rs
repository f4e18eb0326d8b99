//! Server frames, taken to the letter of RFC 6455.

use super::opcode;

/// A larger frame than this is no chat's: a wrong length more likely.
const LARGEST: u64 = 256 * 1024 * 1024;

/// What a client sees of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A whole message of text.
    Text(String),
    /// A whole message of bytes.
    Binary(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close; the code is `None` if it gave none.
    Close(Option<u16>, String),
    /// The server ended the connection in order: nothing follows.
    End,
    /// The connection broke: a reset, or another error. Nothing follows.
    Lost(String),
    /// The server broke the protocol; the text says how. Nothing after it is looked at.
    Violation(String),
}

impl Seen {
    /// Whether nothing can follow it on this connection.
    pub fn is_final(&self) -> bool {
        matches!(self, Seen::End | Seen::Lost(_) | Seen::Violation(_))
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::Text(text) => write!(f, "the text {}", shortened(text)),
            Seen::Binary(bytes) => write!(f, "a binary message of {} bytes", bytes.len()),
            Seen::Ping(bytes) => write!(f, "a ping of {} bytes", bytes.len()),
            Seen::Pong(bytes) => write!(f, "a pong of {} bytes", bytes.len()),
            Seen::Close(Some(code), reason) if reason.is_empty() => {
                write!(f, "a close with code {code}")
            }
            Seen::Close(Some(code), reason) => {
                write!(f, "a close with code {code} ({})", shortened(reason))
            }
            Seen::Close(None, _) => f.write_str("a close without a code"),
            Seen::End => f.write_str("the end of the connection"),
            Seen::Lost(why) => write!(f, "the connection break ({why})"),
            Seen::Violation(how) => write!(f, "a breach of the protocol: {how}"),
        }
    }
}

/// A text as a message shows it: quoted, and cut where it gets long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 160;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let kept: String = text.chars().take(SHOWN).collect();
    format!("{kept:?}… ({} bytes)", text.len())
}

/// Takes bytes in pieces of any size and gives out what they say.
#[derive(Debug, Default)]
pub struct Parser {
    bytes: Vec<u8>,
    /// The message that was begun: its opcode, and what came of it.
    message: Option<(u8, Vec<u8>)>,
    closed: bool,
    broken: bool,
}

impl Parser {
    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next thing that the bytes so far say; `None` if it needs more of them.
    pub fn parse_next(&mut self) -> Option<Seen> {
        loop {
            if self.broken {
                return None;
            }
            match self.frame() {
                Ok(Some(Frame {
                    opcode,
                    fin,
                    payload,
                })) => match self.take(opcode, fin, payload) {
                    Ok(Some(seen)) => return Some(seen),
                    Ok(None) => {}
                    Err(how) => return Some(self.breach(how)),
                },
                Ok(None) => return None,
                Err(how) => return Some(self.breach(how)),
            }
        }
    }

    /// What the end of the stream says at this point: a clean end, or one in the middle of a frame.
    pub fn end(&self) -> Seen {
        if !self.bytes.is_empty() {
            let count = self.bytes.len();
            return Seen::Violation(format!(
                "the connection ended in the middle of a frame, of which {count} bytes had come"
            ));
        }
        match &self.message {
            Some(_) if !self.closed => Seen::Violation(
                "the connection ended in the middle of a fragmented message".to_owned(),
            ),
            _ => Seen::End,
        }
    }

    fn breach(&mut self, how: String) -> Seen {
        self.broken = true;
        self.bytes = Vec::new();
        Seen::Violation(how)
    }

    /// Cuts the next whole frame off the bytes.
    fn frame(&mut self) -> Result<Option<Frame>, String> {
        let [first, second, rest @ ..] = self.bytes.as_slice() else {
            return Ok(None);
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(format!(
                "a frame with reserved bits set (it begins with {first:#04x}), and no extension was agreed on"
            ));
        }
        if second & 0x80 != 0 {
            return Err("a masked frame; a server must not mask".to_owned());
        }
        let control = opcode >= 0x8;
        if !matches!(opcode, 0x0..=0x2 | 0x8..=0xa) {
            return Err(format!("a frame with the reserved opcode {opcode:#x}"));
        }
        if control && !fin {
            return Err(format!("a fragmented control frame (opcode {opcode:#x})"));
        }
        if self.closed {
            return Err(format!("a frame after the close (opcode {opcode:#x})"));
        }
        let (length, begins) = match second & 0x7f {
            126 => match rest {
                [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 4),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(eight) => (u64::from_be_bytes(*eight), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let shortest = match length {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        if begins != shortest {
            return Err(format!(
                "a frame of {length} bytes whose length is not written in the shortest way"
            ));
        }
        if control && length > 125 {
            return Err(format!(
                "a control frame of {length} bytes; 125 is the most"
            ));
        }
        if length > LARGEST {
            return Err(format!("a frame that claims to have {length} bytes"));
        }
        let ends = begins + length as usize;
        if self.bytes.len() < ends {
            return Ok(None);
        }
        let payload = self.bytes[begins..ends].to_vec();
        self.bytes.drain(..ends);
        Ok(Some(Frame {
            opcode,
            fin,
            payload,
        }))
    }

    fn take(&mut self, code: u8, fin: bool, payload: Vec<u8>) -> Result<Option<Seen>, String> {
        match code {
            opcode::PING => return Ok(Some(Seen::Ping(payload))),
            opcode::PONG => return Ok(Some(Seen::Pong(payload))),
            opcode::CLOSE => {
                self.closed = true;
                return close(&payload).map(Some);
            }
            opcode::CONTINUATION => {
                let Some((_, message)) = &mut self.message else {
                    return Err("a continuation of no message".to_owned());
                };
                message.extend_from_slice(&payload);
            }
            _ => {
                if self.message.is_some() {
                    return Err("a new message before the fragmented one was finished".to_owned());
                }
                self.message = Some((code, payload));
            }
        }
        if !fin {
            return Ok(None);
        }
        match self.message.take() {
            Some((opcode::TEXT, bytes)) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(Seen::Text(text))),
                Err(_) => Err("a text message that is not UTF-8".to_owned()),
            },
            Some((_, bytes)) => Ok(Some(Seen::Binary(bytes))),
            None => Ok(None),
        }
    }
}

struct Frame {
    opcode: u8,
    fin: bool,
    payload: Vec<u8>,
}

fn close(payload: &[u8]) -> Result<Seen, String> {
    let (code, reason) = match payload {
        [] => return Ok(Seen::Close(None, String::new())),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
        [_] => return Err("a close whose payload is one byte".to_owned()),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(format!(
            "a close with the code {code}, which nobody may send"
        ));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Seen::Close(Some(code), reason.to_owned())),
        Err(_) => Err("a close whose reason is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Seen> {
        let mut parser = Parser::default();
        parser.push(bytes);
        let mut seen: Vec<Seen> = std::iter::from_fn(|| parser.parse_next()).collect();
        if !seen.last().is_some_and(Seen::is_final) {
            seen.push(parser.end());
        }
        seen
    }

    fn breach(bytes: &[u8]) -> String {
        match all(bytes).pop() {
            Some(Seen::Violation(how)) => how,
            other => panic!("{bytes:x?} was taken for {other:?}"),
        }
    }

    fn text(text: &str) -> Seen {
        Seen::Text(text.to_owned())
    }

    #[test]
    fn good_bytes_are_understood_in_pieces_of_any_size() {
        let mut bytes = vec![0x81, 2, b'h', b'i', 0x82, 0, 0x89, 1, 7];
        // "né" in three fragments, cut within the letter, with a pong in between.
        bytes.extend_from_slice(&[0x01, 2, b'n', 0xc3, 0x8a, 0, 0x00, 0, 0x80, 1, 0xa9]);
        bytes.extend_from_slice(&[0x82, 126, 0, 126]);
        bytes.extend_from_slice(&[1; 126]);
        bytes.extend_from_slice(&[0x88, 5, 0x03, 0xf5, b'b', b'y', b'e']);
        let expected = [
            text("hi"),
            Seen::Binary(vec![]),
            Seen::Ping(vec![7]),
            Seen::Pong(vec![]),
            text("né"),
            Seen::Binary(vec![1; 126]),
            Seen::Close(Some(1013), "bye".to_owned()),
            Seen::End,
        ];
        assert_eq!(all(&bytes), expected);
        for size in 1..20 {
            let mut parser = Parser::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                parser.push(piece);
                seen.extend(std::iter::from_fn(|| parser.parse_next()));
            }
            assert_eq!(seen, expected[..7], "in pieces of {size}");
        }
    }

    #[test]
    fn long_frames_are_understood() {
        let mut bytes = vec![0x82, 127];
        bytes.extend_from_slice(&65_536_u64.to_be_bytes());
        bytes.extend_from_slice(&[3; 65_536]);
        assert_eq!(all(&bytes)[0], Seen::Binary(vec![3; 65_536]));
    }

    #[test]
    fn every_breach_is_named() {
        assert!(breach(&[0x81, 0x81, 0, 0, 0, 0, 0]).contains("masked"));
        assert!(breach(&[0xc1, 0]).contains("reserved bits"));
        assert!(breach(&[0x83, 0]).contains("reserved opcode"));
        assert!(breach(&[0x8b, 0]).contains("reserved opcode"));
        assert!(breach(&[0x09, 0]).contains("fragmented control"));
        assert!(breach(&[0x89, 126, 0, 126]).contains("125 is the most"));
        assert!(breach(&[0x80, 0]).contains("continuation of no message"));
        assert!(breach(&[0x01, 0, 0x81, 0]).contains("before the fragmented one"));
        assert!(breach(&[0x81, 1, 0xff]).contains("not UTF-8"));
        assert!(breach(&[0x01, 1, 0xc3, 0x80, 1, 0x28]).contains("not UTF-8"));
        assert!(breach(&[0x81, 126, 0, 5]).contains("shortest"));
        assert!(breach(&[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 200]).contains("shortest"));
        assert!(breach(&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]).contains("claims"));
        assert!(breach(&[0x88, 1, 3]).contains("one byte"));
        assert!(breach(&[0x88, 2, 0x03, 0xed]).contains("1005"));
        assert!(breach(&[0x88, 2, 0x03, 0xe7]).contains("999"));
        assert!(breach(&[0x88, 3, 0x03, 0xe8, 0xff]).contains("reason"));
        assert!(breach(&[0x88, 0, 0x81, 0]).contains("after the close"));
    }

    #[test]
    fn an_end_in_the_middle_is_no_clean_end() {
        assert!(breach(&[0x81]).contains("middle of a frame"));
        assert!(breach(&[0x81, 5, b'h']).contains("middle of a frame"));
        assert!(breach(&[0x01, 1, b'h']).contains("fragmented message"));
        assert_eq!(all(&[]), [Seen::End]);
        assert_eq!(
            all(&[0x01, 0, 0x88, 0]),
            [Seen::Close(None, String::new()), Seen::End]
        );
    }

    #[test]
    fn nothing_follows_a_breach() {
        let mut parser = Parser::default();
        parser.push(&[0x83, 0, 0x81, 0]);
        assert!(matches!(parser.parse_next(), Some(Seen::Violation(_))));
        parser.push(&[0x81, 0]);
        assert_eq!(parser.parse_next(), None);
    }
}
