//! What can go wrong, and the exit code that says so to whoever started the service.

use given::trouble::{Trouble, advice};
use redis::RedisError;

use crate::entry::DecodeError;

/// Everything that a call of this crate can fail with.
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
    /// A message needs at least one field, because a stream entry does.
    #[error("the message has no fields: a stream entry needs at least one")]
    EmptyMessage,
    /// An entry's fields are not text.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Error {
    /// The exit code of the service for this error, after `sysexits.h`:
    /// 2 wrong usage, 65 bad input, 69 broker unreachable, 76 protocol or wrong type, 77 not let in.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::EmptyMessage | Error::Decode(_) => 65,
            Error::UnexpectedReply(_) => 76,
            Error::Connect { source, .. } => Trouble::of(source).exit_code(69),
            Error::Redis(source) => Trouble::of(source).exit_code(76),
        }
    }

    /// Whether the connection is what failed (lost, refused, timed out, server still loading), so
    /// that connecting again may help. A command that was cut off may or may not have taken effect.
    pub fn is_connection(&self) -> bool {
        self.exit_code() == 69
    }
}
