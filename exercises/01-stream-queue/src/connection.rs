//! Connections to Redis, with the time limits that their use needs.

use std::time::Duration;

use given::connection::without_password;
use redis::aio::MultiplexedConnection;

use crate::error::Error;

/// How long a command may take that is not meant to block. The library's own default of 500 ms
/// would call a busy server dead.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects for ordinary commands: each must be answered within five seconds.
///
/// The connection may be cloned and shared. Once it is lost every command on it fails: connect again.
///
/// # Errors
/// [`Error::Connect`] if Redis cannot be reached within three seconds, refuses the credentials, or
/// the address is not one.
pub async fn connect(url: &str) -> Result<MultiplexedConnection, Error> {
    open(url, Some(RESPONSE_TIMEOUT)).await
}

/// Connects for commands that block, such as `XREADGROUP … BLOCK`: without a response timeout.
///
/// Such a connection must not be shared: whatever is sent on it while it blocks waits as long. Set a
/// timeout that suits the command with
/// [`set_response_timeout`](MultiplexedConnection::set_response_timeout), or a peer that vanished
/// without a word is waited for for ever.
///
/// # Errors
/// As [`connect`].
pub async fn connect_for_blocking(url: &str) -> Result<MultiplexedConnection, Error> {
    open(url, None).await
}

async fn open(
    url: &str,
    response_timeout: Option<Duration>,
) -> Result<MultiplexedConnection, Error> {
    let opened = given::connection::open(url, response_timeout).await;
    opened.map_err(|source| Error::Connect {
        url: without_password(url),
        source,
    })
}
