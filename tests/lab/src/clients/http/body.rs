//! Where the body of an answer ends, and what is in it.

use super::{Head, HttpError};

/// A chunk's size has at most so many digits: more is no size that anybody means.
const MOST_DIGITS: usize = 16;
const LONGEST_LINE: usize = 8 * 1024;

/// Takes the bytes after a head apart, as they come.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes are still to come.
    Sized(u64),
    Chunked(Chunked),
    /// All that comes until the connection ends.
    UntilClose,
    Over,
}

impl Body {
    /// How the body of this answer is framed (RFC 9112, section 6.3).
    pub(super) fn of(method: &str, head: &Head) -> Result<Self, HttpError> {
        let wrong = |what: String| Err(HttpError::malformed(what, b""));
        let codings: Vec<&str> = head.headers.all("transfer-encoding").collect();
        let lengths: Vec<&str> = head.headers.all("content-length").collect();
        if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Body::Over);
        }
        match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => Ok(Body::UntilClose),
            ([coding], []) if coding.eq_ignore_ascii_case("chunked") => {
                Ok(Body::Chunked(Chunked::default()))
            }
            ([], [length]) => match length.parse() {
                Ok(0) => Ok(Body::Over),
                Ok(length) => Ok(Body::Sized(length)),
                Err(_) => wrong(format!("the content length is {length:?}")),
            },
            ([], _) => wrong(format!("there are several content lengths: {lengths:?}")),
            (_, []) => wrong(format!(
                "the transfer coding is {codings:?}, and only `chunked` was expected"
            )),
            _ => wrong("there is a content length as well as a transfer coding".to_owned()),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Body::Over)
    }

    /// Takes what it can from `bytes`, puts the content into `content`, and says how many bytes
    /// it took.
    pub(super) fn take(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> Result<usize, HttpError> {
        match self {
            Body::Over => Ok(0),
            Body::UntilClose => {
                content.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Body::Sized(left) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| bytes.len().min(left));
                content.extend_from_slice(&bytes[..taken]);
                *left -= taken as u64;
                if *left == 0 {
                    *self = Body::Over;
                }
                Ok(taken)
            }
            Body::Chunked(chunked) => {
                let taken = chunked.take(bytes, content)?;
                if chunked.part == Part::Over {
                    *self = Body::Over;
                }
                Ok(taken)
            }
        }
    }

    /// What the client is doing, for an error.
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Body::Chunked(chunked) if chunked.part == Part::Size => "was waiting for a chunk",
            Body::Chunked(_) => "was reading a chunk",
            _ => "was reading the body",
        }
    }
}

/// The chunked coding (RFC 9112, section 7.1), to the letter.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    part: Part,
    left: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Part {
    /// The line with a chunk's size.
    #[default]
    Size,
    Data,
    /// The line end after a chunk's data.
    DataEnd,
    /// The lines after the last chunk.
    Trailers,
    Over,
}

impl Chunked {
    fn take(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> Result<usize, HttpError> {
        let mut taken = 0;
        while self.part != Part::Over {
            let rest = &bytes[taken..];
            if self.part == Part::Data {
                let part =
                    usize::try_from(self.left).map_or(rest.len(), |left| rest.len().min(left));
                if part == 0 {
                    break;
                }
                content.extend_from_slice(&rest[..part]);
                taken += part;
                self.left -= part as u64;
                if self.left == 0 {
                    self.part = Part::DataEnd;
                }
                continue;
            }
            let Some(line) = line(rest)? else { break };
            taken += line.len() + 2;
            self.read_line(line)?;
        }
        Ok(taken)
    }

    fn read_line(&mut self, line: &[u8]) -> Result<(), HttpError> {
        match self.part {
            Part::Size => {
                self.left = size(line)?;
                self.part = if self.left == 0 {
                    Part::Trailers
                } else {
                    Part::Data
                };
            }
            Part::DataEnd if line.is_empty() => self.part = Part::Size,
            Part::DataEnd => {
                let what = "a chunk is longer than its size says";
                return Err(HttpError::malformed(what, line));
            }
            Part::Trailers if line.is_empty() => self.part = Part::Over,
            Part::Trailers if line.contains(&b':') && !line.starts_with(b" ") => {}
            Part::Trailers => {
                let what = "what follows the last chunk is no header";
                return Err(HttpError::malformed(what, line));
            }
            Part::Data | Part::Over => {}
        }
        Ok(())
    }
}

/// The first line of `bytes` without its line end, if it has come.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, HttpError> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        if bytes.len() > LONGEST_LINE {
            return Err(HttpError::malformed("a line has no end", bytes));
        }
        return Ok(None);
    };
    match bytes[..end].strip_suffix(b"\r") {
        Some(line) if !line.contains(&b'\r') => Ok(Some(line)),
        _ => Err(HttpError::malformed(
            "a line of the chunked coding does not end with CR LF",
            bytes,
        )),
    }
}

