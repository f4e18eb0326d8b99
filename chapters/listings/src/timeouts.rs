//! A blocking read needs a connection to itself, without a response timeout.

use std::time::{Duration, Instant};

use redis::streams::StreamReadReply;
use redis::{AsyncConnectionConfig, RedisResult};

use crate::orders::{add, command, connect, pending, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut other = connect(redis).await?;
    let create = format!("XGROUP CREATE {stream} billing 0 MKSTREAM");
    tell(&mut other, &create).await?;

    // ANCHOR: default
    let read =
        format!("XREADGROUP GROUP billing worker-1 BLOCK 3000 STREAMS {stream} >");
    let mut impatient = connect(redis).await?;
    let reply: RedisResult<Option<StreamReadReply>> =
        command(&mut impatient, &read).await;
    if let Err(error) = reply {
        println!("the read failed; a timeout: {}", error.is_timeout());
    }
    // Redis was not told. For Redis, worker-1 still waits.
    add(&mut other, stream, &["A-1"]).await?;
    println!("pending: {}", pending(&mut other, stream).await?);
    // ANCHOR_END: default
    drop(impatient);

    // ANCHOR: own
    let client = redis::Client::open(redis)?;
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let mut reads =
        client.get_multiplexed_async_connection_with_config(&patient).await?;
    // ANCHOR_END: own

    // ANCHOR: shared
    let read =
        format!("XREADGROUP GROUP billing worker-2 BLOCK 800 STREAMS {stream} >");
    let mut clone = reads.clone();
    let started = Instant::now();
    let (reply, pong) = tokio::join!(
        command::<Option<StreamReadReply>>(&mut reads, &read),
        command::<String>(&mut clone, "PING"),
    );
    println!("the read came back with something: {}", reply?.is_some());
    let waited = started.elapsed() >= Duration::from_millis(800);
    println!("{}, and it waited for the read: {waited}", pong?);
    // ANCHOR_END: shared
    Ok(())
}
