//! How many deliveries ended in which way.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::report::Worked;

#[derive(Default)]
pub(super) struct Counts {
    succeeded: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    returned: AtomicU64,
}

impl Counts {
    pub fn succeeded(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    pub fn returned(&self) {
        self.returned.fetch_add(1, Ordering::Relaxed);
    }

    pub fn worked(&self) -> Worked {
        Worked {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
        }
    }
}
