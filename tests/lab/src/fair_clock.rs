//! Checks whose promise has a time in it.

use std::future::Future;
use std::time::Duration;

use crate::{Failure, Lab, Outcome};

/// Runs a check whose promise has a time in it with longer and longer times, in ms, until this machine
/// was never held up for long enough to spoil the answer.
#[derive(Debug, Clone, Copy)]
pub struct FairClock {
    /// A stall of more than this part of the time spoils a failure.
    part: u32,
    /// A failure that says this may come of a slow machine too, in every attempt but the last.
    doubtful: Option<(&'static str, &'static str)>,
}

impl FairClock {
    /// A failure is taken back when this process was held up for more than the time divided by `part`.
    pub const fn stalls_beyond(part: u32) -> Self {
        FairClock {
            part,
            doubtful: None,
        }
    }

    /// Also takes back a failure that says `words`, unless it is that of the last attempt: a machine
    /// that is slow all the time is never held up for long, and answers too late too. `note` says so
    /// in the history.
    pub const fn doubting(mut self, words: &'static str, note: &'static str) -> Self {
        self.doubtful = Some((words, note));
        self
    }

    /// Runs `check` with each of the times until one of its answers counts.
    ///
    /// # Errors
    /// That of the check, or [`Failure::infrastructure`] when none of them counts.
    pub async fn run<F, Fut>(&self, lab: &Lab, times: [u64; 3], check: F) -> Outcome
    where
        F: Fn(Duration) -> Fut,
        Fut: Future<Output = Outcome>,
    {
        for (n, millis) in times.into_iter().enumerate() {
            let time = Duration::from_millis(millis);
            lab.forget_stalls();
            let failure = match check(time).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let stalled = lab.stalled();
            let is_last = n + 1 == times.len();
            let note = match self.doubtful {
                _ if stalled > time / self.part => format!("held up for {stalled:?}"),
                Some((words, note)) if !is_last && failure.observed.contains(words) => note.into(),
                _ => return Err(failure),
            };
            lab.history()
                .note("lab", &format!("{note}: asked again with more time"));
        }
        Err(Failure::infrastructure(
            "the machine held this check up again and again; nothing can be said about a promise that has a time in it. Run it again when less is going on.",
        ))
    }
}
