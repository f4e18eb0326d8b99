//! When RabbitMQ forgets a message.

use anyhow::Result;
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicRejectOptions};
use lapin::types::FieldTable;

use crate::prints::{
    ack, confirming, connect, consume, delete, photo, put, queue, take,
    until_waiting, waiting,
};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    queue(&channel, name, &[]).await?;
    // ANCHOR: no_ack
    put(&channel, name, "beach.jpg").await?;
    let worker = connect(amqp).await?;
    let theirs = worker.create_channel().await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let orders = theirs.basic_consume(
        name.into(),
        "".into(),
        options,
        FieldTable::default(),
    );
    orders.await?.next().await.transpose()?;
    worker.close(200, "killed".into()).await?;
    println!("no_ack: {} left", waiting(&connection, name).await?);
    // ANCHOR_END: no_ack
    // ANCHOR: acks
    put(&channel, name, "beach.jpg").await?;
    let worker = connect(amqp).await?;
    let theirs = worker.create_channel().await?;
    let order = consume(&theirs, name).await?.next().await.transpose()?;
    println!("first: redelivered {:?}", order.map(|order| order.redelivered));
    worker.close(200, "killed".into()).await?;
    until_waiting(&connection, name, 1).await?;
    let order = take(&channel, name).await?;
    println!("then: {}, redelivered {}", photo(&order), order.redelivered);
    ack(&order).await?;
    println!("acknowledged: {} left", waiting(&connection, name).await?);
    // ANCHOR_END: acks
    // ANCHOR: reject
    put(&channel, name, "broken.jpg").await?;
    let order = take(&channel, name).await?;
    order.acker.reject(BasicRejectOptions::default()).await?;
    println!("rejected: {} left", waiting(&connection, name).await?);
    // ANCHOR_END: reject
    delete(&channel, name).await?;
    Ok(())
}
