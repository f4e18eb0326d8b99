//! Notices when this process was not given the processor.
//!
//! A check that says "nothing happened for a second" is fair only if the candidate could have
//! acted in that second. A thread that asks to be woken every few milliseconds, and looks how late
//! it is, knows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often the watchdog looks.
const BEAT: Duration = Duration::from_millis(10);

/// The longest stall since the watch began, or since it was told to forget.
#[derive(Debug)]
pub(crate) struct StallWatch {
    longest: Arc<AtomicU64>,
}

impl StallWatch {
    /// Starts watching; ends with the value.
    pub(crate) fn start() -> std::io::Result<Self> {
        let longest = Arc::new(AtomicU64::new(0));
        let watched = Arc::downgrade(&longest);
        thread::Builder::new()
            .name("stall-watch".into())
            .spawn(move || watch(&watched))?;
        Ok(StallWatch { longest })
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Ordering::Relaxed))
    }

    pub(crate) fn forget(&self) {
        self.longest.store(0, Ordering::Relaxed);
    }
}

fn watch(longest: &Weak<AtomicU64>) {
    loop {
        let before = Instant::now();
        thread::sleep(BEAT);
        let late = before.elapsed().saturating_sub(BEAT);
        let Some(longest) = longest.upgrade() else {
            return;
        };
        longest.fetch_max(
            u64::try_from(late.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}
