//! Three ways to stop with events in the queue.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

// ANCHOR: subscriber
#[derive(Default)]
struct Counts {
    begun: AtomicU32,
    done: AtomicU32,
}

/// A subscriber with five trips to handle, whose handler hangs at one of them.
fn start(hangs_at: u32) -> (mpsc::Sender<u32>, JoinHandle<()>, Arc<Counts>) {
    let (queue, mut trips) = mpsc::channel(8);
    let counts = Arc::new(Counts::default());
    let counting = Arc::clone(&counts);
    for trip in 1..=5 {
        let _ = queue.try_send(trip);
    }
    let task = tokio::spawn(async move {
        while let Some(trip) = trips.recv().await {
            counting.begun.fetch_add(1, Ordering::SeqCst);
            if trip == hangs_at {
                pending().await
            }
            counting.done.fetch_add(1, Ordering::SeqCst);
        }
    });
    (queue, task, counts)
}
// ANCHOR_END: subscriber

/// Waits until the handler has begun with so many.
async fn until_begun(counts: &Counts, number: u32) {
    while counts.begun.load(Ordering::SeqCst) < number {
        yield_now().await;
    }
}

pub async fn run() -> anyhow::Result<()> {
    // ANCHOR: abort
    let (queue, task, counts) = start(2);
    until_begun(&counts, 2).await;
    task.abort();
    let ended = task.await;
    println!("cancelled: {}", ended.is_err_and(|error| error.is_cancelled()));
    println!("of 5, done: {}", counts.done.load(Ordering::SeqCst));
    // ANCHOR_END: abort
    drop(queue);

    // ANCHOR: close
    let (queue, task, counts) = start(0);
    drop(queue);
    task.await?;
    println!("closed, then waited: done {}", counts.done.load(Ordering::SeqCst));
    // ANCHOR_END: close

    // ANCHOR: deadline
    let (queue, mut task, counts) = start(4);
    until_begun(&counts, 4).await;
    drop(queue);
    if timeout(Duration::from_millis(100), &mut task).await.is_err() {
        task.abort();
        let _ = task.await; // Only now does it count no further.
    }
    let begun = counts.begun.load(Ordering::SeqCst);
    let done = counts.done.load(Ordering::SeqCst);
    println!("done {done}, interrupted {}, waiting {}", begun - done, 5 - begun);
    // ANCHOR_END: deadline
    Ok(())
}
