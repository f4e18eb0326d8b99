//! A feed in a Redis stream: positions, ids that are gone, and trimming.

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamRangeReply, StreamReadReply};

use crate::orders::{add, command, connect, names, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;

    let reader: u64 = command(c, "CLIENT ID").await?;

    // ANCHOR: dollar
    add(c, stream, &["A-1"]).await?;
    let mut seen = Vec::new();
    for orders in [["A-2", "A-3"], ["A-4", "A-5"]] {
        // Something is published while nobody reads, and something while the read waits.
        add(c, stream, &orders[..1]).await?;
        let mut other = connect(redis).await?;
        let (read, added) = tokio::join!(xread(c, stream, "$"), async {
            waiting(&mut other, reader).await?;
            add(&mut other, stream, &orders[1..]).await
        });
        added?;
        seen.extend(read?.into_iter().map(|(_, order)| order));
    }
    println!("XREAD from $ in a loop: {}", seen.join(" "));
    // ANCHOR_END: dollar

    // ANCHOR: position
    let newest: StreamRangeReply =
        command(c, format!("XREVRANGE {stream} + - COUNT 1")).await?;
    let mut position = newest.ids[0].id.clone();
    let mut seen = Vec::new();
    for orders in [["A-6", "A-7"], ["A-8", "A-9"]] {
        add(c, stream, &orders).await?;
        for (id, order) in xread(c, stream, &position).await? {
            position = id;
            seen.push(order);
        }
    }
    println!("XREAD from the last id: {}", seen.join(" "));
    // ANCHOR_END: position

    // ANCHOR: known
    let ids = add(c, stream, &["B-1", "B-2", "B-3", "B-4"]).await?;
    tell(c, format!("XTRIM {stream} MAXLEN = 3")).await?;
    for id in &ids[..2] {
        let after: StreamRangeReply =
            command(c, format!("XRANGE {stream} ({id} +")).await?;
        let itself: StreamRangeReply =
            command(c, format!("XRANGE {stream} {id} {id}")).await?;
        let known = !itself.ids.is_empty();
        println!("after it: {}; known: {known}", names(&after.ids));
    }
    // ANCHOR_END: known

    // ANCHOR: trimmed
    let place = add(c, stream, &["C-1"]).await?.remove(0);
    // The reader is held up here. Others publish, and trim.
    add(c, stream, &["C-2", "C-3", "C-4", "C-5"]).await?;
    tell(c, format!("XTRIM {stream} MAXLEN = 2")).await?;
    let read = xread(c, stream, &place).await?;
    let seen: Vec<String> = read.into_iter().map(|(_, order)| order).collect();
    println!("XREAD from a place that is gone: {}", seen.join(" "));
    // ANCHOR_END: trimmed

    // ANCHOR: approximate
    let many: Vec<String> = (0..250).map(|n| format!("D-{n}")).collect();
    let (roughly, exactly) =
        (format!("{stream}:roughly"), format!("{stream}:exactly"));
    for order in &many {
        tell(c, format!("XADD {roughly} MAXLEN ~ 10 * order {order}")).await?;
        tell(c, format!("XADD {exactly} MAXLEN = 10 * order {order}")).await?;
    }
    for key in [&roughly, &exactly] {
        println!("kept: {}", command::<u64>(c, format!("XLEN {key}")).await?);
    }
    // ANCHOR_END: approximate
    Ok(())
}

/// One blocking read from a position, on a connection of its own without a response timeout.
async fn xread(
    c: &mut MultiplexedConnection,
    stream: &str,
    position: &str,
) -> RedisResult<Vec<(String, String)>> {
    c.set_response_timeout(std::time::Duration::from_secs(60));
    let line = format!("XREAD BLOCK 30000 STREAMS {stream} {position}");
    let reply: StreamReadReply = command(c, line).await?;
    let entries = reply.keys.into_iter().flat_map(|key| key.ids);
    Ok(entries
        .map(|e| (e.id.clone(), e.get("order").unwrap_or_default()))
        .collect())
}

/// Returns when that connection waits in a blocking command.
async fn waiting(c: &mut MultiplexedConnection, reader: u64) -> RedisResult<()> {
    loop {
        let client: String = command(c, format!("CLIENT LIST ID {reader}")).await?;
        if client.contains("flags=b") {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}
