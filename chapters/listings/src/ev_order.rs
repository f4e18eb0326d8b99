//! A task for each event, and a task for each subscription.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

type Log = mpsc::UnboundedSender<String>;

// ANCHOR: handle
/// A booking needs a look-up first, and the look-up waits for the gate.
async fn handle(who: &str, event: &str, gate: &Semaphore, log: &Log) {
    if event.ends_with("booked") {
        let _ = gate.acquire().await;
    }
    let _ = log.send(format!("{who}: {event}"));
}
// ANCHOR_END: handle

// ANCHOR: subscriber
/// One task for one subscription: the next call begins when this one has ended.
fn subscriber(
    who: &'static str,
    gate: Arc<Semaphore>,
    log: Log,
) -> mpsc::Sender<&'static str> {
    let (queue, mut events) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            handle(who, event, &gate, &log).await;
        }
    });
    queue
}
// ANCHOR_END: subscriber

pub async fn run() -> anyhow::Result<()> {
    let (log, mut lines) = mpsc::unbounded_channel();

    // ANCHOR: task_each
    let gate = Arc::new(Semaphore::new(0));
    let mut calls = JoinSet::new();
    for event in ["7 booked", "7 cancelled"] {
        let (gate, log) = (Arc::clone(&gate), log.clone());
        calls.spawn(async move { handle("board", event, &gate, &log).await });
    }
    calls.join_next().await; // Whichever is done first.
    gate.add_permits(1);
    calls.join_all().await;
    for _ in 0..2 {
        println!("{:?}", lines.recv().await);
    }
    // ANCHOR_END: task_each

    // ANCHOR: task_for_all
    let (closed, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(8)));
    let board = subscriber("board", Arc::clone(&closed), log.clone());
    let mail = subscriber("mail", open, log.clone());
    for event in ["7 booked", "7 cancelled"] {
        board.send(event).await?;
        mail.send(event).await?;
    }
    for _ in 0..2 {
        println!("{:?}", lines.recv().await);
    }
    closed.add_permits(1);
    for _ in 0..2 {
        println!("{:?}", lines.recv().await);
    }
    // ANCHOR_END: task_for_all

    // ANCHOR: lanes
    let (closed, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(8)));
    let even = subscriber("even lane", open, log.clone());
    let odd = subscriber("odd lane", Arc::clone(&closed), log.clone());
    for event in ["7 booked", "8 booked", "7 cancelled", "8 cancelled"] {
        let lane = if event.starts_with('8') { &even } else { &odd };
        lane.send(event).await?;
    }
    for _ in 0..2 {
        println!("{:?}", lines.recv().await);
    }
    closed.add_permits(1);
    for _ in 0..2 {
        println!("{:?}", lines.recv().await);
    }
    // ANCHOR_END: lanes
    Ok(())
}
