//! What is left of a dead worker, and how to get it back.

use redis::RedisResult;
use redis::streams::StreamAutoClaimReply;

use crate::orders::{add, command, connect, names, pending, read, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    tell(c, format!("XGROUP CREATE {stream} billing 0 MKSTREAM")).await?;

    // ANCHOR: restart
    add(c, stream, &["A-1", "A-2", "A-3"]).await?;
    read(c, stream, "worker-1", "10", ">").await?;
    // Here worker-1 dies and starts again, under the same name.
    println!("read >: {}", names(&read(c, stream, "worker-1", "10", ">").await?));
    println!("read 0: {}", names(&read(c, stream, "worker-1", "10", "0").await?));
    println!("pending: {}", pending(c, stream).await?);
    // ANCHOR_END: restart

    // ANCHOR: pages
    add(c, stream, &["A-4", "A-5"]).await?;
    let dead = read(c, stream, "worker-1", "10", ">").await?;
    // Somebody deletes A-5 while worker-1 holds it.
    tell(c, format!("XDEL {stream} {}", dead[1].id)).await?;

    let mut cursor = "0-0".to_owned();
    loop {
        let page: StreamAutoClaimReply = command(
            c,
            format!("XAUTOCLAIM {stream} billing worker-2 0 {cursor} COUNT 2"),
        )
        .await?;
        println!(
            "claimed {}, deleted {}",
            names(&page.claimed),
            page.deleted_ids.len()
        );
        cursor = page.next_stream_id;
        if cursor == "0-0" {
            break;
        }
    }
    println!("pending: {}", pending(c, stream).await?);
    // ANCHOR_END: pages

    // ANCHOR: idle
    let early: StreamAutoClaimReply =
        command(c, format!("XAUTOCLAIM {stream} billing worker-3 60000 0-0"))
            .await?;
    println!("idle for a minute: {}", names(&early.claimed));
    // ANCHOR_END: idle

    // ANCHOR: justid
    let first = read(c, stream, "worker-2", "1", "0").await?.remove(0).id;
    println!("pending: {}", pending(c, stream).await?);
    tell(c, format!("XCLAIM {stream} billing worker-2 0 {first} JUSTID")).await?;
    println!("after JUSTID: {}", pending(c, stream).await?);
    tell(c, format!("XCLAIM {stream} billing worker-2 0 {first}")).await?;
    println!("after a claim without it: {}", pending(c, stream).await?);
    // ANCHOR_END: justid

    // ANCHOR: steal
    tell(c, format!("XCLAIM {stream} billing worker-3 0 {first}")).await?;
    println!("taken: {}", pending(c, stream).await?);
    // worker-2 was only slow. Its heartbeat does not ask who has the entry now.
    tell(c, format!("XCLAIM {stream} billing worker-2 0 {first} JUSTID")).await?;
    println!("stolen back: {}", pending(c, stream).await?);
    // ANCHOR_END: steal
    Ok(())
}
