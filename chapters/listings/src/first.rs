//! One entry from the producer to its acknowledgement.

// ANCHOR: all
use redis::RedisResult;
use redis::streams::StreamReadReply;

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let client = redis::Client::open(redis)?;
    let mut connection = client.get_multiplexed_async_connection().await?;

    // The producer: one entry with two fields. Redis chooses the id.
    let sent: String = redis::cmd("XADD")
        .arg(stream)
        .arg("*")
        .arg(&[("order_id", "A-1"), ("amount", "12.50")])
        .query_async(&mut connection)
        .await?;
    println!("sent {sent}");

    // A group that begins at the beginning of the stream.
    redis::cmd("XGROUP")
        .arg(&["CREATE", stream, "billing", "0"])
        .exec_async(&mut connection)
        .await?;

    // A consumer of the group reads what nobody in the group has read yet.
    let reply: StreamReadReply = redis::cmd("XREADGROUP")
        .arg(&["GROUP", "billing", "worker-1", "COUNT", "10"])
        .arg(&["STREAMS", stream, ">"])
        .query_async(&mut connection)
        .await?;

    for entry in reply.keys.iter().flat_map(|key| &key.ids) {
        let order: String = entry.get("order_id").unwrap_or_default();
        println!("charging order {order}");
        // Only now, after the work, does the group let go of the entry.
        let acknowledged: u64 = redis::cmd("XACK")
            .arg(&[stream, "billing", &entry.id])
            .query_async(&mut connection)
            .await?;
        println!("acknowledged {acknowledged}");
    }
    Ok(())
}
// ANCHOR_END: all
