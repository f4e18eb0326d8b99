//! The smallest schedule: a sorted set, and somebody who looks.

use anyhow::Result;

use crate::orders::{command, connect};

pub async fn run(redis: &str, stream: &str) -> Result<()> {
    let mut connection = connect(redis).await?;
    let due = format!("{stream}:due");
    // ANCHOR: all
    let c = &mut connection;
    for (job, second) in [("dunning", 30), ("backup", 10), ("report", 20)] {
        let _: u32 = command(c, format!("ZADD {due} {second} {job}")).await?;
    }
    for now in [5, 15, 25, 35] {
        let looked = format!("ZRANGE {due} -inf {now} BYSCORE LIMIT 0 1");
        let jobs: Vec<String> = command(c, looked).await?;
        for job in jobs {
            println!("at second {now}: {job}");
            let _: u32 = command(c, format!("ZREM {due} {job}")).await?;
        }
    }
    // ANCHOR_END: all
    let _: u32 = command(c, format!("DEL {due}")).await?;
    Ok(())
}
