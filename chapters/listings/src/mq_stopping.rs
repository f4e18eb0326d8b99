//! What was delivered and not begun when a worker stops.

use anyhow::Result;
use futures::StreamExt;
use lapin::options::{BasicCancelOptions, BasicNackOptions, BasicQosOptions};

use crate::prints::{
    ack, confirming, connect, consume, delete, photo, put, queue, text,
    until_waiting, waiting,
};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    let dead = format!("{name}.dead");
    queue(&channel, &dead, &[]).await?;
    let arguments = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&dead)),
    ];
    queue(&channel, name, &arguments).await?;
    for n in 1..=4 {
        put(&channel, name, &format!("{n}.jpg")).await?;
    }
    // ANCHOR: stop
    let theirs = connection.create_channel().await?;
    theirs.basic_qos(3, BasicQosOptions::default()).await?;
    let mut orders = consume(&theirs, name).await?;
    until_waiting(&connection, name, 1).await?;
    let running = orders.next().await.transpose()?;

    // The stop: nothing more is delivered, and what has not begun goes back.
    theirs.basic_cancel(orders.tag(), BasicCancelOptions::default()).await?;
    while let Some(order) = orders.next().await.transpose()? {
        let options = BasicNackOptions { requeue: true, ..Default::default() };
        order.acker.nack(options).await?;
        println!("{} goes back", photo(&order));
    }
    if let Some(order) = running {
        println!("{} is finished", photo(&order));
        ack(&order).await?;
    }
    until_waiting(&connection, name, 3).await?;
    println!("dead letters: {}", waiting(&connection, &dead).await?);
    // ANCHOR_END: stop
    delete(&channel, &dead).await?;
    delete(&channel, name).await?;
    Ok(())
}
