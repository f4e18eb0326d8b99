//! Connections to RabbitMQ and to Redis, and what their errors mean.

use std::time::Duration;

use given::connection::without_password;
use lapin::types::ReplyCode;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::Mutex;

use crate::error::Error;

/// How long connecting to RabbitMQ may take, greeting included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Seconds between signs of life, unless the address says otherwise. RabbitMQ gives up a client that
/// was silent for two of them.
const HEARTBEAT: u16 = 10;
/// How long Redis may take for a command.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

const ACCESS_REFUSED: ReplyCode = 403;
const PRECONDITION_FAILED: ReplyCode = 406;
const NOT_ALLOWED: ReplyCode = 530;

/// Connects to RabbitMQ. `name` is what its operators see. The connection is not opened again by
/// itself once it is lost: everything on it fails then.
///
/// # Errors
/// [`Error::BadAddress`], [`Error::Unreachable`] (also when nobody answers within fifteen seconds),
/// [`Error::NotLetIn`] or [`Error::NoVirtualHost`].
pub(crate) async fn connect(url: &str, name: &str) -> Result<Connection, Error> {
    let shown = without_password(url);
    let bad = |why: String| Error::BadAddress {
        url: shown.clone(),
        why,
    };
    let mut address: AMQPUri = url.parse().map_err(bad)?;
    if address.scheme != AMQPScheme::AMQP {
        return Err(bad("connections with TLS are left out here".to_owned()));
    }
    address.query.heartbeat.get_or_insert(HEARTBEAT);
    let vhost = address.vhost.clone();
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect_uri(address, properties);
    let Ok(connected) = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await else {
        return Err(Error::Unreachable {
            url: shown,
            why: format!("no answer within {CONNECT_TIMEOUT:?}"),
        });
    };
    connected.map_err(|error| match reply(&error) {
        Some((ACCESS_REFUSED, _)) => Error::NotLetIn { url: shown },
        Some((NOT_ALLOWED, why)) => Error::NoVirtualHost {
            url: shown,
            vhost,
            why,
        },
        _ => Error::Unreachable {
            url: shown,
            why: error.to_string(),
        },
    })
}

/// The code and the text with which RabbitMQ closed a channel or a connection, if that is what an
/// error tells of.
pub(crate) fn reply(error: &lapin::Error) -> Option<(ReplyCode, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().to_string())),
        _ => None,
    }
}

/// Whether what was to be declared is there already, and differs.
pub(crate) fn is_declared_otherwise(error: &lapin::Error) -> bool {
    matches!(reply(error), Some((PRECONDITION_FAILED, _)))
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
