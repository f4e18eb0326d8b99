//! Three ways to try again: at once, after a time of its own, in a queue for each delay.

use std::time::{Duration, Instant};

use anyhow::Result;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel};

use crate::prints::{
    ack, confirming, connect, delete, give_back, photo, put, put_with, queue, take,
    text,
};

// ANCHOR: wait
/// A queue whose messages go to `back` when their time is over.
async fn wait(
    channel: &Channel,
    name: &str,
    back: &str,
    all: Option<i64>,
) -> Result<()> {
    let mut arguments = vec![
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(back)),
    ];
    arguments.extend(all.map(|ms| ("x-message-ttl", AMQPValue::LongLongInt(ms))));
    queue(channel, name, &arguments).await
}
// ANCHOR_END: wait

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    queue(&channel, name, &[]).await?;
    // ANCHOR: hot
    put(&channel, name, "broken.jpg").await?;
    let (start, mut tries) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(500) {
        let order = take(&channel, name).await?;
        tries += 1;
        give_back(&order).await?; // The printer has no paper.
    }
    println!("tried more than 50 times in half a second: {}", tries > 50);
    // ANCHOR_END: hot
    ack(&take(&channel, name).await?).await?;

    let one = format!("{name}.wait");
    // ANCHOR: one_queue
    wait(&channel, &one, name, None).await?;
    for (order, delay) in [("slow.jpg", "1500"), ("quick.jpg", "50")] {
        let properties = BasicProperties::default().with_expiration(delay.into());
        put_with(&channel, &one, order, properties).await?;
    }
    for _ in 0..2 {
        let order = take(&channel, name).await?;
        println!("back: {}", photo(&order));
        ack(&order).await?;
    }
    // ANCHOR_END: one_queue
    // ANCHOR: queues
    for (order, delay) in [("slow.jpg", 1500), ("quick.jpg", 50)] {
        let queue = format!("{name}.wait.{delay}");
        wait(&channel, &queue, name, Some(delay)).await?;
        put(&channel, &queue, order).await?;
    }
    for _ in 0..2 {
        let order = take(&channel, name).await?;
        println!("back: {}", photo(&order));
        ack(&order).await?;
    }
    // ANCHOR_END: queues
    for queue in ["", ".wait", ".wait.1500", ".wait.50"] {
        delete(&channel, &format!("{name}{queue}")).await?;
    }
    Ok(())
}
