//! A RabbitMQ as a check sees it.

mod differs;
mod forget;
mod messages;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::sync::Mutex;

use crate::Failure;
use crate::faults::amqp::AmqpProxy;

pub(crate) use forget::forget_declared;
pub use messages::Taken;

const NOT_FOUND: u16 = 404;

/// A RabbitMQ behind a proxy of this check's own. Clones are the same one.
#[derive(Clone)]
pub struct Rabbit {
    inner: Arc<Inner>,
}

struct Inner {
    upstream: String,
    proxy: AmqpProxy,
    limit: Duration,
    direct: Direct,
}

/// The lab's own connection, opened when it is needed. All that a check has of one RabbitMQ share it.
pub(crate) type Direct = Arc<Mutex<Option<Connection>>>;

/// What RabbitMQ says of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Messages that wait to be delivered; those that were and are not acknowledged are not among them.
    pub ready: u32,
    /// Who consumes from it.
    pub consumers: u32,
}

impl Rabbit {
    pub(crate) fn new(
        upstream: &str,
        began: std::time::Instant,
        note: Option<PathBuf>,
        limit: Duration,
        direct: Direct,
    ) -> Result<Self, Failure> {
        let proxy = AmqpProxy::start(upstream, began, note).map_err(|error| {
            Failure::infrastructure(format!(
                "the lab cannot start a proxy on this machine: {error}"
            ))
        })?;
        Ok(Rabbit {
            inner: Arc::new(Inner {
                upstream: upstream.to_owned(),
                proxy,
                limit,
                direct,
            }),
        })
    }

    /// What a candidate is given: the address of the proxy.
    pub fn url(&self) -> String {
        self.inner.proxy.url()
    }

    /// The same with `?heartbeat=`: RabbitMQ gives a client up that was silent for twice that long.
    pub fn url_with_heartbeat(&self, seconds: u16) -> String {
        self.inner.proxy.url_with(|url| {
            url.set_query(Some(&format!("heartbeat={seconds}")));
        })
    }

    /// The proxy between the candidate and RabbitMQ.
    pub fn proxy(&self) -> &AmqpProxy {
        &self.inner.proxy
    }

    /// The broker's own address. Candidates never get it.
    pub fn upstream(&self) -> &str {
        &self.inner.upstream
    }

    /// Says that these are this check's, so that they are deleted after it. What is declared through the
    /// proxy is known already; this is for what a check declares itself. Their names carry the check's
    /// mark: see [`Lab::unique`](crate::Lab::unique).
    pub fn owns(&self, queues: &[&str], exchanges: &[&str]) {
        for queue in queues {
            self.inner.proxy.write_down("queue", queue);
        }
        for exchange in exchanges {
            self.inner.proxy.write_down("exchange", exchange);
        }
    }

    /// A channel of the lab's own, past the proxy: what it does is in no log, and no fault strikes it. A
    /// new one at each call, since RabbitMQ closes a channel at the first mistake on it. The connection is
    /// opened again if it was lost.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when RabbitMQ does not answer; so for all that follow.
    pub async fn direct(&self) -> Result<Channel, Failure> {
        let mut direct = self.inner.direct.lock().await;
        let usable = direct.as_ref().filter(|it| it.status().connected());
        if let Some(connection) = usable
            && let Ok(Ok(channel)) =
                tokio::time::timeout(self.inner.limit, connection.create_channel()).await
        {
            return Ok(channel);
        }
        let connection = connect(&self.inner.upstream, self.inner.limit)
            .await
            .map_err(|why| silent(&why))?;
        let channel = connection.create_channel().await;
        *direct = Some(connection);
        channel.map_err(|error| silent(&error))
    }

    /// What RabbitMQ says of a queue; nothing if there is none of that name.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn queue(&self, name: &str) -> Result<Option<Queue>, Failure> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.direct().await?;
        let asked = channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await;
        match asked {
            Ok(queue) => Ok(Some(Queue {
                ready: queue.message_count(),
                consumers: queue.consumer_count(),
            })),
            Err(error) if code(&error) == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// How many messages wait in a queue; none if there is no such queue.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn ready(&self, name: &str) -> Result<u32, Failure> {
        Ok(self.queue(name).await?.map_or(0, |queue| queue.ready))
    }

    /// Deletes a queue with all that is in it.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn delete_queue(&self, name: &str) -> Result<(), Failure> {
        let channel = self.direct().await?;
        let deleted = channel.queue_delete(name.into(), QueueDeleteOptions::default());
        deleted.await.map(drop).map_err(failed)
    }

    /// Deletes an exchange.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn delete_exchange(&self, name: &str) -> Result<(), Failure> {
        let channel = self.direct().await?;
        let deleted = channel.exchange_delete(name.into(), ExchangeDeleteOptions::default());
        deleted.await.map_err(failed)
    }

    /// Takes the binding of a queue away.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn unbind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Failure> {
        let channel = self.direct().await?;
        let unbound = channel.queue_unbind(
            queue.into(),
            exchange.into(),
            key.into(),
            FieldTable::default(),
        );
        unbound.await.map_err(failed)
    }
}

/// Connects to a RabbitMQ, in at most `limit`.
async fn connect(url: &str, limit: Duration) -> Result<Connection, String> {
    let properties = ConnectionProperties::default().with_connection_name("lab".into());
    match tokio::time::timeout(limit, Connection::connect(url, properties)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it did not answer within {limit:.0?}")),
    }
}

/// Whether user, password and virtual host are good for anything: what keeps us out is the error.
pub(super) async fn lets_in(url: &str, limit: Duration) -> Result<(), String> {
    let connection = connect(url, limit).await?;
    let closed = connection.close(200, "done".into()).await;
    closed.map_err(|error| error.to_string())
}

/// The code by which RabbitMQ refused something: 404, 406.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// What RabbitMQ says about it.
fn text(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// That RabbitMQ refuses something is the candidate's doing, who should have declared what the lab needs;
/// that it does not answer is nobody's.
fn failed(error: lapin::Error) -> Failure {
    match code(&error) {
        Some(400..500) => Failure::observed(format!("RabbitMQ refused: {}", text(&error))),
        _ => silent(&error),
    }
}

fn silent(error: &dyn std::fmt::Display) -> Failure {
    Failure::infrastructure(format!("the run's RabbitMQ does not answer: {error}"))
}
