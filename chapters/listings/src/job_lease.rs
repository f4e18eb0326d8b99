//! A lease: taken, renewed and given up by its owner alone.

use std::time::Duration;

use anyhow::Result;
use redis::Script;

use crate::orders::{command, connect, tell};

pub async fn run(redis: &str, stream: &str) -> Result<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    let (lease, tokens) = (format!("{stream}:leader"), format!("{stream}:token"));
    // ANCHOR: forever
    let _: u32 = command(c, format!("SETNX {lease} ann")).await?;
    // ann dies.
    let bob: bool = command(c, format!("SETNX {lease} bob")).await?;
    let ttl: i64 = command(c, format!("TTL {lease}")).await?;
    println!("bob leads: {bob}; ann's lease ends in {ttl}");
    // ANCHOR_END: forever
    // ANCHOR: another
    tell(c, format!("SET {lease} ann PX 20")).await?;
    tokio::time::sleep(Duration::from_millis(50)).await; // ann is paused.
    tell(c, format!("SET {lease} bob NX PX 60000")).await?;
    // She wakes, and gives up what she thinks is hers.
    tell(c, format!("DEL {lease}")).await?;
    let carl: Option<String> =
        command(c, format!("SET {lease} carl NX PX 60000")).await?;
    println!("bob leads, and carl too: {}", carl.is_some());
    // ANCHOR_END: another
    tell(c, format!("DEL {lease}")).await?;
    // ANCHOR: lease
    let acquire = Script::new(
        "if redis.call('EXISTS', KEYS[1]) == 1 then return false end
         local token = redis.call('INCR', KEYS[2])
         redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. token, 'PX', ARGV[2])
         return token",
    );
    let release = Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         return redis.call('DEL', KEYS[1])",
    );
    for (node, millis) in [("ann", 20), ("bob", 60_000), ("carl", 60_000)] {
        let mut call = acquire.key(&lease);
        call.key(&tokens).arg(node).arg(millis);
        let token: Option<u64> = call.invoke_async(c).await?;
        println!("{node}: {token:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let hers: bool = release.key(&lease).arg("ann 1").invoke_async(c).await?;
    println!("ann's term had it: {hers}");
    // ANCHOR_END: lease
    tell(c, format!("DEL {lease} {tokens}")).await?;
    Ok(())
}
