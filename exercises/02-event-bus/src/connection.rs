//! Connections to Redis, with the time limits that their use needs.

use std::time::Duration;

use given::connection::without_password;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

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
pub(crate) async fn connect(url: &str) -> Result<MultiplexedConnection, Error> {
    open(url, Some(RESPONSE_TIMEOUT)).await
}

/// Connects for commands that block, such as `XREAD BLOCK`: without a response timeout.
///
/// Such a connection must not be shared: whatever is sent on it while it blocks waits as long. Set a
/// timeout that suits the command with
/// [`set_response_timeout`](MultiplexedConnection::set_response_timeout), or a peer that vanished
/// without a word is waited for for ever.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn connect_for_blocking(url: &str) -> Result<MultiplexedConnection, Error> {
    open(url, None).await
}

/// A connection for ordinary commands that is opened again, by the next call, once it was lost.
///
/// ```text
/// let mut connection = link.connection().await?;
/// let answer = redis::cmd("PING").query_async(&mut connection).await;
/// let pong: String = link.answer(answer).await?;
/// ```
#[derive(Debug)]
pub(crate) struct Link {
    url: String,
    open: Mutex<Option<MultiplexedConnection>>,
}

impl Link {
    /// Connects at once.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(url: &str) -> Result<Link, Error> {
        let link = Link {
            url: url.to_owned(),
            open: Mutex::default(),
        };
        link.connection().await?;
        Ok(link)
    }

    /// The connection that there is, or a new one.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connection(&self) -> Result<MultiplexedConnection, Error> {
        let mut open = self.open.lock().await;
        if let Some(connection) = &*open {
            return Ok(connection.clone());
        }
        let connection = connect(&self.url).await?;
        Ok(open.insert(connection).clone())
    }

    /// Passes on what a command answered. If it was the connection that failed, the next call of
    /// [`connection`](Self::connection) opens another.
    ///
    /// # Errors
    /// [`Error::Redis`] with the error of the command.
    pub async fn answer<T>(&self, answer: RedisResult<T>) -> Result<T, Error> {
        let answer = answer.map_err(Error::from);
        if matches!(&answer, Err(error) if error.is_connection()) {
            *self.open.lock().await = None;
        }
        answer
    }
}

/// The pauses between attempts to connect again: 50 ms, doubled each time, at most 5 s.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);

    /// The next pause is the first.
    pub fn new() -> Pauses {
        Pauses(Self::FIRST)
    }

    /// Waits for the next pause.
    pub async fn pause(&mut self) {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        tokio::time::sleep(pause).await;
    }
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
