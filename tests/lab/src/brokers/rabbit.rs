//! A RabbitMQ as a check sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind,
    ExchangeKind,
};
use tokio::sync::Mutex;

use crate::Failure;
use crate::faults::amqp::{AmqpProxy, Message};

const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

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

/// A message that the lab took from a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// The message.
    pub message: Message,
    /// The exchange it was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Whether it was delivered before.
    pub redelivered: bool,
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

    /// A channel of the lab's own, past the proxy: what it does is in no log, and no fault strikes it. A
    /// new one at each call, since RabbitMQ closes a channel at the first mistake on it.
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
            Err(error) => Err(silent(&error)),
        }
    }

    /// How many messages wait in a queue; none if there is no such queue.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn ready(&self, name: &str) -> Result<u32, Failure> {
        Ok(self.queue(name).await?.map_or(0, |queue| queue.ready))
    }

    /// Compares a queue with what it should be: durable, with exactly these arguments. RabbitMQ itself
    /// compares, by being told to declare it. The text says what differs; a queue that is not there is
    /// told of too, and is not made.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn differs(
        &self,
        name: &str,
        arguments: FieldTable,
    ) -> Result<Option<String>, Failure> {
        if self.queue(name).await?.is_none() {
            return Ok(Some("it is not there".to_owned()));
        }
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.direct().await?;
        difference(
            channel
                .queue_declare(name.into(), options, arguments)
                .await
                .map(drop),
        )
    }

    /// The same for an exchange: durable, of this kind, without arguments.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn exchange_differs(
        &self,
        name: &str,
        kind: ExchangeKind,
    ) -> Result<Option<String>, Failure> {
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let channel = self.direct().await?;
        let table = FieldTable::default();
        let asked = channel.exchange_declare(name.into(), kind.clone(), passive, table.clone());
        match asked.await {
            Err(error) if code(&error) == Some(NOT_FOUND) => {
                return Ok(Some("it is not there".to_owned()));
            }
            Err(error) => return Err(silent(&error)),
            Ok(()) => {}
        }
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let declared = channel.exchange_declare(name.into(), kind, options, table);
        difference(declared.await)
    }

    /// Publishes a message as another program would, confirmed. Returns whether a queue took it.
    ///
    /// # Errors
    /// As [`direct`](Self::direct), also when the exchange is not there.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<bool, Failure> {
        let channel = self.direct().await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.map_err(|error| silent(&error))?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sent = channel
            .basic_publish(
                exchange.into(),
                routing_key.into(),
                options,
                body,
                properties,
            )
            .await;
        let confirmed = match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirmed.map_err(|error| silent(&error))? {
            Confirmation::Ack(None) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Takes the next message from a queue, and acknowledges it.
    ///
    /// # Errors
    /// As [`direct`](Self::direct), also when the queue is not there.
    pub async fn take(&self, queue: &str) -> Result<Option<Taken>, Failure> {
        let channel = self.direct().await?;
        let options = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(queue.into(), options).await;
        let got = got.map_err(|error| silent(&error))?;
        Ok(got.map(|got| Taken {
            exchange: got.delivery.exchange.to_string(),
            routing_key: got.delivery.routing_key.to_string(),
            redelivered: got.delivery.redelivered,
            message: Message {
                properties: got.delivery.properties,
                body: got.delivery.data,
            },
        }))
    }

    /// Deletes a queue with all that is in it.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn delete_queue(&self, name: &str) -> Result<(), Failure> {
        let channel = self.direct().await?;
        let deleted = channel.queue_delete(name.into(), QueueDeleteOptions::default());
        deleted.await.map(drop).map_err(|error| silent(&error))
    }

    /// Deletes an exchange.
    ///
    /// # Errors
    /// As [`direct`](Self::direct).
    pub async fn delete_exchange(&self, name: &str) -> Result<(), Failure> {
        let channel = self.direct().await?;
        let deleted = channel.exchange_delete(name.into(), ExchangeDeleteOptions::default());
        deleted.await.map_err(|error| silent(&error))
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
        unbound.await.map_err(|error| silent(&error))
    }
}

/// Connects to a RabbitMQ, in at most `limit`.
pub(crate) async fn connect(url: &str, limit: Duration) -> Result<Connection, String> {
    let properties = ConnectionProperties::default().with_connection_name("lab".into());
    match tokio::time::timeout(limit, Connection::connect(url, properties)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it did not answer within {limit:.0?}")),
    }
}

/// Removes the queues and exchanges that a note tells of: lines `queue NAME` and `exchange NAME`.
pub(crate) async fn forget_declared(url: &str, note: &str, limit: Duration) -> Result<(), String> {
    let connection = connect(url, limit).await?;
    let forget = async {
        let channel = connection.create_channel().await?;
        for line in note.lines() {
            // Deleting what is not there is no mistake.
            match line.split_once(' ') {
                Some(("queue", name)) => {
                    let options = QueueDeleteOptions::default();
                    channel.queue_delete(name.into(), options).await?;
                }
                Some(("exchange", name)) => {
                    let options = ExchangeDeleteOptions::default();
                    channel.exchange_delete(name.into(), options).await?;
                }
                _ => {}
            }
        }
        connection.close(200, "done".into()).await
    };
    match tokio::time::timeout(limit, forget).await {
        Ok(forgotten) => forgotten.map_err(|error| error.to_string()),
        Err(_) => Err("it took too long".to_owned()),
    }
}

fn difference(declared: lapin::Result<()>) -> Result<Option<String>, Failure> {
    match declared {
        Ok(()) => Ok(None),
        Err(error) if code(&error) == Some(PRECONDITION_FAILED) => Ok(Some(text(&error))),
        Err(error) => Err(silent(&error)),
    }
}

fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

fn text(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

fn silent(error: &dyn std::fmt::Display) -> Failure {
    Failure::infrastructure(format!("the run's RabbitMQ does not answer: {error}"))
}
