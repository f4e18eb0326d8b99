// Stub 02e3e6731eb48487: this file is yours to write. `cargo xtask reset live-feed` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

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
    todo!(
        "stage 1: refuse CR, LF and NUL in id and type; then id, event, a data line for each line"
    )
}

/// What a stream begins with: how many milliseconds a client shall wait before it connects again.
/// `retry: 2000` and an empty line. A browser that reads it knows that it is connected.
pub(crate) fn retry(pause: Duration) -> Bytes {
    todo!("stage 1: the line `retry: MILLISECONDS`, and an empty line")
}

/// What a client is told whose last id is not known: `event: reset` with the data
/// `{"oldest":"ID"}`, or `{"oldest":null}` when nothing is kept. It has no `id:`, so that the client
/// keeps the one it has until the next event brings another.
pub(crate) fn reset(oldest: Option<Id>) -> Bytes {
    todo!("stage 4: an event of type reset without an id, its data a JSON object")
}

/// A comment, `:` and an empty line: it keeps a connection alive, and no client sees an event.
pub(crate) fn comment() -> Bytes {
    todo!("stage 5: a line with a colon, and an empty line")
}
