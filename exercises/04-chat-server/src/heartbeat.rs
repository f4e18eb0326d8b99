// Stub cd5d9b239dd84f09: this file is yours to write. `cargo xtask reset chat-server` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Finding out that a client is gone although its connection never said so.

use std::time::Duration;

use tokio::time::{Instant, Interval};

/// When to ping a client: every `every`, for the first time after one such pause. A ping that was
/// late does not make the next ones come faster. Less than a millisecond is treated as a millisecond,
/// and more than a year as a year: a time that is too far away is none (`Instant + Duration` panics).
pub fn pings(every: Duration) -> Interval {
    todo!("stage 5: an interval that begins later and delays after a missed tick")
}

/// When a client gave its last sign of life.
#[derive(Debug)]
pub struct Pulse {
    every: Duration,
    heard: Instant,
}

impl Pulse {
    /// A client that was just heard, and is pinged every `every`, which has the limits of [`pings`].
    pub fn new(every: Duration) -> Self {
        todo!("stage 5: heard now")
    }

    /// The client sent something: a message, a ping, a pong, whatever.
    pub fn heard(&mut self) {
        todo!("stage 5: heard now")
    }

    /// Waits until nothing was heard for two intervals. Asking again does not begin anew: only
    /// [`heard`](Self::heard) does.
    pub async fn silence(&self) {
        todo!("stage 5: sleep until two intervals after the last sign of life")
    }
}
