//! What RabbitMQ closes at a mistake.

use anyhow::Result;
use futures::StreamExt;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;

use crate::prints::{confirming, connect, consume, delete, put, queue};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    queue(&channel, name, &[]).await?;
    // ANCHOR: shared
    for is_shared in [true, false] {
        let ours = confirming(&connection).await?;
        let mut orders = consume(&ours, name).await?;
        let other = confirming(&connection).await?;
        let publishing = if is_shared { &ours } else { &other };
        let lost = publishing.basic_publish(
            "no such exchange".into(),
            "".into(),
            BasicPublishOptions::default(),
            b"x",
            BasicProperties::default(),
        );
        println!("published: {}", lost.await?.await.is_ok());
        put(&channel, name, "beach.jpg").await?;
        match orders.next().await {
            Some(Ok(_)) => println!("and an order came in"),
            _ => println!("and no order comes in any more"),
        }
    }
    // ANCHOR_END: shared
    delete(&channel, name).await?;
    Ok(())
}
