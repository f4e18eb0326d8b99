//! Connections to RabbitMQ and to Redis, and what their errors mean.

use std::time::Duration;

use given::connection::without_password;
use lapin::Connection;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use crate::error::Error;

/// How long Redis may take for a command.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to RabbitMQ. `name` is what its operators see. The connection is not opened again by
/// itself once it is lost: everything on it fails then.
///
/// # Errors
/// [`Error::Amqp`], also when nobody answers within fifteen seconds.
pub(crate) async fn connect(url: &str, name: &str) -> Result<Connection, Error> {
    Ok(given::amqp::connect(url, name).await?)
}

/// A connection to Redis that is opened again, by the next call, once it was lost.
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
    /// [`Error::Redis`] if Redis cannot be reached within three seconds, refuses the credentials, or
    /// the address is not one.
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
    /// As [`connect`](Self::connect).
    pub async fn connection(&self) -> Result<MultiplexedConnection, Error> {
        let mut open = self.open.lock().await;
        if let Some(connection) = &*open {
            return Ok(connection.clone());
        }
        let opened = given::connection::open(&self.url, Some(RESPONSE_TIMEOUT)).await;
        let connection = opened.map_err(|source| Error::Redis {
            url: without_password(&self.url),
            source,
        })?;
        Ok(open.insert(connection).clone())
    }

    /// Passes on what a command answered. If it was the connection that failed, the next call of
    /// [`connection`](Self::connection) opens another.
    ///
    /// # Errors
    /// [`Error::Store`] with the error of the command.
    pub async fn answer<T>(&self, answer: RedisResult<T>) -> Result<T, Error> {
        let answer = answer.map_err(Error::from);
        if matches!(&answer, Err(error) if error.is_connection()) {
            *self.open.lock().await = None;
        }
        answer
    }
}

/// The pauses between attempts to connect again: 50 ms, doubled each time, at most 2 s.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(2);

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
