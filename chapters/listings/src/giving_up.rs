//! Moving an entry elsewhere: MULTI does both steps, but it does not look first.

use redis::{RedisResult, Script};

use crate::orders::{add, command, connect, pending, read, tell};

pub async fn run(redis: &str, stream: &str) -> RedisResult<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    tell(c, format!("XGROUP CREATE {stream} billing 0 MKSTREAM")).await?;

    // ANCHOR: count
    add(c, stream, &["poison", "A-2"]).await?;
    read(c, stream, "worker-1", "10", ">").await?;
    for _ in 0..3 {
        let again = read(c, stream, "worker-1", "10", "0").await?;
        // A-2 succeeds, the poison entry never does.
        if let Some(good) = again.get(1) {
            tell(c, format!("XACK {stream} billing {}", good.id)).await?;
        }
    }
    println!("pending: {}", pending(c, stream).await?);
    // ANCHOR_END: count

    // ANCHOR: multi
    let poison = read(c, stream, "worker-1", "1", "0").await?.remove(0).id;
    let parked = format!("{stream}:parked");
    for worker in ["worker-1", "worker-2"] {
        let (_, acknowledged): (String, u64) = redis::pipe()
            .atomic()
            .cmd("XADD")
            .arg(&[&parked, "*", "order", "poison", "by", worker])
            .cmd("XACK")
            .arg(&[stream, "billing", &poison])
            .query_async(c)
            .await?;
        println!("{worker} parked it, acknowledged {acknowledged}");
    }
    let length: u64 = command(c, format!("XLEN {parked}")).await?;
    println!("parked entries: {length}");
    // ANCHOR_END: multi

    // ANCHOR: script
    // Counts an entry as settled, but only for the one whose XACK took effect.
    let settle = Script::new(
        r"
        local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
        if acknowledged == 1 then
            redis.call('INCR', KEYS[2])
        end
        return acknowledged
        ",
    );
    add(c, stream, &["A-3"]).await?;
    let id = read(c, stream, "worker-1", "1", ">").await?.remove(0).id;
    let settled = format!("{stream}:settled");
    for worker in ["worker-1", "worker-2"] {
        let acknowledged: u64 = settle
            .key(stream)
            .key(&settled)
            .arg("billing")
            .arg(&id)
            .invoke_async(c)
            .await?;
        println!("{worker} settled {acknowledged}");
    }
    let count: u64 = command(c, format!("GET {settled}")).await?;
    println!("settled entries: {count}");
    // ANCHOR_END: script
    Ok(())
}
