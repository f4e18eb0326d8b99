//! Two nodes claim what both have seen, and a claim that says what it saw.

use anyhow::Result;
use redis::Script;

use crate::orders::{command, connect};

pub async fn run(redis: &str, stream: &str) -> Result<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    let due = format!("{stream}:due");
    // ANCHOR: apart
    let _: u32 = command(c, format!("ZADD {due} 60 report")).await?;
    // Both nodes look before either has written.
    let looked = format!("ZRANGE {due} -inf 60 BYSCORE");
    let ann: Vec<String> = command(c, &looked).await?;
    let bob: Vec<String> = command(c, &looked).await?;
    for (node, jobs) in [("ann", ann), ("bob", bob)] {
        for job in jobs {
            let _: u32 = command(c, format!("ZADD {due} 120 {job}")).await?;
            println!("{node} runs {job}");
        }
    }
    // ANCHOR_END: apart
    // ANCHOR: claim
    let claim = Script::new(
        "local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
         if not score or tonumber(score) ~= tonumber(ARGV[2]) then return 0 end
         redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
         redis.call('SADD', KEYS[2], ARGV[1] .. '@' .. ARGV[2])
         return 1",
    );
    let open = format!("{stream}:open");
    for node in ["ann", "bob"] {
        let mut call = claim.key(&due);
        // It was due at 120 when both looked; its next time is 180.
        call.key(&open).arg("report").arg(120).arg(180);
        let counts: bool = call.invoke_async(c).await?;
        println!("{node} claims report for 120: {counts}");
    }
    let runs: Vec<String> = command(c, format!("SMEMBERS {open}")).await?;
    println!("open: {}", runs.join(", "));
    // ANCHOR_END: claim
    let _: u32 = command(c, format!("DEL {due} {open}")).await?;
    Ok(())
}
