//! What can go wrong between client and server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection could be opened.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// Where to.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The server closed the connection in the middle of something.
    #[error("the server closed the connection while the client {doing}, after {after} bytes")]
    Ended {
        /// What the client did, such as `was reading a chunk`.
        doing: &'static str,
        /// Bytes that had come on this connection.
        after: u64,
    },
    /// The connection broke: reset, for example.
    #[error("the connection broke while the client {doing}: {source}")]
    Broken {
        /// What the client did.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing came within the client's limit.
    #[error("nothing came from the server for {limit:.0?} while the client {doing}")]
    Silent {
        /// What the client did.
        doing: &'static str,
        /// How long it waited.
        limit: Duration,
    },
    /// The server sent what HTTP/1.1 does not allow.
    #[error("the server sent what is no HTTP/1.1: {what}; the bytes there are {near}")]
    Malformed {
        /// What is wrong.
        what: String,
        /// The first bytes of what is wrong, escaped.
        near: String,
    },
    /// The client has read as many bytes as it was told to:
    /// [`Connection::stop_after`](super::Connection::stop_after).
    #[error("the client stopped reading after {0} bytes, as it was told to")]
    Stopped(u64),
}

impl HttpError {
    pub(super) fn malformed(what: impl Into<String>, bytes: &[u8]) -> Self {
        let shown = &bytes[..bytes.len().min(60)];
        HttpError::Malformed {
            what: what.into(),
            near: format!("\"{}\"", shown.escape_ascii()),
        }
    }

    /// True if the connection is over, in an orderly way or not: the server has closed, reset or
    /// refused it.
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            HttpError::Connect { .. } | HttpError::Ended { .. } | HttpError::Broken { .. }
        )
    }
}
