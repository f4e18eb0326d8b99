//! Messages that the lab itself publishes and takes.

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
};
use lapin::{BasicProperties, Channel, Confirmation};

use super::{Rabbit, failed};
use crate::Failure;
use crate::faults::amqp::Message;

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
    /// Publishes a message as another program would, mandatory and confirmed. Returns whether a queue
    /// took it: if none did, none is bound that wants it, or the one that is refuses it.
    ///
    /// # Errors
    /// As [`direct`](Self::direct); a [`Failure::observed`] when there is no such exchange.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<bool, Failure> {
        let channel = self.direct().await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.map_err(failed)?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sent = channel.basic_publish(
            exchange.into(),
            routing_key.into(),
            options,
            body,
            properties,
        );
        let confirmed = sent.await.map_err(failed)?.await.map_err(failed)?;
        Ok(confirmed == Confirmation::Ack(None))
    }

    /// Takes the next message from a queue, and acknowledges it.
    ///
    /// # Errors
    /// As [`direct`](Self::direct); a [`Failure::observed`] when there is no such queue. So for the two
    /// that follow.
    pub async fn take(&self, queue: &str) -> Result<Option<Taken>, Failure> {
        let (channel, got) = self.get(queue).await?;
        let Some(got) = got else { return Ok(None) };
        let acked = got.delivery.ack(BasicAckOptions::default()).await;
        acked.map_err(failed)?;
        close(channel).await?;
        Ok(Some(taken(got)))
    }

    /// Takes all that is in a queue, in order.
    pub async fn drain(&self, queue: &str) -> Result<Vec<Taken>, Failure> {
        let mut all = Vec::new();
        while let Some(taken) = self.take(queue).await? {
            all.push(taken);
        }
        Ok(all)
    }

    /// Looks at the next message of a queue and puts it back. RabbitMQ counts that as a delivery: whoever
    /// gets it next sees it redelivered.
    pub async fn peek(&self, queue: &str) -> Result<Option<Taken>, Failure> {
        let (channel, got) = self.get(queue).await?;
        let Some(got) = got else { return Ok(None) };
        let back = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        got.delivery.nack(back).await.map_err(failed)?;
        close(channel).await?;
        Ok(Some(taken(got)))
    }

    /// The message belongs to the channel.
    async fn get(&self, queue: &str) -> Result<(Channel, Option<BasicGetMessage>), Failure> {
        let channel = self.direct().await?;
        let got = channel.basic_get(queue.into(), BasicGetOptions::default());
        let got = got.await.map_err(failed)?;
        Ok((channel, got))
    }
}

/// Ends a channel. RabbitMQ has done all that it was told on it then.
async fn close(channel: Channel) -> Result<(), Failure> {
    channel.close(200, "done".into()).await.map_err(failed)
}

fn taken(got: BasicGetMessage) -> Taken {
    let delivery = got.delivery;
    Taken {
        exchange: delivery.exchange.to_string(),
        routing_key: delivery.routing_key.to_string(),
        redelivered: delivery.redelivered,
        message: Message {
            properties: delivery.properties,
            body: delivery.data,
        },
    }
}
