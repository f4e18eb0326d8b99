//! What can go wrong, and the exit code that says so to whoever started the service.

use given::trouble::{Trouble, advice};
use redis::RedisError;

/// What a handler may fail with: any error, or a text with `?` or `.into()`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Everything that a call of this crate can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text cannot be the name of an event.
    #[error(
        "`{0}` is no name of an event: 1 to 255 bytes, words of A-Z, a-z, 0-9, _ and -, joined by single dots"
    )]
    BadName(String),
    /// Data cannot be written as JSON, or is not what was to be read.
    #[error("the event's data does not fit: {0}")]
    BadData(String),
    /// A text is no pattern.
    #[error(
        "`{0}` is no pattern: a name of an event, in which a whole word may be * (one word) or # (any number of words)"
    )]
    BadPattern(String),
    /// A text is no place in a log.
    #[error(
        "`{0}` is no place in a log: an id such as 1763917200000-0, or a time such as 2026-11-25T08:00:00Z"
    )]
    BadStart(String),
    /// The bus is shut down.
    #[error("the bus is shut down")]
    Closed,
    /// A subscription needs a runtime to run its handler in.
    #[error("no Tokio runtime here: subscribe inside one")]
    NoRuntime,
    /// A handler published, and some queues had no room: a handler does not wait for room. All
    /// other subscriptions have the event.
    #[error(
        "published from inside a handler: {missed} subscription(s) had no room and missed the event"
    )]
    Full {
        /// How many subscriptions do not get the event.
        missed: usize,
    },
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
    /// Another was first: the state has another version by now. Nothing was written.
    #[error("the state `{key}` is not at version {version} any more: load it again")]
    Conflict {
        /// Which state.
        key: String,
        /// The version that was expected.
        version: u64,
    },
    /// Money is to be given back that was never charged.
    #[error("nothing was charged under the key `{0}`")]
    NeverCharged(String),
}

impl Error {
    /// The exit code of the service for this error, after `sysexits.h`: 2 wrong usage, 65 bad
    /// input, 69 Redis unreachable, 76 protocol or wrong type, 77 not let in.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::BadName(_) | Error::BadData(_) | Error::NeverCharged(_) => 65,
            Error::BadPattern(_) | Error::BadStart(_) => 2,
            Error::Closed | Error::NoRuntime | Error::Full { .. } | Error::Conflict { .. } => 1,
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
