//! Commands and round trips are two different counts.

use std::time::Instant;

use lab::faults::Proxy;

use crate::orders::{connect, read, tell};

pub async fn run(redis: &str, stream: &str) -> anyhow::Result<()> {
    let proxy = Proxy::start(redis, Instant::now())?;
    let mut connection = connect(&proxy.url()).await?;
    let c = &mut connection;
    tell(c, format!("XGROUP CREATE {stream} billing 0 MKSTREAM")).await?;

    // ANCHOR: batch
    let before = proxy.round_trips();
    let mut pipe = redis::pipe();
    for n in 0..1000 {
        pipe.cmd("XADD").arg(&[stream, "*", "order", &format!("A-{n}")]);
    }
    let ids: Vec<String> = pipe.query_async(c).await?;

    let entries = read(c, stream, "worker-1", "1000", ">").await?;

    let mut acknowledge = redis::cmd("XACK");
    acknowledge.arg(&[stream, "billing"]);
    for entry in &entries {
        acknowledge.arg(&entry.id);
    }
    let acknowledged: u64 = acknowledge.query_async(c).await?;
    println!("sent {}, acknowledged {acknowledged}", ids.len());
    println!("round trips: {}", proxy.round_trips() - before);
    // ANCHOR_END: batch
    Ok(())
}
