//! One queue for all subscribers, and a queue for each.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};

// ANCHOR: bus
/// All subscribers share one copy of the event.
type Events = mpsc::Receiver<Arc<String>>;

#[derive(Default)]
struct Bus {
    queues: Vec<mpsc::Sender<Arc<String>>>,
}

impl Bus {
    fn subscribe(&mut self, capacity: usize) -> Events {
        let (queue, events) = mpsc::channel(capacity);
        self.queues.push(queue);
        events
    }

    /// Returns how many took it. Nobody is a number like any other.
    fn publish(&self, event: &str) -> usize {
        let event = Arc::new(event.to_owned());
        let took =
            |queue: &&mpsc::Sender<_>| queue.try_send(Arc::clone(&event)).is_ok();
        self.queues.iter().filter(took).count()
    }
}
// ANCHOR_END: bus

pub async fn run() -> anyhow::Result<()> {
    // ANCHOR: shared
    // The board reads each event as it comes. The mailer is busy until the end.
    let (bus, mut board) = broadcast::channel(2);
    let mut mail = bus.subscribe();
    for trip in 1..=3 {
        let told = bus.send(trip)?;
        println!("told {told}, board: {}", board.recv().await?);
    }
    println!("mail: {:?}", mail.recv().await);
    println!("mail: {:?}", mail.recv().await);
    // ANCHOR_END: shared

    // ANCHOR: apart
    let mut bus = Bus::default();
    println!("nobody there: {}", bus.publish("trip.booked 0"));
    let mut board = bus.subscribe(1);
    let mut mail = bus.subscribe(8);
    for trip in 1..=3 {
        let told = bus.publish(&format!("trip.booked {trip}"));
        println!("told {told}, board: {:?}", board.recv().await);
    }
    println!("mail has {} waiting, the first: {:?}", mail.len(), mail.recv().await);
    // ANCHOR_END: apart
    Ok(())
}
