//! Confirms one by one, and in a window.

use anyhow::Result;
use futures::future::try_join_all;

use crate::prints::{confirming, connect, delete, put, queue, waiting};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    queue(&channel, name, &[]).await?;
    // ANCHOR: window
    // One by one: the next is published after the one before is on disk.
    for n in 0..100 {
        put(&channel, name, &format!("{n}.jpg")).await?;
    }
    // In a window: all are on their way, and then all are waited for.
    let photos: Vec<_> = (100..200).map(|n| format!("{n}.jpg")).collect();
    let answers =
        try_join_all(photos.iter().map(|it| put(&channel, name, it))).await?;
    let confirmed = answers.iter().filter(|answer| answer.is_ack()).count();
    println!(
        "{confirmed} of 100 confirmed, {} wait",
        waiting(&connection, name).await?
    );
    // ANCHOR_END: window
    delete(&channel, name).await?;
    Ok(())
}
