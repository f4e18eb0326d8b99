//! Why a slow entry must not hold up its batch. No Redis here: only the order of the work.

use std::collections::VecDeque;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Mutex;

// ANCHOR: work
/// Work that has to wait `steps` times before it is done.
async fn work(order: &'static str, steps: usize) -> &'static str {
    for _ in 0..steps {
        tokio::task::yield_now().await;
    }
    order
}

const ORDERS: [(&str, usize); 6] =
    [("slow", 100), ("A-2", 1), ("A-3", 1), ("A-4", 1), ("A-5", 1), ("A-6", 1)];
// ANCHOR_END: work

pub async fn run() {
    // ANCHOR: batches
    let done = Mutex::new(Vec::new());
    for batch in ORDERS.chunks(2) {
        // Nothing of the next batch begins before all of this one is done.
        join_all(batch.iter().map(async |(order, steps)| {
            let order = work(order, *steps).await;
            done.lock().await.push(order);
        }))
        .await;
    }
    println!("in batches of two: {}", done.into_inner().join(" "));
    // ANCHOR_END: batches

    // ANCHOR: slots
    let mut done = Vec::new();
    let mut waiting = VecDeque::from(ORDERS);
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < 2
            && let Some((order, steps)) = waiting.pop_front()
        {
            running.push(work(order, steps));
        }
        let Some(order) = running.next().await else { break };
        done.push(order);
    }
    println!("in two slots: {}", done.join(" "));
    // ANCHOR_END: slots
}
