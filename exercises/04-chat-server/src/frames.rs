//! What client and server say to each other: text messages, one JSON object each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};

/// What a client asks for. Fields that are not named here are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ClientFrame {
    /// Become a member of a room.
    Join {
        room: String,
        /// The number of the last message seen: what is kept after it comes first.
        since: Option<u64>,
    },
    /// Stop being a member of a room.
    Leave { room: String },
    /// Say something to everybody else in a room.
    Say { room: String, text: String },
    /// Ask who is in a room.
    Who { room: String },
}

/// The types of [`ClientFrame`], as they stand in the frames.
pub const CLIENT_FRAMES: [&str; 4] = ["join", "leave", "say", "who"];

/// What the server tells a client.
///
/// [`encode`](Self::encode) is the one way to put it on the wire.
#[derive(Debug, Clone, Copy)]
pub enum ServerFrame<'a> {
    /// `name` is a member of `room` now, whose last message has the number `seq` (0: there is none).
    Joined {
        room: &'a str,
        name: &'a str,
        seq: u64,
    },
    /// `name` is not a member of `room` any more.
    Left { room: &'a str, name: &'a str },
    /// Somebody said something.
    Message(&'a Message),
    /// Who is in a room, sorted.
    Members { room: &'a str, names: &'a [String] },
    /// Something was not done, and why.
    Error(&'a ErrorFrame),
}

/// Something that was said in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    pub room: String,
    pub from: String,
    pub text: String,
    /// 1, 2, 3 … in each room.
    pub seq: u64,
    /// When, in RFC 3339 and UTC.
    pub at: String,
}

/// Why a frame was not obeyed. The session lives on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorFrame {
    pub code: ErrorCode,
    /// For people. At most a hundred characters of it are the client's own words.
    pub detail: String,
    /// Of `gap` only: the room …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// … and the number of the first message that follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
}

/// The kinds of [`ErrorFrame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON, not an object, or a field is missing or of the wrong type.
    BadJson,
    /// An object with a `type` that there is not.
    UnknownType,
    /// Not the name of a room.
    BadRoom,
    /// Nothing was said.
    BadText,
    /// The client is not in that room.
    NotAMember,
    /// A binary message.
    Binary,
    /// Too many messages: this one was dropped.
    RateLimited,
    /// Redis is away: the frame was not obeyed.
    Unavailable,
    /// Messages are missing here.
    Gap,
    /// A client can only be in so many rooms.
    TooManyRooms,
}

/// How many characters of what a client sent an error may repeat.
const QUOTED: usize = 100;

impl ErrorFrame {
    /// An error with a detail of which only the first hundred characters are kept, because there may
    /// be words of the client in it.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(QUOTED) {
            detail.truncate(end);
            detail.push('…');
        }
        ErrorFrame {
            code,
            detail,
            room: None,
            oldest: None,
        }
    }

    /// The error that says: messages of `room` are missing here, the next one is number `oldest`.
    pub fn gap(room: &str, oldest: u64) -> Self {
        ErrorFrame {
            room: Some(room.to_owned()),
            oldest: Some(oldest),
            ..ErrorFrame::new(
                ErrorCode::Gap,
                format!("messages before number {oldest} are not kept any more"),
            )
        }
    }
}

/// Now, as it stands in [`Message::at`].
pub fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

static ENCODINGS: AtomicU64 = AtomicU64::new(0);

/// How often a frame was encoded in this process, for one client or for many.
pub fn encodings() -> u64 {
    ENCODINGS.load(Ordering::Relaxed)
}

impl ServerFrame<'_> {
    /// The frame as it goes over the wire. A copy of what this returns costs next to nothing, while
    /// this call costs, and is [counted](encodings).
    pub fn encode(&self) -> Utf8Bytes {
        ENCODINGS.fetch_add(1, Ordering::Relaxed);
        let wire = match *self {
            ServerFrame::Joined { room, name, seq } => Wire::Joined { room, name, seq },
            ServerFrame::Left { room, name } => Wire::Left { room, name },
            ServerFrame::Message(message) => Wire::Message(message),
            ServerFrame::Members { room, names } => Wire::Members {
                room,
                members: names,
            },
            ServerFrame::Error(error) => Wire::Error(error),
        };
        // Text, numbers and lists of them: there is nothing that could fail.
        serde_json::to_string(&wire).unwrap_or_default().into()
    }
}

/// A [`ServerFrame`] as JSON has it.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Wire<'a> {
    Joined {
        room: &'a str,
        name: &'a str,
        seq: u64,
    },
    Left {
        room: &'a str,
        name: &'a str,
    },
    Message(&'a Message),
    Members {
        room: &'a str,
        members: &'a [String],
    },
    Error(&'a ErrorFrame),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_look_as_documented() {
        let joined = ServerFrame::Joined {
            room: "tea",
            name: "ada",
            seq: 3,
        };
        let gap = ErrorFrame::gap("tea", 7);
        for (frame, expected) in [
            (
                joined,
                r#"{"type":"joined","room":"tea","name":"ada","seq":3}"#,
            ),
            (
                ServerFrame::Error(&gap),
                r#"{"type":"error","code":"gap","detail":"messages before number 7 are not kept any more","room":"tea","oldest":7}"#,
            ),
        ] {
            assert_eq!(frame.encode().as_str(), expected);
        }
    }

    #[test]
    fn an_error_repeats_a_hundred_characters_at_most() {
        let error = ErrorFrame::new(ErrorCode::BadJson, "ü".repeat(5_000));
        assert_eq!(error.detail.chars().count(), 101);
    }
}
