//! The bytes on the wire: an event, and what else a stream may carry.

use std::time::Duration;

use bytes::Bytes;

use crate::error::FrameError;
use crate::event::{Event, Id};

/// The bytes of one event on the wire:
///
/// ```text
/// id: 1763917200000-0
/// event: price
/// data: the first line
/// data: the second line
///
/// ```
///
/// The fields stand in this order, each `data:` line with one space after the colon, which the
/// receiver takes away again, and an empty line ends the event. `event:` is always there, and there is
/// always at least one `data:` line: without one, a browser drops the event.
///
/// Any text arrives as it was sent: leading spaces, empty lines, line breaks at the end, NUL, U+2028.
/// Only a carriage return cannot: the format takes CR, LF and CR LF for a line's end alike, so each of
/// them splits the data into another line and arrives as LF. The topic is not sent.
///
/// # Errors
/// [`FrameError`] if the id or the type has a CR, an LF or a NUL in it: the rest would be taken for
/// another field, or the id not be taken at all.
pub fn frame(event: &Event) -> Result<Bytes, FrameError> {
    // stub stage 1: refuse CR, LF and NUL in id and type; then id, event, a data line for each line
    for (field, text) in [("id", &event.id), ("type", &event.kind)] {
        if text.contains(['\r', '\n', '\0']) {
            return Err(FrameError { field });
        }
    }
    let mut frame = String::with_capacity(event.data.len() + 64);
    frame += &format!("id: {}\nevent: {}\n", event.id, event.kind);
    for line in lines(&event.data) {
        frame += "data: ";
        frame += line;
        frame.push('\n');
    }
    frame.push('\n');
    Ok(frame.into())
    // end stub
}

/// What a stream begins with: how many milliseconds a client shall wait before it connects again.
/// `retry: 2000` and an empty line. A browser that reads it knows that it is connected.
pub(crate) fn retry(pause: Duration) -> Bytes {
    // stub stage 1: the line `retry: MILLISECONDS`, and an empty line
    format!("retry: {}\n\n", pause.as_millis()).into()
    // end stub
}

/// What a client is told whose last id is not known: `event: reset` with the data
/// `{"oldest":"ID"}`, or `{"oldest":null}` when nothing is kept. It has no `id:`, so that the client
/// keeps the one it has until the next event brings another.
pub(crate) fn reset(oldest: Option<Id>) -> Bytes {
    // stub stage 4: an event of type reset without an id, its data a JSON object
    let oldest = oldest.map_or("null".into(), |id| format!("\"{id}\""));
    format!("event: reset\ndata: {{\"oldest\":{oldest}}}\n\n").into()
    // end stub
}

/// A comment, `:` and an empty line: it keeps a connection alive, and no client sees an event.
pub(crate) fn comment() -> Bytes {
    // stub stage 5: a line with a colon, and an empty line
    Bytes::from_static(b":\n\n")
    // end stub
}

// solution only
/// The lines of a text as the receiver will see them. Unlike `str::lines` it knows the lone CR, and
/// keeps the empty line behind a line break at the end.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let (line, behind) = text.split_at(end);
        rest = Some(behind.strip_prefix("\r\n").unwrap_or(&behind[1..]));
        Some(line)
    })
}
// end solution only
