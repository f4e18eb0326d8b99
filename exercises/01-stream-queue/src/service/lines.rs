//! The lines of standard input, each as a message or as what is wrong with it.

use std::io::{self, BufRead, Read as _};

use stream_queue::Message;
use tokio::sync::mpsc;

/// The longest line, in bytes.
const LONGEST: u64 = 1024 * 1024;
/// How many lines may wait to be sent.
const AHEAD: usize = 2_000;

/// One line that was not blank.
pub struct Line {
    /// Counted from 1, blank lines included.
    pub number: u64,
    /// The message, or what is wrong with it.
    pub message: Result<Message, String>,
}

/// Reads standard input on a thread of its own until its end. The thread cannot be interrupted while
/// it waits for input, and so must not be one that the runtime waits for.
pub fn read() -> mpsc::Receiver<io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut number = 0;
        loop {
            number += 1;
            let line = match next(&mut input) {
                Ok(None) => return,
                Ok(Some(text)) if text.trim_ascii().is_empty() => continue,
                Ok(Some(text)) => Ok(Line {
                    number,
                    message: parse(&text),
                }),
                Err(error) => Err(error),
            };
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// The next line without its end; one byte more than allowed if it is too long.
fn next(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    input
        .by_ref()
        .take(LONGEST + 2)
        .read_until(b'\n', &mut text)?;
    if text.is_empty() {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    } else if text.len() as u64 > LONGEST {
        input.skip_until(b'\n')?;
    }
    Ok(Some(text))
}

fn parse(text: &[u8]) -> Result<Message, String> {
    if text.len() as u64 > LONGEST {
        return Err("longer than 1 MiB".into());
    }
    let message: Message =
        serde_json::from_slice(text).map_err(|error| format!("not a JSON object: {error}"))?;
    match stream_queue::fields(&message) {
        Ok(_) => Ok(message),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_and_the_last_needs_no_end() {
        let mut input = io::Cursor::new("a\n\nb");
        let mut lines = Vec::new();
        while let Some(line) = next(&mut input).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["a", "", "b"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end() {
        let longest = LONGEST as usize;
        let text = [
            "x".repeat(longest),
            "y".repeat(longest + 1),
            "z".repeat(3 * longest),
            "end".into(),
        ]
        .join("\n");
        let mut input = io::Cursor::new(text);
        let mut fits = Vec::new();
        while let Some(line) = next(&mut input).unwrap() {
            fits.push(line.len() <= longest);
        }
        assert_eq!(fits, [true, false, false, true]);
    }

    #[test]
    fn only_an_object_is_a_message() {
        for wrong in ["[1]", "17", "{\"a\":", "\u{feff}{}"] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse(b"{\"a\": \xff}").is_err());
    }
}
