//! What can go wrong at a start, and why a request may be refused.

use given::trouble::{Trouble, advice};
use redis::RedisError;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis could not be reached, or did not let us in.
    #[error("cannot connect to Redis at {url}: {source}. {}", advice(.source))]
    Connect {
        /// Where we tried, with the password masked.
        url: String,
        /// What the client library reported.
        source: RedisError,
    },
    /// A command failed: Redis refused it, or the connection was lost before its reply came.
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    /// Redis answered with something that is not the reply of the command sent.
    #[error("Redis sent a reply that does not fit the command: {0}")]
    UnexpectedReply(String),
}

impl Error {
    /// The exit code of the service for this error, after `sysexits.h`:
    /// 2 wrong usage, 69 broker unreachable, 76 protocol or wrong type, 77 not let in.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::UnexpectedReply(_) => 76,
            Error::Connect { source, .. } => Trouble::of(source).exit_code(69),
            Error::Redis(source) => Trouble::of(source).exit_code(76),
        }
    }

    /// Whether the connection is what failed (lost, refused, timed out, server still loading), so
    /// that connecting again may help. A command that was cut off may or may not have taken effect.
    pub fn is_connection(&self) -> bool {
        match self {
            Error::UnexpectedReply(_) => false,
            Error::Connect { source, .. } => {
                matches!(Trouble::of(source), Trouble::Unreachable | Trouble::Other)
            }
            Error::Redis(source) => matches!(Trouble::of(source), Trouble::Unreachable),
        }
    }
}

/// Text that would break out of its line in a frame, and so begin another field or another event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event's {field} has a line break or a NUL in it and cannot be sent")]
pub struct FrameError {
    /// `"id"` or `"type"`.
    pub field: &'static str,
}

/// Why a stream is not opened, or an event not accepted. The given code makes the answer of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The topic is finished: nothing can be added to it (409).
    TopicFinished,
    /// The topic is finished, and the client has all of it (204: it need not come again).
    NothingLeft,
    /// As many streams are open as may be (503).
    TooManyClients,
    /// The node is stopping (503).
    Stopping,
    /// Redis is away (503).
    RedisAway,
    /// The event cannot be framed (422).
    Frame(FrameError),
}

impl From<FrameError> for Refused {
    fn from(error: FrameError) -> Self {
        Refused::Frame(error)
    }
}
