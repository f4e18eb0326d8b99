//! What a candidate would do: plain lapin.

use futures::StreamExt;
use lab::{Failure, Lab, Rabbit};
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm,
};

/// A connection and a channel on it. The connection ends with this.
pub struct Candidate {
    pub connection: Connection,
    pub channel: Channel,
}

impl Candidate {
    pub async fn new(rabbit: &Rabbit) -> Result<Candidate, Failure> {
        Candidate::at(&rabbit.url()).await
    }

    pub async fn at(url: &str) -> Result<Candidate, Failure> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok(Candidate {
            connection,
            channel,
        })
    }

    /// A durable quorum queue of a name nobody else uses.
    pub async fn queue(&self, lab: &Lab) -> Result<String, Failure> {
        let name = lab.unique("queue");
        self.declare(&name, quorum()).await?;
        Ok(name)
    }

    pub async fn declare(&self, name: &str, arguments: FieldTable) -> lapin::Result<()> {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = self.channel.queue_declare(name.into(), options, arguments);
        declared.await.map(drop)
    }

    pub async fn confirms(&self) -> Result<(), Failure> {
        Ok(self
            .channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?)
    }

    pub async fn publish(&self, queue: &str, id: &str) -> lapin::Result<PublisherConfirm> {
        self.publish_body(queue, id, b"body").await
    }

    pub async fn publish_body(
        &self,
        queue: &str,
        id: &str,
        body: &[u8],
    ) -> lapin::Result<PublisherConfirm> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(id.into());
        self.channel
            .basic_publish("".into(), queue.into(), options, body, properties)
            .await
    }

    pub async fn consume(&self, queue: &str, prefetch: u16) -> Result<Consumer, Failure> {
        self.channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        let options = BasicConsumeOptions::default();
        let consumer =
            self.channel
                .basic_consume(queue.into(), "".into(), options, FieldTable::default());
        Ok(consumer.await?)
    }
}

/// The next delivery, in good time.
pub async fn next(lab: &Lab, consumer: &mut Consumer) -> Result<Delivery, Failure> {
    match tokio::time::timeout(lab.deadline(), consumer.next()).await {
        Ok(Some(delivery)) => Ok(delivery?),
        Ok(None) => Err(Failure::observed("the consumer has ended")),
        Err(_) => Err(Failure::observed("nothing was delivered")),
    }
}

pub fn quorum() -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    table
}

pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
