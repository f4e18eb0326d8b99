//! What the listings share, so that each can show its own point.

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamPendingCountReply, StreamReadReply};
use redis::{FromRedisValue, RedisResult};

/// A connection of its own, with redis-rs' defaults.
pub async fn connect(redis: &str) -> RedisResult<MultiplexedConnection> {
    redis::Client::open(redis)?.get_multiplexed_async_connection().await
}

// ANCHOR: shared
/// Sends one command as one would type it into redis-cli. A value with a space in it would be
/// taken apart, so a real program passes its arguments one by one.
pub async fn command<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    line: impl AsRef<str>,
) -> RedisResult<T> {
    let mut words = line.as_ref().split(' ');
    redis::cmd(words.next().unwrap_or_default())
        .arg(words.collect::<Vec<_>>())
        .query_async(connection)
        .await
}

/// Sends one command whose reply does not matter, as long as it is no error.
pub async fn tell(
    connection: &mut MultiplexedConnection,
    line: impl AsRef<str>,
) -> RedisResult<()> {
    command::<redis::Value>(connection, line).await.map(drop)
}

/// Adds one entry for each order.
pub async fn add(
    connection: &mut MultiplexedConnection,
    stream: &str,
    orders: &[&str],
) -> RedisResult<Vec<String>> {
    let mut ids = Vec::new();
    for order in orders {
        ids.push(
            command(connection, format!("XADD {stream} * order {order}")).await?,
        );
    }
    Ok(ids)
}

/// Reads up to `count` entries of the group for `consumer`, after `after` (`>` is "new ones").
pub async fn read(
    connection: &mut MultiplexedConnection,
    stream: &str,
    consumer: &str,
    count: &str,
    after: &str,
) -> RedisResult<Vec<StreamId>> {
    let group = format!("GROUP billing {consumer} COUNT {count}");
    let line = format!("XREADGROUP {group} STREAMS {stream} {after}");
    let reply: StreamReadReply = command(connection, line).await?;
    Ok(reply.keys.into_iter().flat_map(|key| key.ids).collect())
}

/// What the group holds as delivered and not acknowledged, oldest first: each order with its
/// consumer and its number of deliveries. What is no longer in the stream is "(gone)".
pub async fn pending(
    connection: &mut MultiplexedConnection,
    stream: &str,
) -> RedisResult<String> {
    let reply: StreamPendingCountReply =
        command(connection, format!("XPENDING {stream} billing - + 100")).await?;
    let mut lines = Vec::new();
    for entry in &reply.ids {
        let found = range(connection, stream, &entry.id).await?;
        let order =
            if found.is_empty() { "(gone)".to_owned() } else { names(&found) };
        lines.push(format!(
            "{order} ({}, {}x)",
            entry.consumer, entry.times_delivered
        ));
    }
    Ok(if lines.is_empty() { "nothing".to_owned() } else { lines.join(", ") })
}
// ANCHOR_END: shared

/// The entry with this id, if the stream still has it.
async fn range(
    connection: &mut MultiplexedConnection,
    stream: &str,
    id: &str,
) -> RedisResult<Vec<StreamId>> {
    let reply: redis::streams::StreamRangeReply =
        command(connection, format!("XRANGE {stream} {id} {id}")).await?;
    Ok(reply.ids)
}

/// The orders in these entries, as one line.
pub fn names(entries: &[StreamId]) -> String {
    if entries.is_empty() {
        return "nothing".to_owned();
    }
    let orders: Vec<String> = entries
        .iter()
        // An entry that was deleted comes back with its id and without fields.
        .map(|entry| entry.get("order").unwrap_or_else(|| "(gone)".to_owned()))
        .collect();
    orders.join(" ")
}

/// Deletes what a listing left behind: its stream and every key that begins with its name.
///
/// # Errors
/// When Redis does not answer.
pub async fn clean_up(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let keys: Vec<String> =
        command(&mut connection, format!("KEYS {stream}*")).await?;
    for key in keys {
        tell(&mut connection, format!("DEL {key}")).await?;
    }
    Ok(())
}
