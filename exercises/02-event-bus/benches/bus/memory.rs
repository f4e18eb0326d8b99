//! What a bus holds while a million events are published and one subscription hangs, and what a
//! channel without a bound would hold.

use std::process::Command;
use std::sync::Arc;

use event_bus::{Bus, Overflow, Subscribe};
use futures::FutureExt as _;
use tokio::sync::mpsc;

use crate::publish::event;

const EVENTS: u64 = 1_000_000;

pub async fn measure() -> anyhow::Result<()> {
    println!("memory: {EVENTS} events for a subscription that hangs, 1,024 may wait");
    println!("  overflow       published    waited   waiting   dropped   grown by");
    // The first round pays for what the allocator takes once.
    one(Overflow::DropOldest, false).await?;
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::Disconnect] {
        one(overflow, true).await?;
    }
    unbounded()
}

async fn one(overflow: Overflow, print: bool) -> anyhow::Result<()> {
    let bus = Bus::new();
    let options = Subscribe {
        overflow,
        timeout: None,
        ..Subscribe::default()
    };
    let hung = bus.subscribe("order.placed", options, |_| std::future::pending())?;
    let before = resident()?;
    let (mut published, mut waited) = (0_u64, 0_u64);
    for _ in 0..EVENTS {
        // One that would wait is not waited for: that is how a publisher is pushed back.
        match bus.publish(event()).now_or_never() {
            Some(ended) => published += u64::from(ended.is_ok()),
            None => waited += 1,
        }
    }
    let grown = resident()?.saturating_sub(before);
    let stats = hung.stats();
    if print {
        let (waiting, dropped) = (stats.waiting, stats.dropped);
        let overflow = format!("{overflow:?}");
        println!(
            "  {overflow:<12} {published:>11} {waited:>9} {waiting:>9} {dropped:>9} {grown:>6} KiB"
        );
    }
    Ok(())
}

/// The naive way: a channel without a bound, and somebody who does not read it.
fn unbounded() -> anyhow::Result<()> {
    let (sender, hung) = mpsc::unbounded_channel();
    let before = resident()?;
    for _ in 0..EVENTS {
        sender.send(Arc::new(event()))?;
    }
    let grown = resident()?.saturating_sub(before);
    let waiting = hung.len();
    println!(
        "  no bound     {EVENTS:>11} {:>9} {waiting:>9} {:>9} {grown:>6} KiB",
        0, 0
    );
    Ok(())
}

/// The resident size of this process in KiB.
fn resident() -> anyhow::Result<u64> {
    let process = std::process::id().to_string();
    let shown = Command::new("ps")
        .args(["-o", "rss=", "-p", &process])
        .output()?;
    Ok(String::from_utf8(shown.stdout)?.trim().parse()?)
}
