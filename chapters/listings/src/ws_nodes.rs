//! One chat, several nodes, and Redis between them.

use futures::StreamExt;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use crate::orders::{command, connect, tell};

pub async fn run(redis: &str, stream: &str) -> anyhow::Result<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;

    // ANCHOR: pubsub
    let client = redis::Client::open(redis)?;
    let channel = format!("{stream}:rust");
    let mut node = client.get_async_pubsub().await?;
    node.subscribe(&channel).await?;
    tell(c, format!("PUBLISH {channel} one")).await?;
    let heard = node.on_message().next().await;
    let heard: Option<String> = heard.and_then(|m| m.get_payload().ok());
    println!("heard {}", heard.unwrap_or_default());
    // The connection breaks, and the node connects again.
    drop(node);
    let listeners: u64 = loop {
        let reply: (String, u64) =
            command(c, format!("PUBSUB NUMSUB {channel}")).await?;
        if reply.1 == 0 {
            break command(c, format!("PUBLISH {channel} two")).await?;
        }
    };
    println!("two went to {listeners}");
    let mut node = client.get_async_pubsub().await?;
    node.subscribe(&channel).await?;
    tell(c, format!("PUBLISH {channel} three")).await?;
    let heard = node.on_message().next().await;
    let heard: Option<String> = heard.and_then(|m| m.get_payload().ok());
    println!("heard {}", heard.unwrap_or_default());
    // ANCHOR_END: pubsub

    // ANCHOR: apart
    let room = format!("{stream}:room:tea");
    let mut numbers = Vec::new();
    for _node in ["a", "b"] {
        let number: u64 = command(c, format!("INCR {room}:last")).await?;
        numbers.push(number);
    }
    // Node b gets to its second command first.
    tell(c, format!("XADD {room} * seq {} from b", numbers[1])).await?;
    tell(c, format!("XADD {room} * seq {} from a", numbers[0])).await?;
    println!("in the stream: {}", messages(c, &room).await?);
    // ANCHOR_END: apart

    // ANCHOR: script
    let append = redis::Script::new(
        "local last = redis.call('INCR', KEYS[2])
         redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[1], last .. '-0',
             'seq', last, 'from', ARGV[2])
         return last",
    );
    let room = format!("{stream}:room:rust");
    for from in ["a", "b", "a"] {
        let number: u64 = append
            .key(&room)
            .key(format!("{room}:last"))
            .arg(2)
            .arg(from)
            .invoke_async(c)
            .await?;
        println!("{from} got number {number}");
    }
    println!("in the stream: {}", messages(c, &room).await?);
    // ANCHOR_END: script

    // ANCHOR: lease
    let members = format!("{stream}:members");
    tell(c, format!("HSET {members} ada node-a bob node-b")).await?;
    for node in ["node-a", "node-b"] {
        tell(c, format!("SET {stream}:{node} alive PX 60000")).await?;
    }
    println!("members: {}", living(c, stream).await?);
    // Node b is killed. What it wrote about bob stays, and its lease runs out.
    tell(c, format!("PEXPIRE {stream}:node-b 0")).await?;
    println!("members: {}", living(c, stream).await?);
    // It was only paused, and comes back. XX: only if the lease is still there.
    let renewed: Option<String> =
        command(c, format!("SET {stream}:node-b alive XX PX 60000")).await?;
    println!("node-b could renew its lease: {}", renewed.is_some());
    // ANCHOR_END: lease

    // ANCHOR: once
    // Nodes a and c have both noticed that node b is dead.
    for node in ["node-a", "node-c"] {
        let removed: u64 = command(c, format!("HDEL {members} bob")).await?;
        println!("{node} announces that bob left: {}", removed == 1);
    }
    // ANCHOR_END: once

    // ANCHOR: names
    // Two nodes that look first, and then take the name.
    let name = format!("{stream}:name:cleo");
    let free_for_a: bool = command::<u64>(c, format!("EXISTS {name}")).await? == 0;
    let free_for_b: bool = command::<u64>(c, format!("EXISTS {name}")).await? == 0;
    println!("cleo is free for a: {free_for_a}, for b: {free_for_b}");
    for node in ["node-a", "node-b"] {
        let got: Option<String> =
            command(c, format!("SET {name} {node} NX PX 3000")).await?;
        println!("with NX {node} got it: {}", got.is_some());
    }
    // ANCHOR_END: names
    Ok(())
}

/// The messages of a room's stream, in its order.
async fn messages(
    c: &mut MultiplexedConnection,
    room: &str,
) -> RedisResult<String> {
    let reply: redis::streams::StreamRangeReply =
        command(c, format!("XRANGE {room} - +")).await?;
    let words = reply.ids.iter().map(|entry| {
        let seq: String = entry.get("seq").unwrap_or_default();
        let from: String = entry.get("from").unwrap_or_default();
        format!("{seq} from {from}")
    });
    Ok(words.collect::<Vec<_>>().join(", "))
}

// ANCHOR: living
/// Members whose node has a lease.
async fn living(
    c: &mut MultiplexedConnection,
    stream: &str,
) -> RedisResult<String> {
    let members: std::collections::BTreeMap<String, String> =
        command(c, format!("HGETALL {stream}:members")).await?;
    let mut living = Vec::new();
    for (name, node) in members {
        if command::<u64>(c, format!("EXISTS {stream}:{node}")).await? == 1 {
            living.push(name);
        }
    }
    Ok(living.join(" "))
}
// ANCHOR_END: living
