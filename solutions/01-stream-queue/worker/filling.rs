// solution only
//! Filling the slots: where a worker's entries come from.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::entry::Entry;
use crate::error::Error;

/// How long one read blocks at most: so long may a stop have to wait for it.
const LONGEST_READ: Duration = Duration::from_millis(500);
/// How many ids of its own pending entries a worker looks at in one command.
const PAGE: usize = 200;

impl<F, Fut> Worker<F>
where
    F: Fn(Entry) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    /// How many more entries may be delivered to this worker now.
    pub fn free(&self) -> usize {
        let taken = self.running.len() + self.asked;
        self.options.concurrency.max(1).saturating_sub(taken)
    }

    /// How often to look for entries that others abandoned.
    pub fn scan_every(&self) -> Duration {
        (self.options.visibility / 2).clamp(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// How often to say that we live: often enough that one late time does no harm.
    pub fn keep_every(&self) -> Duration {
        (self.options.visibility / 3).max(Duration::from_millis(10))
    }

    /// Delivers again what has waited long enough, and is still ours.
    pub async fn retry(&mut self) -> Result<(), Error> {
        let due = self.held.due(Instant::now(), self.free());
        if !due.is_empty() {
            let ids: Vec<String> = due.iter().map(|(_, id)| id.clone()).collect();
            let entries = self.consumer.redeliver(&ids).await?;
            self.held.retried(&due);
            entries.into_iter().for_each(|entry| self.begin(entry));
        }
        Ok(())
    }

    /// Fills the free slots: with what is ours already, what others abandoned, what is new.
    pub async fn take(&mut self) -> Result<(), Error> {
        // During a read an entry can be ours, and on its way to us.
        while let Some(after) = self.strays.clone().filter(|_| self.reading.is_empty()) {
            let free = self.free();
            if free == 0 {
                return Ok(());
            }
            let ids = self.consumer.pending_after(&after, PAGE).await?;
            let last = ids.last().filter(|_| ids.len() == PAGE).cloned();
            let unknown = ids.into_iter().filter(|id| self.held.get(id).is_none());
            let unknown: Vec<String> = unknown.take(free).collect();
            for entry in self.consumer.redeliver(&unknown).await? {
                self.begin(entry);
            }
            self.strays = match unknown.last() {
                Some(id) if unknown.len() == free => Some(id.clone()),
                _ => last,
            };
        }
        let free = self.free();
        if free > 0 && Instant::now() >= self.next_scan {
            let abandoned = self.consumer.claim_abandoned(free).await?;
            // If there was more than we have room for, we come back as soon as there is room.
            if abandoned.len() < free {
                self.next_scan = Instant::now() + self.scan_every();
            }
            self.strays = Some("0".into());
            abandoned.into_iter().for_each(|entry| self.begin(entry));
        }
        let free = self.free();
        if free > 0 && self.reading.is_empty() {
            // The read occupies its slots until it returns, so it returns when they are needed.
            let retry = self.held.next_retry().unwrap_or(self.next_scan);
            let needed = retry.min(self.next_scan);
            let wait = needed
                .saturating_duration_since(Instant::now())
                .clamp(Duration::from_millis(1), LONGEST_READ);
            let consumer = self.consumer.clone();
            self.asked = free;
            self.reading
                .spawn(async move { consumer.read(free, wait).await });
        }
        Ok(())
    }
}
// end solution only
