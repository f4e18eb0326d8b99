//! Trimming takes what it is told to take, acknowledged or not.

use redis::RedisResult;
use redis::streams::{StreamInfoGroupsReply, StreamPendingReply};

use crate::orders::{add, command, connect, names, pending, read, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    tell(c, format!("XGROUP CREATE {stream} billing 0 MKSTREAM")).await?;

    // ANCHOR: length
    let ids = add(c, stream, &["A-1", "A-2", "A-3", "A-4"]).await?;
    read(c, stream, "worker-1", "2", ">").await?;
    tell(c, format!("XACK {stream} billing {} {}", ids[0], ids[1])).await?;
    let length: u64 = command(c, format!("XLEN {stream}")).await?;
    println!("acknowledged 2 of 4, length {length}");
    // ANCHOR_END: length

    // ANCHOR: facts
    read(c, stream, "worker-1", "1", ">").await?;
    let summary: StreamPendingReply =
        command(c, format!("XPENDING {stream} billing")).await?;
    if let StreamPendingReply::Data(data) = summary {
        println!(
            "pending {}, the oldest is A-3: {}",
            data.count,
            data.start_id == ids[2]
        );
    }
    let groups: StreamInfoGroupsReply =
        command(c, format!("XINFO GROUPS {stream}")).await?;
    let group = &groups.groups[0];
    println!("the last one read is A-3: {}", group.last_delivered_id == ids[2]);
    println!("pending {}, lag {:?}", group.pending, group.lag);
    // ANCHOR_END: facts

    // ANCHOR: minid
    let taken: u64 =
        command(c, format!("XTRIM {stream} MINID = {}", ids[3])).await?;
    println!("MINID at A-4 took {taken}");
    println!("pending: {}", pending(c, stream).await?);
    println!("read 0: {}", names(&read(c, stream, "worker-1", "10", "0").await?));
    // ANCHOR_END: minid

    // ANCHOR: maxlen
    add(c, stream, &["A-5", "A-6", "A-7"]).await?;
    tell(c, format!("XTRIM {stream} MAXLEN = 2")).await?;
    println!("read >: {}", names(&read(c, stream, "worker-1", "10", ">").await?));
    // ANCHOR_END: maxlen

    // ANCHOR: lag
    let last = add(c, stream, &["A-8", "A-9", "A-10"]).await?;
    tell(c, format!("XDEL {stream} {}", last[1])).await?;
    let groups: StreamInfoGroupsReply =
        command(c, format!("XINFO GROUPS {stream}")).await?;
    println!("lag {:?}", groups.groups[0].lag);
    // ANCHOR_END: lag

    // ANCHOR: wrong
    let short = format!("{stream}:short");
    tell(c, format!("XGROUP CREATE {short} billing 0 MKSTREAM")).await?;
    let ids = add(c, &short, &["B-1", "B-2"]).await?;
    read(c, &short, "worker-1", "1", ">").await?;
    tell(c, format!("XDEL {short} {} {}", ids[0], ids[1])).await?;
    let groups: StreamInfoGroupsReply =
        command(c, format!("XINFO GROUPS {short}")).await?;
    let length: u64 = command(c, format!("XLEN {short}")).await?;
    println!("lag {:?}, entries in the stream {length}", groups.groups[0].lag);
    // ANCHOR_END: wrong

    // ANCHOR: approximate
    let long = format!("{stream}:long");
    let many: Vec<String> = (0..250).map(|n| format!("B-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let ids = add(c, &long, &many).await?;
    let roughly: u64 =
        command(c, format!("XTRIM {long} MINID ~ {}", ids[249])).await?;
    let exactly: u64 =
        command(c, format!("XTRIM {long} MINID = {}", ids[249])).await?;
    println!("~ took {roughly}, then = took {exactly}");
    // ANCHOR_END: approximate
    Ok(())
}
