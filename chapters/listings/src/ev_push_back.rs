//! Queues that are full, and who pays for it.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures::poll;
use tokio::sync::mpsc;
use tokio::time::timeout;

// ANCHOR: newest
/// Keeps the newest. What had to go is counted.
struct Newest {
    waiting: VecDeque<u32>,
    capacity: usize,
    dropped: u64,
}

impl Newest {
    fn push(&mut self, trip: u32) {
        if self.waiting.len() == self.capacity {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back(trip);
    }
}
// ANCHOR_END: newest

pub async fn run() -> anyhow::Result<()> {
    // ANCHOR: unbounded
    let (queue, events) = mpsc::unbounded_channel();
    for trip in 0..100_000 {
        queue.send(trip)?;
    }
    println!("a handler that hangs has {} waiting", events.len());
    // ANCHOR_END: unbounded

    // ANCHOR: block
    let (queue, mut events) = mpsc::channel(3);
    for trip in 1..=3 {
        queue.send(trip).await?;
    }
    let mut fourth = pin!(queue.send(4));
    println!("block: the fourth waits: {}", poll!(&mut fourth).is_pending());
    println!("the handler takes {:?}", events.recv().await);
    println!("the fourth is in: {}", poll!(&mut fourth).is_ready());
    // ANCHOR_END: block

    // ANCHOR: try_send
    let (queue, mut events) = mpsc::channel(3);
    let refused = (1..=6).filter(|trip| queue.try_send(*trip).is_err()).count();
    let mut waiting = Vec::new();
    events.recv_many(&mut waiting, 6).await;
    println!("try_send: {waiting:?} wait, {refused} refused");
    // ANCHOR_END: try_send

    // ANCHOR: drop_oldest
    let mut queue = Newest { waiting: VecDeque::new(), capacity: 3, dropped: 0 };
    (1..=6).for_each(|trip| queue.push(trip));
    println!("newest: {:?} wait, {} dropped", queue.waiting, queue.dropped);
    // ANCHOR_END: drop_oldest

    // ANCHOR: disconnect
    let (queue, events) = mpsc::channel(3);
    let mut subscriber = Some((queue, events));
    for trip in 1..=6 {
        let full =
            |(queue, _): &(mpsc::Sender<u32>, _)| queue.try_send(trip).is_err();
        if subscriber.as_ref().is_some_and(full) {
            subscriber = None; // With both ends goes what was waiting.
            println!("disconnect: out at trip {trip}");
        }
    }
    // ANCHOR_END: disconnect

    // ANCHOR: in_a_row
    let (mail, _mails) = mpsc::channel(1);
    let (board, boards) = mpsc::channel(1);
    mail.send(6).await?; // The mailer's queue is full.
    let mut publish = pin!(async {
        for queue in [&mail, &board] {
            queue.send(7).await?;
        }
        anyhow::Ok(())
    });
    println!("publish waits: {}", poll!(&mut publish).is_pending());
    println!("the board's queue has {}", boards.len());
    // ANCHOR_END: in_a_row

    // ANCHOR: inside
    let (queue, mut events) = mpsc::channel(1);
    queue.send("trip.booked").await?;
    let handler = async {
        events.recv().await;
        queue.send("points.given").await?; // The only place is taken now,
        queue.send("mail.wanted").await?; // and the one who empties it waits here.
        anyhow::Ok(())
    };
    let ended = timeout(Duration::from_millis(100), handler).await.is_ok();
    println!("a handler that publishes to itself has ended: {ended}");
    // ANCHOR_END: inside
    Ok(())
}
