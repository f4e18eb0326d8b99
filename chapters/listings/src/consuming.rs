//! Where a group begins, what an acknowledgement does, and what NOACK gives up.

use redis::RedisResult;

use crate::orders::{add, command, connect, names, pending, read, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;

    // ANCHOR: dollar
    add(c, stream, &["A-1", "A-2"]).await?;
    tell(c, format!("XGROUP CREATE {stream} late $")).await?;
    tell(c, format!("XGROUP CREATE {stream} billing 0")).await?;
    add(c, stream, &["A-3"]).await?;

    let late: redis::streams::StreamReadReply =
        command(c, format!("XREADGROUP GROUP late worker-1 STREAMS {stream} >"))
            .await?;
    println!("created at $: {}", names(&late.keys[0].ids));
    println!(
        "created at 0: {}",
        names(&read(c, stream, "worker-1", "10", ">").await?)
    );
    // ANCHOR_END: dollar

    // ANCHOR: exists
    let again: RedisResult<()> =
        command(c, format!("XGROUP CREATE {stream} billing 0")).await;
    if let Err(error) = again {
        println!("a second time: {}", error.code().unwrap_or("no code"));
    }
    println!(
        "new after that: {}",
        names(&read(c, stream, "worker-1", "10", ">").await?)
    );
    // ANCHOR_END: exists

    // ANCHOR: acknowledge
    println!("pending: {}", pending(c, stream).await?);
    let own = read(c, stream, "worker-1", "10", "0").await?;
    let first: u64 =
        command(c, format!("XACK {stream} billing {}", own[0].id)).await?;
    let again: u64 =
        command(c, format!("XACK {stream} billing {}", own[0].id)).await?;
    println!("acknowledged {first}, then {again}");
    println!("pending: {}", pending(c, stream).await?);
    // ANCHOR_END: acknowledge

    // ANCHOR: noack
    add(c, stream, &["A-4"]).await?;
    let lost: redis::streams::StreamReadReply = command(
        c,
        format!("XREADGROUP GROUP billing worker-1 NOACK STREAMS {stream} >"),
    )
    .await?;
    println!("read with NOACK: {}", names(&lost.keys[0].ids));
    println!("pending: {}", pending(c, stream).await?);
    // ANCHOR_END: noack
    Ok(())
}
