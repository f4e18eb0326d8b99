//! A history that the wire itself told.

use std::time::Instant;

use lab::faults::Proxy;
use lab::history::{History, Verdict, What, acknowledged_only_after_success};

use crate::orders::{add, command, connect, names, read, tell};

pub async fn run(redis: &str, stream: &str) -> anyhow::Result<()> {
    // ANCHOR: run
    let began = Instant::now();
    let proxy = Proxy::start(redis, began)?;
    let history = History::new(began);

    let mut connection = connect(&proxy.url()).await?;
    let c = &mut connection;
    tell(c, format!("XGROUP CREATE {stream} billing 0 MKSTREAM")).await?;
    add(c, stream, &["A-1", "A-2"]).await?;

    for entry in read(c, stream, "worker-1", "10", ">").await? {
        let order = names(std::slice::from_ref(&entry));
        let acknowledge = format!("XACK {stream} billing {}", entry.id);
        if order == "A-1" {
            history.record("worker-1", What::Succeeded, &entry.id);
            let _: u64 = command(c, acknowledge).await?;
        } else {
            // The mistake: for A-2 the two are the other way round.
            let _: u64 = command(c, acknowledge).await?;
            history.record("worker-1", What::Succeeded, &entry.id);
        }
    }
    // What was delivered and acknowledged stands in the proxy's log.
    history.absorb(&proxy, stream, "billing");
    // ANCHOR_END: run

    // ANCHOR: judge
    let events = history.events();
    for event in events.iter().filter(|event| !event.id.is_empty()) {
        println!("{} {}: {}", event.actor, event.what, event.id);
    }
    if let Verdict::Violated(anomaly) = acknowledged_only_after_success(&events) {
        println!("{}: {}", anomaly.name, anomaly.ids.join(" "));
    }
    // ANCHOR_END: judge
    Ok(())
}
