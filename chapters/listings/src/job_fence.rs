//! A leader that looked, was paused, and writes.

use anyhow::Result;
use redis::Script;

use crate::orders::{command, connect, tell};

pub async fn run(redis: &str, stream: &str) -> Result<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    let (lease, due) = (format!("{stream}:leader"), format!("{stream}:due"));
    let fence = format!("{stream}:fence");
    // ANCHOR: looked
    tell(c, format!("SET {lease} ann-1")).await?;
    tell(c, format!("ZADD {due} 60 report")).await?;
    let leads: String = command(c, format!("GET {lease}")).await?;
    if leads == "ann-1" {
        // Here she is paused, her lease ends, and bob works.
        tell(c, format!("SET {lease} bob-2")).await?;
        tell(c, format!("ZADD {due} 120 report")).await?;
        // She wakes. She has just looked, after all.
        tell(c, format!("ZADD {due} 60 report")).await?;
    }
    let score: u32 = command(c, format!("ZSCORE {due} report")).await?;
    println!("bob had moved it to 120; it is due at {score}");
    // ANCHOR_END: looked
    // ANCHOR: fenced
    let write = Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'refused' end
         redis.call('ZADD', KEYS[2], ARGV[2], 'report')
         return 'written'",
    );
    for term in ["bob-2", "ann-1"] {
        let mut call = write.key(&lease);
        let said: String =
            call.key(&due).arg(term).arg(180).invoke_async(c).await?;
        println!("{term}: {said}");
    }
    // ANCHOR_END: fenced
    // ANCHOR: service
    let effect = Script::new(
        "local highest = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
         if tonumber(ARGV[2]) < highest then return 'stale' end
         redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
         return 'done'",
    );
    for (time, token) in [(60, 1), (120, 2), (90, 1), (180, 2)] {
        let mut call = effect.key(&fence);
        let said: String = call.arg("report").arg(token).invoke_async(c).await?;
        println!("report for {time} with token {token}: {said}");
    }
    // ANCHOR_END: service
    tell(c, format!("DEL {lease} {due} {fence}")).await?;
    Ok(())
}
