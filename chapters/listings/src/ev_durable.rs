//! Events that outlive the process: Pub/Sub forgets, a stream does not.

use futures::StreamExt;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamReadReply};

use crate::orders::{command, connect, tell};

type Connection = MultiplexedConnection;

// ANCHOR: shared
/// Appends an event to the log.
pub async fn append(
    c: &mut Connection,
    log: &str,
    event: &str,
) -> RedisResult<String> {
    command(c, format!("XADD {log} * event {event}")).await
}

/// Reads one event for a subscriber: a new one (`>`), or its own pending one (`0`).
async fn read(
    c: &mut Connection,
    log: &str,
    group: &str,
    after: &str,
) -> RedisResult<Option<StreamId>> {
    let who = format!("GROUP {group} {group} COUNT 1");
    let line = format!("XREADGROUP {who} STREAMS {log} {after}");
    // No new event is nil, no pending one an empty list.
    let reply: Option<StreamReadReply> = command(c, line).await?;
    Ok(reply
        .and_then(|reply| reply.keys.into_iter().flat_map(|key| key.ids).next()))
}

pub fn name(entry: Option<&StreamId>) -> String {
    let event = entry.and_then(|entry| entry.get("event"));
    event.unwrap_or_else(|| "nothing".to_owned())
}
// ANCHOR_END: shared

pub async fn run(redis: &str, log: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;

    // ANCHOR: pubsub
    let client = redis::Client::open(redis)?;
    let told: u32 = command(c, format!("PUBLISH {log} booked:1")).await?;
    println!("nobody is connected: {told} told");
    for event in ["booked:2", "booked:4"] {
        let mut mail = client.get_async_pubsub().await?;
        mail.subscribe(log).await?;
        tell(c, format!("PUBLISH {log} {event}")).await?;
        if let Some(message) = mail.on_message().next().await {
            println!("mail heard {}", message.get_payload::<String>()?);
        }
        drop(mail); // It is restarted. Meanwhile:
        tell(c, format!("PUBLISH {log} booked:3")).await?;
    }
    // ANCHOR_END: pubsub

    // ANCHOR: groups
    for event in ["booked:1", "booked:2", "booked:3"] {
        append(c, log, event).await?;
    }
    for group in ["mail", "board"] {
        tell(c, format!("XGROUP CREATE {log} {group} 0 MKSTREAM")).await?;
    }
    if let Some(first) = read(c, log, "mail", ">").await? {
        println!("mail: {}", name(Some(&first)));
        tell(c, format!("XACK {log} mail {}", first.id)).await?;
    }
    let second = read(c, log, "mail", ">").await?;
    println!("mail: {}, and is killed", name(second.as_ref()));
    // The next process under the same name.
    println!("mail, new only: {}", name(read(c, log, "mail", ">").await?.as_ref()));
    println!("mail, its own: {}", name(read(c, log, "mail", "0").await?.as_ref()));
    println!("board: {}", name(read(c, log, "board", ">").await?.as_ref()));
    // ANCHOR_END: groups

    overtaken(c, &format!("{log}:2")).await?;
    replay(c, &format!("{log}:3")).await
}

async fn overtaken(c: &mut Connection, log: &str) -> RedisResult<()> {
    // ANCHOR: overtaken
    tell(c, format!("XGROUP CREATE {log} board 0 MKSTREAM")).await?;
    append(c, log, "booked").await?;
    append(c, log, "cancelled").await?;
    let mut shown = String::new();
    let mut fails = true; // The database of the board is away for a moment.
    for after in [">", ">", "0"] {
        let Some(entry) = read(c, log, "board", after).await? else { continue };
        if std::mem::take(&mut fails) {
            println!("{} failed, go on", name(Some(&entry)));
            continue;
        }
        shown = name(Some(&entry));
        println!("{shown}");
        tell(c, format!("XACK {log} board {}", entry.id)).await?;
    }
    println!("the board shows the trip as {shown}");
    // ANCHOR_END: overtaken
    Ok(())
}

async fn replay(c: &mut Connection, log: &str) -> RedisResult<()> {
    // ANCHOR: replay
    tell(c, format!("XGROUP CREATE {log} board 0 MKSTREAM")).await?;
    let mut ids = Vec::new();
    for event in ["booked:1", "booked:2", "booked:3"] {
        ids.push(append(c, log, event).await?);
        let entry = read(c, log, "board", ">").await?;
        println!("read {}", name(entry.as_ref()));
    }
    tell(c, format!("XACK {log} board {} {}", ids[1], ids[2])).await?;

    println!("set to the id of booked:2");
    tell(c, format!("XGROUP SETID {log} board {}", ids[1])).await?;
    println!("read {}", name(read(c, log, "board", ">").await?.as_ref()));
    println!("own: {}", name(read(c, log, "board", "0").await?.as_ref()));
    // ANCHOR_END: replay
    Ok(())
}
