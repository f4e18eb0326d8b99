//! Ids, pipelines, and what a pipeline does not promise.

use redis::RedisResult;

use crate::orders::{command, connect, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;

    // ANCHOR: pipeline
    let mut pipe = redis::pipe();
    for order in ["A-1", "A-2", "A-3"] {
        pipe.cmd("XADD").arg(&[stream, "*", "order", order]);
    }
    let ids: Vec<String> = pipe.query_async(&mut connection).await?;
    println!("{} ids for 3 entries", ids.len());
    // ANCHOR_END: pipeline

    // ANCHOR: refused
    let wrong = format!("{stream}:not-a-stream");
    tell(&mut connection, format!("SET {wrong} text")).await?;
    let result: RedisResult<Vec<String>> = redis::pipe()
        .cmd("XADD")
        .arg(&[stream, "*", "order", "A-4"])
        .cmd("XADD")
        .arg(&[&wrong, "*", "order", "A-5"])
        .cmd("XADD")
        .arg(&[stream, "*", "order", "A-6"])
        .query_async(&mut connection)
        .await;
    let length: u64 = command(&mut connection, format!("XLEN {stream}")).await?;
    println!(
        "the pipeline failed: {}; the stream has {length} entries",
        result.is_err()
    );
    // ANCHOR_END: refused
    Ok(())
}
