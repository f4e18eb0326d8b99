//! The clock by which jobs come due. Leases do not go by it, but by the clock of Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::time::{Time, from_millis, now};

/// Tells the time. Clones tell the same.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Nothing for the clock of this machine.
    hand: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Clock {
        Clock::default()
    }

    /// A clock that stands still until somebody [sets](Self::set) it: for tests.
    pub fn standing(at: Time) -> Clock {
        let hand = Arc::new(AtomicI64::new(at.timestamp_millis()));
        Clock { hand: Some(hand) }
    }

    /// What it says.
    pub fn now(&self) -> Time {
        match &self.hand {
            None => now(),
            Some(hand) => from_millis(hand.load(Ordering::SeqCst)),
        }
    }

    /// Sets a standing clock. That of the machine is not ours to set.
    pub fn set(&self, to: Time) {
        if let Some(hand) = &self.hand {
            hand.store(to.timestamp_millis(), Ordering::SeqCst);
        }
    }
}