/// Hexadecimal digits, and perhaps an extension after them.
fn size(line: &[u8]) -> Result<u64, HttpError> {
    let wrong = || HttpError::malformed("a chunk's size cannot be read", line);
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    if digits.is_empty()
        || digits.len() > MOST_DIGITS
        || !digits.iter().all(u8::is_ascii_hexdigit)
        || line.iter().any(|byte| byte.is_ascii_control())
    {
        return Err(wrong());
    }
    let text = std::str::from_utf8(digits).map_err(|_| wrong())?;
    u64::from_str_radix(text, 16).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of a chunked body, fed in pieces of `step` bytes; what comes after it is left.
    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize), HttpError> {
        let mut body = Body::Chunked(Chunked::default());
        let (mut content, mut begin, mut end) = (Vec::new(), 0, 0);
        while !body.is_over() && end < bytes.len() {
            end = bytes.len().min(end + step);
            begin += body.take(&bytes[begin..end], &mut content)?;
        }
        assert!(body.is_over(), "it is not over after {end} bytes");
        Ok((content, bytes.len() - begin))
    }

    #[test]
    fn chunks_are_put_together_however_they_come() {
        let bytes = b"5\r\nhello\r\n1;name=\"value\"\r\n \r\n00a\r\n0123456789\r\n0\r\nx-a: b\r\n\r\nHTTP/1.1";
        for step in 1..bytes.len() {
            let (content, left) = decode(bytes, step).unwrap();
            assert_eq!(content, b"hello 0123456789", "in steps of {step}");
            assert!(left <= 8);
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        let bad: [&[u8]; 14] = [
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloo\r\n0\r\n\r\n",
            b"6\r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"g\r\nhello\r\n0\r\n\r\n",
            b"-1\r\nhello\r\n0\r\n\r\n",
            b"11111111111111111\r\nhello\r\n0\r\n\r\n",
            b"0\r\nno header\r\n\r\n",
            b"5\r\r\nhello\r\n0\r\n\r\n",
        ];
        for bytes in bad {
            for step in [1, 3, bytes.len()] {
                let decoded = decode(bytes, step);
                let refused = matches!(decoded, Err(HttpError::Malformed { .. }));
                assert!(refused, "{} gave {decoded:?}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut body = Body::Chunked(Chunked::default());
        let bytes = vec![b'1'; LONGEST_LINE + 1];
        assert!(body.take(&bytes, &mut Vec::new()).is_err());
    }

    fn framed(method: &str, head: &str) -> Result<Body, HttpError> {
        let (head, _) = Head::parse(head.as_bytes()).unwrap().unwrap();
        Body::of(method, &head)
    }

    #[test]
    fn the_head_tells_where_the_body_ends() {
        let get = |head: &str| framed("GET", head);
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";
        assert!(matches!(get(chunked), Ok(Body::Chunked(_))));
        assert!(matches!(framed("HEAD", chunked), Ok(Body::Over)));
        let sized = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n";
        assert!(matches!(get(sized), Ok(Body::Sized(12))));
        assert!(matches!(
            get("HTTP/1.1 204 No Content\r\n\r\n"),
            Ok(Body::Over)
        ));
        assert!(matches!(
            get("HTTP/1.1 200 OK\r\n\r\n"),
            Ok(Body::UntilClose)
        ));
        for bad in [
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        ] {
            assert!(get(bad).is_err(), "{bad}");
        }
    }
}
