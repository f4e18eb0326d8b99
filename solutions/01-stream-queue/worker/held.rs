// solution only
//! What a worker holds: every entry that was delivered to it and is not settled yet.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use crate::entry::RawEntry;

/// The entries that are pending for this worker, as far as it knows, and what is to become of them.
/// Those that stand in none of the lists are with their handlers.
#[derive(Default)]
pub struct Held {
    entries: HashMap<String, RawEntry>,
    /// Handled with success, not acknowledged yet.
    pub handled: Vec<String>,
    /// To be dead-lettered, each with the reason.
    pub given_up: VecDeque<(String, String)>,
    /// Failed, and when to try again: the next one first.
    retries: BTreeSet<(Instant, String)>,
}

impl Held {
    /// Takes an entry in. Returns false if it was here already: then only its count is new.
    pub fn insert(&mut self, entry: &RawEntry) -> bool {
        self.entries
            .insert(entry.id.clone(), entry.clone())
            .is_none()
    }

    pub fn get(&self, id: &str) -> Option<&RawEntry> {
        self.entries.get(id)
    }

    /// Forgets entries that are settled, or another consumer's.
    pub fn forget<'a>(&mut self, ids: impl IntoIterator<Item = &'a String>) {
        for id in ids {
            self.entries.remove(id);
        }
    }

    pub fn ids(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn retry_at(&mut self, when: Instant, id: String) {
        self.retries.insert((when, id));
    }

    /// When the next retry is due.
    pub fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(when, _)| *when)
    }

    /// The retries that are due, at most `max`, the oldest first. They stay in the list until they
    /// are [taken off](Self::retried).
    pub fn due(&self, now: Instant, max: usize) -> Vec<(Instant, String)> {
        let due = self.retries.iter().take_while(|(when, _)| *when <= now);
        due.take(max).cloned().collect()
    }

    /// Takes retries off the list; whoever still owns the entries will be given them again.
    pub fn retried(&mut self, due: &[(Instant, String)]) {
        for retry in due {
            self.retries.remove(retry);
            self.entries.remove(&retry.1);
        }
    }
}
// end solution only
