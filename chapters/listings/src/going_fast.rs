//! Commands and round trips are two different counts.

use redis::RedisResult;

use crate::orders::{connect, read, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    tell(c, format!("XGROUP CREATE {stream} billing 0 MKSTREAM")).await?;

    // ANCHOR: batch
    let mut pipe = redis::pipe();
    for n in 0..1000 {
        pipe.cmd("XADD").arg(&[stream, "*", "order", &format!("A-{n}")]).ignore();
    }
    pipe.exec_async(c).await?;

    let entries = read(c, stream, "worker-1", "1000", ">").await?;

    let mut acknowledge = redis::cmd("XACK");
    acknowledge.arg(&[stream, "billing"]);
    for entry in &entries {
        acknowledge.arg(&entry.id);
    }
    let acknowledged: u64 = acknowledge.query_async(c).await?;
    println!("sent, read and acknowledged {acknowledged} in 3 round trips");
    // ANCHOR_END: batch
    Ok(())
}
