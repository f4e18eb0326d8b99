//! The only way a check waits.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::{Failure, Lab, panics};

/// The first pause between two looks; each is longer than the one before.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(100);

impl Lab {
    /// Looks again and again until `look` gives `Some`, or fails. `what` completes the sentence
    /// "waited for …".
    ///
    /// # Errors
    /// A [`Failure`] of `look` at once; one that names `what` after the
    /// [deadline](Lab::deadline); and one as soon as the candidate has run into a `todo!`,
    /// because then waiting is of no use.
    pub async fn eventually<T, F, Fut>(&self, what: &str, mut look: F) -> Result<T, Failure>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Option<T>, Failure>>,
    {
        let start = Instant::now();
        let mut pause = SHORTEST;
        loop {
            // A look that hangs, because the broker was paused or is gone, is given up as well.
            let left = self.deadline().saturating_sub(start.elapsed());
            let seen = tokio::time::timeout(left.max(LONGEST), look()).await;
            if let Some(value) = seen.unwrap_or(Ok(None))? {
                return Ok(value);
            }
            if let Some(todo) = panics::first_todo() {
                return Err(Failure::observed(format!(
                    "while waiting for {what}, the candidate panicked: {}",
                    todo.message
                )));
            }
            // Time in which this process could not run is given back.
            if start.elapsed() > self.deadline() + self.stalled() {
                return Err(Failure::observed(format!(
                    "waited {:.0?} for {what}, in vain",
                    self.deadline()
                )));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST);
        }
    }
}
