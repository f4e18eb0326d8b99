//! What the listings about RabbitMQ share: a shop that prints photos.

use std::time::Duration;

use anyhow::{Context, Result};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    Consumer,
};

pub async fn connect(amqp: &str) -> Result<Connection> {
    let properties = ConnectionProperties::default();
    Ok(Connection::connect(amqp, properties).await?)
}

/// Arguments of a queue: numbers and texts.
pub fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    table
}

pub fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A durable quorum queue with these arguments besides.
pub async fn queue(
    channel: &Channel,
    name: &str,
    more: &[(&str, AMQPValue)],
) -> Result<()> {
    let mut arguments = table(more);
    arguments.insert("x-queue-type".into(), text("quorum"));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), options, arguments).await?;
    Ok(())
}

pub async fn delete(channel: &Channel, queue: &str) -> Result<()> {
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    Ok(())
}

// ANCHOR: put
/// A channel on which RabbitMQ confirms what is published.
pub async fn confirming(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes into a queue, persistent, and waits for the confirm.
pub async fn put(
    channel: &Channel,
    queue: &str,
    photo: &str,
) -> Result<Confirmation> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    put_with(channel, queue, photo, properties).await
}

pub async fn put_with(
    channel: &Channel,
    queue: &str,
    photo: &str,
    properties: BasicProperties,
) -> Result<Confirmation> {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(
        "".into(),
        queue.into(),
        options,
        photo.as_bytes(),
        properties,
    );
    Ok(sent.await?.await?)
}
// ANCHOR_END: put

pub async fn consume(channel: &Channel, queue: &str) -> Result<Consumer> {
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(
        queue.into(),
        "".into(),
        options,
        FieldTable::default(),
    );
    Ok(consumer.await?)
}

/// How many messages wait in a queue.
pub async fn waiting(connection: &Connection, queue: &str) -> Result<u32> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let asked =
        channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    Ok(asked.message_count())
}

/// Waits until so many messages wait in a queue.
pub async fn until_waiting(
    connection: &Connection,
    queue: &str,
    count: u32,
) -> Result<()> {
    for _ in 0..1000 {
        if waiting(connection, queue).await? == count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("there are never {count} messages in {queue}")
}

/// Takes the next message, as soon as there is one.
pub async fn take(channel: &Channel, queue: &str) -> Result<Delivery> {
    for _ in 0..1000 {
        let got =
            channel.basic_get(queue.into(), BasicGetOptions::default()).await?;
        if let Some(got) = got {
            return Ok(got.delivery);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("nothing comes into {queue}")
}

pub async fn ack(delivery: &Delivery) -> Result<()> {
    delivery.acker.ack(BasicAckOptions::default()).await?;
    Ok(())
}

/// Gives a message back to its queue.
pub async fn give_back(delivery: &Delivery) -> Result<()> {
    let options = BasicNackOptions { requeue: true, ..Default::default() };
    delivery.acker.nack(options).await?;
    Ok(())
}

pub fn photo(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

/// A header of a message, as text.
pub fn header(delivery: &Delivery, name: &str) -> Result<String> {
    let headers = delivery.properties.headers().as_ref().context("no headers")?;
    Ok(match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        Some(AMQPValue::LongLongInt(number)) => number.to_string(),
        other => format!("{other:?}"),
    })
}
