//! What has to be known about axum's WebSocket, which is tungstenite's, and what it does not tell.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocketUpgrade};
use tungstenite::Error as Cause;

/// Bytes of the buffer that a connection reads into. The default of 128 KiB would be kept for each
/// connection, and filled with zeros before each read.
const READ_BUFFER: usize = 8 * 1024;

/// Bytes that are gathered before they are written, unless a flush comes first.
const WRITE_BUFFER: usize = 8 * 1024;

/// Bytes of one outgoing frame at most: a large message, or a very long list of members. The default
/// is no limit at all.
const LARGEST_FRAME: usize = 1024 * 1024;

/// Gives a connection small buffers, and its write buffer an end.
pub fn with_small_buffers(upgrade: WebSocketUpgrade, max_message: usize) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + LARGEST_FRAME.saturating_add(max_message))
}

/// A code and a reason to close with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goodbye {
    pub code: u16,
    pub reason: &'static str,
}

impl Goodbye {
    /// Nothing went wrong.
    pub const NORMAL: Goodbye = Goodbye::new(1000, "");
    /// The server is stopping.
    pub const STOPPING: Goodbye = Goodbye::new(1001, "the server is stopping");
    /// The client broke the rules of the protocol.
    pub const PROTOCOL: Goodbye = Goodbye::new(1002, "this is not WebSocket");
    /// A text message was not UTF-8.
    pub const NOT_UTF8: Goodbye = Goodbye::new(1007, "text has to be UTF-8");
    /// The name belongs to somebody else by now.
    pub const NAME_TAKEN: Goodbye = Goodbye::new(1008, "the name was taken meanwhile");
    /// A message was too big.
    pub const TOO_BIG: Goodbye = Goodbye::new(1009, "the message is too big");
    /// The client does not read what it is sent.
    pub const TOO_SLOW: Goodbye = Goodbye::new(1013, "too slow to keep up");

    const fn new(code: u16, reason: &'static str) -> Self {
        Goodbye { code, reason }
    }

    /// The close code that fits a failed read, or `None` if there is nobody left to tell.
    ///
    /// After an error the stream of messages is over (it yields `None`), but as long as the
    /// connection stands a Close frame can still be sent.
    pub fn for_error(error: axum::Error) -> Option<Self> {
        let cause = error.into_inner().downcast::<Cause>().ok()?;
        match *cause {
            Cause::Capacity(_) => Some(Goodbye::TOO_BIG),
            Cause::Utf8(_) => Some(Goodbye::NOT_UTF8),
            Cause::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                None
            }
            Cause::Protocol(_) => Some(Goodbye::PROTOCOL),
            _ => None,
        }
    }
}

impl From<Goodbye> for Message {
    fn from(goodbye: Goodbye) -> Self {
        Message::Close(Some(CloseFrame {
            code: goodbye.code,
            reason: Utf8Bytes::from_static(goodbye.reason),
        }))
    }
}
