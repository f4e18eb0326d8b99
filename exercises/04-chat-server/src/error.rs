//! What can go wrong, and the exit code that says so to whoever started the service.

use given::trouble::{Trouble, advice};
use redis::RedisError;

/// Everything that serving can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody can be listened to there.
    #[error("cannot listen on {address}: {source}. {}", where_to_listen(.source))]
    Listen {
        /// Where we tried.
        address: String,
        /// What the system says.
        source: std::io::Error,
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
}

impl Error {
    /// The exit code of the service for this error, after `sysexits.h` where that has one:
    /// 2 wrong usage, 69 Redis unreachable, 76 protocol, 77 not let in, 98 the address is taken.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Listen { .. } => 98,
            Error::UnexpectedReply(_) => 76,
            Error::Connect { source, .. } => Trouble::of(source).exit_code(69),
            Error::Redis(source) => Trouble::of(source).exit_code(76),
        }
    }

    /// Whether Redis is what is missing (connection lost, refused, timed out, server still loading),
    /// so that trying again may help.
    pub fn is_connection(&self) -> bool {
        self.exit_code() == 69
    }

    /// Whether Redis refused because this node was taken for dead: it was paused or away for so long
    /// that the others went on without it.
    pub fn is_dead_node(&self) -> bool {
        matches!(self, Error::Redis(error) if error.code() == Some("DEADNODE"))
    }
}

fn where_to_listen(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "Something listens there already: stop it, or give another --listen"
        }
        std::io::ErrorKind::PermissionDenied => {
            "Ports below 1024 are for the administrator: give another --listen"
        }
        _ => "Give the address of this machine: --listen ADDRESS:PORT",
    }
}
