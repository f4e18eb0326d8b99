//! A plain HTTP/1.1 client, made for checks.
//!
//! It does what well-behaved clients hide: it keeps every byte that came, stops reading at a given
//! byte, resets the connection or closes half of it. It takes nothing that the protocol does not
//! allow: a chunk that is framed wrongly is an error, not a guess.
//!
//! ```no_run
//! # use lab::clients::http::{Client, Request};
//! # async fn example(lab: &lab::Lab, addr: std::net::SocketAddr) -> Result<(), lab::Failure> {
//! let client = Client::new(addr, lab.deadline());
//! let answer = client.request(&Request::get("/healthz")).await?;
//! assert_eq!(answer.status, 200);
//! # Ok(()) }
//! ```

mod body;
mod connection;
mod error;
mod message;

pub use connection::Connection;
pub use error::HttpError;
pub use message::{Head, Headers, Request, Response};

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Where to connect to, and how patiently. A copy is the same client.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    addr: SocketAddr,
    limit: Duration,
    receive_buffer: Option<u32>,
    keep: bool,
}

impl Client {
    /// A client for the server at `addr`. `limit` is how long it waits for what should come at
    /// once: a connection, or the next part of an answer.
    pub fn new(addr: SocketAddr, limit: Duration) -> Self {
        Client {
            addr,
            limit,
            receive_buffer: None,
            keep: true,
        }
    }

    /// Asks the system for a receive buffer of so many bytes, so that a client that does not read
    /// is noticed early. The system may give somewhat more.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Does not keep the bytes that came: for streams of many megabytes.
    pub fn forget_bytes(mut self) -> Self {
        self.keep = false;
        self
    }

    /// The server's address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How long it waits.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`HttpError::Connect`].
    pub async fn connect(&self) -> Result<Connection, HttpError> {
        Connection::open(self).await
    }

    /// Sends a request on a connection of its own and reads the whole answer.
    ///
    /// # Errors
    /// No connection, an answer that is no HTTP/1.1, or none within the limit.
    pub async fn request(&self, request: &Request) -> Result<Response, HttpError> {
        self.connect().await?.request(request).await
    }
}

/// Lets this process, and the services it starts from now on, open as many files as the system
/// allows, for checks with a thousand connections. Returns how many that is.
///
/// # Errors
/// The system does not say how many there may be.
pub fn open_many_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // macOS calls it unlimited, and takes no more than this.
    let wanted = hard.min(10_240).max(soft);
    if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
        return Ok(soft);
    }
    Ok(wanted)
}
