// solution only
//! From delivery to the end: an entry is handled, tried again, or given up.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout};

use super::{Summary, Worker, panicked};
use crate::dead_letters::retry_delay;
use crate::entry::{Entry, RawEntry};
use crate::error::Error;

/// How long a finished entry waits for others to be acknowledged, and replaced, together with it.
const GATHER: Duration = Duration::from_millis(2);
/// How often a busy worker trims the stream.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// How long the last words to Redis may take, after the deadline of a stop.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl<F, Fut> Worker<F>
where
    F: Fn(Entry) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    /// Starts the handler for an entry that was just delivered, unless there is no use in it.
    pub fn begin(&mut self, entry: RawEntry) {
        let id = entry.id.clone();
        if !self.held.insert(&entry) {
            // Others took it from us during a pause, and now we have it back: our handler still runs.
            return;
        }
        let entry = if entry.deliveries > self.options.max_deliveries.max(1) {
            Err(format!(
                "its worker died on it: not done after {} deliveries",
                entry.deliveries - 1
            ))
        } else {
            entry.decode().map_err(|error| error.to_string())
        };
        match entry {
            Err(reason) => {
                self.held.given_up.push_back((id, reason));
                self.settle_at = Some(Instant::now());
            }
            Ok(entry) => {
                let handler = Arc::clone(&self.handler);
                self.running.spawn(async move {
                    let handled = AssertUnwindSafe(async move { handler(entry).await });
                    let outcome = handled.catch_unwind().await;
                    (id, outcome.unwrap_or_else(|panic| Err(panic_text(&*panic))))
                });
            }
        }
    }

    /// Decides about an entry whose handler has ended, and about all others that have meanwhile.
    pub fn end(&mut self, ended: Result<(String, Result<(), String>), JoinError>) {
        let now = Instant::now();
        let mut next = Some(ended);
        while let Some(ended) = next {
            let (id, outcome) = ended.unwrap_or_else(panicked);
            let deliveries = self.held.get(&id).map_or(0, |entry| entry.deliveries);
            match outcome {
                Ok(()) => self.held.handled.push(id),
                Err(reason) if deliveries >= self.options.max_deliveries => {
                    self.held.given_up.push_back((id, reason));
                }
                Err(_) => {
                    let delay = retry_delay(&self.options, deliveries);
                    self.held.retry_at(now + delay, id);
                }
            }
            next = self.running.try_join_next();
        }
        self.settle_at.get_or_insert(now + GATHER);
    }

    /// Tells Redis what has been decided. What it could not be told stays to be told.
    pub async fn settle(&mut self) -> Result<(), Error> {
        if !self.held.handled.is_empty() {
            self.consumer.acknowledge(&self.held.handled).await?;
            let done = std::mem::take(&mut self.held.handled);
            self.summary.handled += done.len() as u64;
            self.held.forget(&done);
            self.next_trim.get_or_insert(Instant::now() + TRIM_EVERY);
        }
        while let Some((id, reason)) = self.held.given_up.front() {
            let moved = match self.held.get(id) {
                Some(entry) => self.consumer.dead_letter(entry, reason).await,
                None => Ok(false),
            };
            if matches!(&moved, Err(error) if error.is_connection()) {
                return moved.map(|_| ());
            }
            let Some((id, _)) = self.held.given_up.pop_front() else {
                break;
            };
            match moved {
                Ok(moved) => {
                    self.summary.dead_lettered += u64::from(moved);
                    self.held.forget([&id]);
                }
                // Redis will not have it: the dead letters' key holds something else, perhaps. The
                // other entries need not wait until somebody has mended that.
                Err(error) => {
                    tracing::error!(%error, id, "cannot dead-letter, trying again later");
                    let later = Instant::now() + self.options.longest_retry;
                    self.held.retry_at(later, id);
                }
            }
        }
        self.settle_at = None;
        Ok(())
    }

    /// Removes from the stream what all groups are done with.
    pub async fn trim(&mut self) -> Result<(), Error> {
        self.next_trim = None;
        crate::trim::trim(&mut self.consumer.commands, &self.options.stream).await?;
        Ok(())
    }

    /// Ends the worker: whatever still runs is dropped, what is done is told, and if nothing is left
    /// the consumer leaves its group.
    pub async fn finish(mut self) -> Summary {
        while let Some(ended) = self.running.try_join_next() {
            self.end(ended);
        }
        self.running.abort_all();
        let last_words = async {
            self.settle().await?;
            self.trim().await?;
            let left = self.consumer.pending_after("0", usize::MAX).await?.len();
            if left == 0 {
                self.consumer.leave().await?;
            }
            Ok::<_, Error>(left)
        };
        let left = match timeout(LAST_WORDS, last_words).await {
            Ok(Ok(left)) => left,
            _ => self.held.len(),
        };
        Summary {
            left_pending: left as u64,
            ..self.summary
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is not a text");
    format!("handler panicked: {text}")
}
// end solution only
