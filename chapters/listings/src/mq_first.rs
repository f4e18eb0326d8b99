//! The smallest exchange of a message: into a queue, out of it, done.

use anyhow::Result;

use crate::prints::{ack, confirming, connect, delete, photo, put, queue, take};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    // ANCHOR: all
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    queue(&channel, name, &[]).await?;

    let answer = put(&channel, name, "beach.jpg").await?;
    println!("RabbitMQ has it: {}", answer.is_ack());

    let order = take(&channel, name).await?;
    println!("printing {}", photo(&order));
    ack(&order).await?;
    // ANCHOR_END: all
    delete(&channel, name).await?;
    Ok(())
}
