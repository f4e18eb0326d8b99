//! Where hopeless messages go, and what they know of themselves.

use anyhow::{Context, Result};
use lapin::BasicProperties;
use lapin::types::AMQPValue;

use crate::prints::{
    ack, confirming, connect, delete, give_back, header, photo, put, put_with,
    queue, table, take, text,
};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    let dead = format!("{name}.dead");
    queue(&channel, &dead, &[]).await?;
    // ANCHOR: limit
    let arguments = [
        ("x-delivery-limit", AMQPValue::LongLongInt(2)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&dead)),
    ];
    queue(&channel, name, &arguments).await?;
    put(&channel, name, "beach.jpg").await?;
    for restart in 1..=3 {
        // Delivered, and the worker is stopped for an update before it begins.
        let order = take(&channel, name).await?;
        println!("update {restart}: {} goes back", photo(&order));
        give_back(&order).await?;
    }
    let letter = take(&channel, &dead).await?;
    println!("dead: {}, and nobody has tried it", photo(&letter));
    // ANCHOR_END: limit
    ack(&letter).await?;
    // ANCHOR: reason
    put(&channel, name, "broken.jpg").await?;
    let order = take(&channel, name).await?;
    let headers = table(&[
        ("x-reason", text("not a picture")),
        ("x-attempts", AMQPValue::LongLongInt(3)),
    ]);
    let properties =
        BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    let answer = put_with(&channel, &dead, &photo(&order), properties).await?;
    answer.is_ack().then_some(()).context("not confirmed")?;
    ack(&order).await?; // Now, and not before.
    let letter = take(&channel, &dead).await?;
    println!("{}: {}", photo(&letter), header(&letter, "x-reason")?);
    // ANCHOR_END: reason
    ack(&letter).await?;
    delete(&channel, &dead).await?;
    delete(&channel, name).await?;
    Ok(())
}
