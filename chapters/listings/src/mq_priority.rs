//! Two queues, and a worker that looks into one of them first.

use anyhow::Result;
use futures::StreamExt;
use lapin::options::BasicQosOptions;

use crate::prints::{
    ack, confirming, connect, consume, delete, photo, put, queue, until_waiting,
};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    let urgent = format!("{name}.urgent");
    queue(&channel, name, &[]).await?;
    queue(&channel, &urgent, &[]).await?;
    // ANCHOR: urgent
    for n in 1..=3 {
        put(&channel, name, &format!("holiday-{n}.jpg")).await?;
    }
    let mut orders = Vec::new();
    for queue in [urgent.as_str(), name] {
        let theirs = connection.create_channel().await?;
        theirs.basic_qos(1, BasicQosOptions::default()).await?;
        orders.push(consume(&theirs, queue).await?);
    }
    let mut normal = orders.remove(1);
    let mut first = orders.remove(0);
    until_waiting(&connection, name, 2).await?; // The first is delivered.
    put(&channel, &urgent, "passport.jpg").await?;
    until_waiting(&connection, &urgent, 0).await?;
    for _ in 1..=4 {
        let order = tokio::select! {
            biased;
            Some(order) = first.next() => order?,
            Some(order) = normal.next() => order?,
        };
        println!("{}", photo(&order));
        ack(&order).await?;
    }
    // ANCHOR_END: urgent
    delete(&channel, &urgent).await?;
    delete(&channel, name).await?;
    Ok(())
}
