//! Finding out that a client is gone although its connection never said so.

use std::time::Duration;

use tokio::time::{Instant, Interval};
// solution only
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};
// end solution only

/// When to ping a client: every `every`, for the first time after one such pause. A ping that was
/// late does not make the next ones come faster. Less than a millisecond is treated as a millisecond,
/// and more than a year as a year: a time that is too far away is none (`Instant + Duration` panics).
pub fn pings(every: Duration) -> Interval {
    // stub stage 5: an interval that begins later and delays after a missed tick
    let every = at_least_a_millisecond(every);
    let mut pings = interval_at(Instant::now() + every, every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
    // end stub
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
        // stub stage 5: heard now
        Pulse {
            every: at_least_a_millisecond(every),
            heard: Instant::now(),
        }
        // end stub
    }

    /// The client sent something: a message, a ping, a pong, whatever.
    pub fn heard(&mut self) {
        // stub stage 5: heard now
        self.heard = Instant::now();
        // end stub
    }

    /// Waits until nothing was heard for two intervals. Asking again does not begin anew: only
    /// [`heard`](Self::heard) does.
    pub async fn silence(&self) {
        // stub stage 5: sleep until two intervals after the last sign of life
        sleep_until(self.heard + 2 * self.every).await;
        // end stub
    }
}

// solution only
fn at_least_a_millisecond(every: Duration) -> Duration {
    // So large that nobody lives to see it, and small enough to be added to a time.
    let for_ever = Duration::from_secs(60 * 60 * 24 * 365);
    every.clamp(Duration::from_millis(1), for_ever)
}
// end solution only
