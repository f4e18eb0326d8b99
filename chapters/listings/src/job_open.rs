//! A crash between claiming and publishing, and one between publishing and noting it.

use anyhow::Result;

use crate::orders::{command, connect};

pub async fn run(redis: &str, stream: &str) -> Result<()> {
    let mut connection = connect(redis).await?;
    let c = &mut connection;
    // A list stands for the service's queue.
    let (open, queue) = (format!("{stream}:open"), format!("{stream}:queue"));
    // ANCHOR: crashes
    for run in ["never-published", "published", "published-and-noted"] {
        // Claimed: open from now on, to be published at once.
        let _: u32 = command(c, format!("ZADD {open} 0 {run}")).await?;
        if run == "never-published" {
            continue; // The node dies here …
        }
        let _: u32 = command(c, format!("RPUSH {queue} {run}")).await?;
        if run == "published" {
            continue; // … or here.
        }
        let _: u32 = command(c, format!("ZADD {open} 300 {run}")).await?;
    }
    let left: Vec<String> = command(c, format!("ZRANGE {open} 0 -1")).await?;
    println!("the next leader finds: {}", left.join(", "));
    // It cannot tell them apart, so it publishes all of them.
    for run in left {
        let _: u32 = command(c, format!("RPUSH {queue} {run}")).await?;
    }
    let came: Vec<String> = command(c, format!("LRANGE {queue} 0 -1")).await?;
    println!("the service gets: {}", came.join(", "));
    // ANCHOR_END: crashes
    let _: u32 = command(c, format!("DEL {open} {queue}")).await?;
    Ok(())
}
