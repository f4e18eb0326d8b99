// solution only
//! What is to become of an entry.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::entry::{RawEntry, Stored};
use crate::error::BoxError;
use crate::pattern::Pattern;

/// The longest pause between two attempts.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

pub enum Verdict {
    /// The handler returned `Ok`.
    Handled,
    /// It is not for the handler, or was deleted while it was pending.
    Skipped,
    /// It is to be set aside, for this reason.
    SetAside(String),
}

/// The handler, and how often it is tried.
pub struct Attempts<F> {
    pub pattern: Pattern,
    pub most: u32,
    pub first_delay: Duration,
    pub handler: F,
}

impl<F, Fut> Attempts<F>
where
    F: Fn(Stored) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    /// Calls the handler for an entry, as often as it takes. `None` if it is told to stop before it
    /// is decided.
    pub async fn decide(&self, entry: &RawEntry, stop: &CancellationToken) -> Option<Verdict> {
        if entry.fields.is_empty() {
            return Some(Verdict::Skipped);
        }
        let stored = match entry.read() {
            Ok(stored) => stored,
            Err(reason) => return Some(Verdict::SetAside(reason)),
        };
        if !self.pattern.matches(&stored.event.name) {
            return Some(Verdict::Skipped);
        }
        let mut calls = 0;
        loop {
            if stop.is_cancelled() {
                return None;
            }
            calls += 1;
            let reason = match self.call(stored.clone()).await {
                Ok(()) => return Some(Verdict::Handled),
                Err(reason) if calls >= self.most => return Some(Verdict::SetAside(reason)),
                Err(reason) => reason,
            };
            tracing::warn!(id = stored.id, reason, "failed, trying again");
            stop.run_until_cancelled(sleep(self.delay(calls))).await;
        }
    }

    /// One call of the handler, or why it failed.
    async fn call(&self, stored: Stored) -> Result<(), String> {
        let call = AssertUnwindSafe(async { (self.handler)(stored).await });
        match call.catch_unwind().await {
            Ok(ended) => ended.map_err(|error| error.to_string()),
            Err(panic) => Err(format!("panicked: {}", text_of(&*panic))),
        }
    }

    /// The pause after so many calls that failed.
    fn delay(&self, calls: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(calls - 1);
        self.first_delay.saturating_mul(doubled).min(LONGEST_DELAY)
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is not a text")
}
// end solution only
