//! Two ways to lose entries while stopping.

use std::time::Duration;

use redis::streams::StreamReadReply;
use redis::{AsyncConnectionConfig, RedisResult};

use crate::orders::{add, command, connect, names, pending, read, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    tell(c, format!("XGROUP CREATE {stream} billing 0 MKSTREAM")).await?;

    // ANCHOR: delconsumer
    add(c, stream, &["A-1", "A-2"]).await?;
    read(c, stream, "worker-1", "10", ">").await?;
    let forgotten: u64 =
        command(c, format!("XGROUP DELCONSUMER {stream} billing worker-1")).await?;
    println!("deleted worker-1 with {forgotten} entries pending");
    println!("pending: {}", pending(c, stream).await?);
    println!("read >: {}", names(&read(c, stream, "worker-2", "10", ">").await?));
    let length: u64 = command(c, format!("XLEN {stream}")).await?;
    println!("the stream still has {length}");
    // ANCHOR_END: delconsumer

    // ANCHOR: dropped
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let mut reads = redis::Client::open(redis)?
        .get_multiplexed_async_connection_with_config(&patient)
        .await?;
    let words =
        format!("XREADGROUP GROUP billing worker-2 BLOCK 0 STREAMS {stream} >");
    let read = command::<StreamReadReply>(&mut reads, &words);
    // The stop signal comes, and the future of the read is dropped.
    let stopped = tokio::time::timeout(Duration::from_millis(100), read).await;
    println!("stopped while it waited: {}", stopped.is_err());

    add(c, stream, &["A-3"]).await?;
    println!("pending: {}", pending(c, stream).await?);
    // ANCHOR_END: dropped
    Ok(())
}
