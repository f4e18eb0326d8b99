//! Where deliveries come from: one connection, and a channel for each queue.

use std::time::Duration;

use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};

use crate::connection::connect;
use crate::error::Error;
use crate::options::Work;
use crate::topology::declare;

/// How long connecting, declaring and beginning to consume may take together.
const OPEN: Duration = Duration::from_secs(30);
/// How long a connection that may be dead is given to close.
const CLOSE: Duration = Duration::from_secs(2);

/// What comes in.
pub(crate) struct Intake {
    connection: Connection,
    channels: [Channel; 2],
    /// Deliveries of the queue that goes first.
    pub high: Consumer,
    /// Deliveries of the other.
    pub normal: Consumer,
}

impl Intake {
    /// Connects, declares, and begins to consume.
    pub async fn open(options: &Work) -> Result<Intake, Error> {
        let late = |_| Err(Error::Away(format!("no answer within {OPEN:?}")));
        let opened = tokio::time::timeout(OPEN, Intake::new(options)).await;
        opened.unwrap_or_else(late)
    }

    async fn new(options: &Work) -> Result<Intake, Error> {
        let connection = connect(&options.amqp, "task-queue worker: intake").await?;
        let names = &options.names;
        let first = channel(&connection).await?;
        declare(&first, names).await?;
        let second = channel(&connection).await?;
        let prefetch = options.concurrency.max(1);
        // The next one has to be at hand when a place gets free, or it goes to a normal one.
        let twice = prefetch.saturating_mul(2);
        let high = consume(&first, &names.high_queue(), twice).await?;
        let normal = consume(&second, &names.queue(), prefetch).await?;
        Ok(Intake {
            connection,
            channels: [first, second],
            high,
            normal,
        })
    }

    /// Ends both consumers: nothing more is delivered. What was delivered already stays ours.
    pub async fn cancel(&self) {
        for (channel, consumer) in self.channels.iter().zip([&self.high, &self.normal]) {
            let cancelled = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
            let _ = tokio::time::timeout(CLOSE, cancelled).await;
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        let closed = self.connection.close(200, "done".into());
        let _ = tokio::time::timeout(CLOSE, closed).await;
    }
}

async fn channel(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.create_channel().await;
    channel.map_err(|error| Error::Away(error.to_string()))
}

async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> Result<Consumer, Error> {
    let limited = channel.basic_qos(prefetch, BasicQosOptions::default());
    let away = |error: lapin::Error| Error::Away(format!("consuming from `{queue}`: {error}"));
    limited.await.map_err(away)?;
    let consumer = channel.basic_consume(
        queue.into(),
        // RabbitMQ makes up a name.
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    consumer.await.map_err(away)
}
