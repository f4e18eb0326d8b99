//! Who limits how many messages a worker holds.

use anyhow::Result;
use futures::StreamExt;
use lapin::options::BasicQosOptions;

use crate::prints::{
    confirming, connect, consume, delete, put, queue, until_waiting, waiting,
};

pub async fn run(amqp: &str, name: &str) -> Result<()> {
    let connection = connect(amqp).await?;
    let channel = confirming(&connection).await?;
    queue(&channel, name, &[]).await?;
    // ANCHOR: prefetch
    for n in 1..=50 {
        put(&channel, name, &format!("{n}.jpg")).await?;
    }
    for prefetch in [0, 3] {
        let one = connect(amqp).await?;
        let theirs = one.create_channel().await?;
        theirs.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let mut orders = consume(&theirs, name).await?;
        let _first = orders.next().await.transpose()?;
        let held = if prefetch == 0 { 50 } else { 3 };
        until_waiting(&connection, name, 50 - held).await?;
        println!(
            "prefetch {prefetch}: {} wait for others",
            waiting(&connection, name).await?
        );
        // It is killed; what it held comes back.
        one.close(200, "gone".into()).await?;
        until_waiting(&connection, name, 50).await?;
    }
    // ANCHOR_END: prefetch
    delete(&channel, name).await?;
    Ok(())
}
