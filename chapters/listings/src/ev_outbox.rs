//! A state and an event that belong together, and the way of the event into the log.

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamRangeReply};

use crate::orders::{command, connect, tell};

type Connection = MultiplexedConnection;

// ANCHOR: shared
/// What the parts look like from outside.
async fn look(c: &mut Connection, p: &str) -> RedisResult<String> {
    let state: Option<String> = command(c, format!("GET {p}:trip:7")).await?;
    let state = state.as_deref().unwrap_or("none");
    let outbox: u32 = command(c, format!("XLEN {p}:outbox")).await?;
    let log: u32 = command(c, format!("XLEN {p}:log")).await?;
    Ok(format!("state {state}, outbox {outbox}, log {log}"))
}

/// The oldest entry of the outbox.
async fn oldest(c: &mut Connection, p: &str) -> RedisResult<Option<StreamId>> {
    let line = format!("XRANGE {p}:outbox - + COUNT 1");
    let reply: StreamRangeReply = command(c, line).await?;
    Ok(reply.ids.into_iter().next())
}
// ANCHOR_END: shared

async fn forget(c: &mut Connection, p: &str) -> RedisResult<()> {
    tell(c, format!("DEL {p}:trip:7 {p}:log {p}:outbox {p}:relayed")).await
}

// ANCHOR: commit
async fn book(c: &mut Connection, p: &str) -> RedisResult<()> {
    redis::pipe()
        .atomic()
        .cmd("SET")
        .arg(&[&format!("{p}:trip:7"), "booked"])
        .cmd("XADD")
        .arg(&[&format!("{p}:outbox"), "*", "event", "booked:7"])
        .exec_async(c)
        .await
}
// ANCHOR_END: commit

// ANCHOR: marked
/// Appends the entry and notes that it did, in one step.
async fn append_marked(c: &mut Connection, p: &str, id: &str) -> RedisResult<()> {
    redis::pipe()
        .atomic()
        .cmd("XADD")
        .arg(&[&format!("{p}:log"), "*", "event", "booked:7"])
        .cmd("SET")
        .arg(&[&format!("{p}:relayed"), id])
        .exec_async(c)
        .await
}

async fn marker(c: &mut Connection, p: &str) -> RedisResult<Option<String>> {
    command(c, format!("GET {p}:relayed")).await
}
// ANCHOR_END: marked

pub async fn run(redis: &str, p: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;

    // ANCHOR: state_first
    tell(c, format!("SET {p}:trip:7 booked")).await?;
    // The process dies here, before this:
    // XADD {p}:log * event booked:7
    println!("state first: {}", look(c, p).await?);
    // ANCHOR_END: state_first
    forget(c, p).await?;

    // ANCHOR: event_first
    tell(c, format!("XADD {p}:log * event booked:7")).await?;
    // The process dies here, or the write is refused:
    // SET {p}:trip:7 booked
    println!("event first: {}", look(c, p).await?);
    // ANCHOR_END: event_first
    forget(c, p).await?;

    // ANCHOR: stale
    tell(c, format!("SET {p}:trip:7 2")).await?; // Seats left.
    let ada: u32 = command(c, format!("GET {p}:trip:7")).await?;
    let bob: u32 = command(c, format!("GET {p}:trip:7")).await?;
    tell(c, format!("SET {p}:trip:7 {}", ada - 1)).await?;
    tell(c, format!("SET {p}:trip:7 {}", bob - 1)).await?;
    let seats: u32 = command(c, format!("GET {p}:trip:7")).await?;
    println!("two of two seats sold, {seats} left");
    // ANCHOR_END: stale
    forget(c, p).await?;

    // ANCHOR: remove_first
    book(c, p).await?;
    if let Some(entry) = oldest(c, p).await? {
        tell(c, format!("XDEL {p}:outbox {}", entry.id)).await?;
        // The relay dies here. The next one:
    }
    println!("removed first: {}", look(c, p).await?);
    // ANCHOR_END: remove_first
    forget(c, p).await?;

    // ANCHOR: append_first
    book(c, p).await?;
    for dies in [true, false] {
        let Some(entry) = oldest(c, p).await? else { break };
        tell(c, format!("XADD {p}:log * event booked:7")).await?;
        if dies {
            continue; // The next relay begins.
        }
        tell(c, format!("XDEL {p}:outbox {}", entry.id)).await?;
    }
    println!("appended first: {}", look(c, p).await?);
    // ANCHOR_END: append_first
    forget(c, p).await?;

    // ANCHOR: marker
    book(c, p).await?;
    for dies in [true, false] {
        let Some(entry) = oldest(c, p).await? else { break };
        if marker(c, p).await?.as_deref() != Some(&entry.id) {
            append_marked(c, p, &entry.id).await?;
        }
        if dies {
            continue;
        }
        tell(c, format!("XDEL {p}:outbox {}", entry.id)).await?;
    }
    println!("with a marker: {}", look(c, p).await?);
    // ANCHOR_END: marker
    forget(c, p).await?;

    // ANCHOR: two_relays
    book(c, p).await?;
    if let Some(entry) = oldest(c, p).await? {
        let one = marker(c, p).await?;
        let two = marker(c, p).await?;
        for seen in [one, two] {
            if seen.as_deref() != Some(&entry.id) {
                append_marked(c, p, &entry.id).await?;
            }
        }
    }
    println!("two relays that look first: {}", look(c, p).await?);
    // ANCHOR_END: two_relays
    Ok(())
}
