//! Two consumers of one group, and one that takes too much.

use redis::RedisResult;

use crate::orders::{add, connect, names, read, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    tell(c, format!("XGROUP CREATE {stream} billing 0 MKSTREAM")).await?;

    // ANCHOR: divide
    add(c, stream, &["A-1", "A-2", "A-3", "A-4", "A-5"]).await?;
    println!("worker-1: {}", names(&read(c, stream, "worker-1", "2", ">").await?));
    println!("worker-2: {}", names(&read(c, stream, "worker-2", "2", ">").await?));
    println!("worker-1: {}", names(&read(c, stream, "worker-1", "2", ">").await?));
    // ANCHOR_END: divide

    // ANCHOR: greedy
    add(c, stream, &["A-6", "A-7", "A-8", "A-9"]).await?;
    println!(
        "worker-1: {}",
        names(&read(c, stream, "worker-1", "1000", ">").await?)
    );
    println!(
        "worker-2: {}",
        names(&read(c, stream, "worker-2", "1000", ">").await?)
    );
    // ANCHOR_END: greedy
    Ok(())
}
