//! What becomes of one delivery, from its first byte to its acknowledgement.

// solution only
use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::connection::Pauses;
use crate::context::{Context, Failure, Handlers, Outcome};
use crate::error::Error;
use crate::options::Work;
use crate::publisher::Publisher;
use crate::report::Worked;
use crate::store::{Begun, Copy, Store};
use crate::task::{Task, new_id};
use crate::worker::requeue;

#[path = "attempt/counts.rs"]
mod counts;
#[path = "attempt/letters.rs"]
mod letters;
use counts::Counts;

/// How often an attempt asks whether it still counts, and writes its progress.
const LOOK: Duration = Duration::from_millis(250);

/// Everything that attempts share.
pub(crate) struct Workshop {
    options: Work,
    handlers: Handlers,
    store: Store,
    publisher: Publisher,
    counts: Counts,
    /// Cancelled at the end of the grace: what still runs is dropped.
    pub cut: CancellationToken,
}

/// It was cut off, or the delivery is not ours any more: it comes again, here or elsewhere.
struct LeftToOthers;

impl Workshop {
    pub fn new(options: Work, handlers: Handlers, store: Store, publisher: Publisher) -> Self {
        Workshop {
            options,
            handlers,
            store,
            publisher,
            counts: Counts::default(),
            cut: CancellationToken::new(),
        }
    }

    pub fn worked(&self) -> Worked {
        self.counts.worked()
    }

    pub fn count_returned(&self) {
        self.counts.returned();
    }

    pub async fn close(&self) {
        self.publisher.close().await;
    }

    /// Works a delivery, and acknowledges it once its outcome is stored.
    pub async fn handle(&self, delivery: Delivery) {
        match self.settle(&delivery).await {
            Ok(()) => {
                if let Err(error) = delivery.acker.ack(BasicAckOptions::default()).await {
                    info!("cannot acknowledge, it will come again: {error}");
                }
            }
            Err(LeftToOthers) => {
                requeue(&delivery).await;
                self.counts.returned();
            }
        }
    }

    /// Returns once the delivery may be acknowledged.
    async fn settle(&self, delivery: &Delivery) -> Result<(), LeftToOthers> {
        let task = match Task::read(&delivery.data) {
            Ok(task) => task,
            Err(error) => {
                return self.bury(delivery, "", 0, &error.to_string()).await;
            }
        };
        if !self.handlers.knows(&task.kind) {
            let reason = format!("nobody here does tasks of the kind `{}`", task.kind);
            self.stored(|| self.store.refuse(&task, &reason)).await?;
            self.counts.failed();
            return self.bury(delivery, &task.id, 0, &reason).await;
        }
        let copy = Copy {
            asker: new_id(),
            attempts: letters::attempts(&delivery.properties),
            redelivered: delivery.redelivered,
        };
        let most = self.options.retry.attempts.max(1);
        match self.stored(|| self.store.begin(&task, &copy, most)).await? {
            Begun::Drop => Ok(()),
            Begun::Bury(attempts, reason) => {
                self.counts.failed();
                self.bury(delivery, &task.id, attempts, &reason).await
            }
            Begun::Run(attempt) => self.attempt(delivery, task, attempt).await,
        }
    }

    async fn attempt(
        &self,
        delivery: &Delivery,
        task: Task,
        attempt: u32,
    ) -> Result<(), LeftToOthers> {
        let Some(outcome) = self.run(&task, attempt).await? else {
            return Ok(());
        };
        let id = &task.id;
        let failure = match outcome {
            Ok(result) => {
                let has_effect = self
                    .stored(|| self.store.succeed(id, attempt, &result))
                    .await?;
                if has_effect {
                    self.counts.succeeded();
                }
                return Ok(());
            }
            Err(failure) => failure,
        };
        match self.next_delay(&task, attempt, &failure) {
            Ok(delay) => {
                self.publish_again(delivery, &task, attempt, delay).await?;
                let reason = failure.to_string();
                self.stored(|| self.store.again(id, attempt, &reason))
                    .await?;
                self.counts.retried();
                Ok(())
            }
            Err(reason) => {
                let has_effect = self
                    .stored(|| self.store.fail(id, attempt, &reason))
                    .await?;
                if !has_effect {
                    return Ok(());
                }
                self.counts.failed();
                self.bury(delivery, id, attempt, &reason).await
            }
        }
    }

    /// Runs the handler. Nothing if the attempt does not count any more.
    async fn run(&self, task: &Task, attempt: u32) -> Result<Option<Outcome>, LeftToOthers> {
        let cancelled = CancellationToken::new();
        // However this ends: code that cannot be dropped has to hear of it.
        let _told = cancelled.clone().drop_guard();
        let (context, progress) = Context::new(task.clone(), attempt, cancelled);
        let handler = AssertUnwindSafe(async { self.handlers.call(context).await }).catch_unwind();
        tokio::select! {
            outcome = handler => Ok(Some(outcome.unwrap_or_else(|panic| {
                Err(Failure::Retry(format!("the handler panicked: {}", text_of(&*panic))))
            }))),
            () = until(task.deadline) => Ok(Some(Err(Failure::Permanent(
                "its deadline passed while it ran".to_owned(),
            )))),
            () = self.watch(&task.id, attempt, progress) => Ok(None),
            () = self.cut.cancelled() => Err(LeftToOthers),
        }
    }

    /// Writes the progress, and ends when the attempt does not count any more.
    async fn watch(&self, id: &str, attempt: u32, progress: watch::Receiver<u8>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let percent = *progress.borrow();
            match self.store.progress(id, attempt, percent).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => warn!("cannot write the progress of {id}: {error}"),
            }
        }
    }

    /// After what delay it is tried again, or why it is not.
    fn next_delay(&self, task: &Task, attempt: u32, failure: &Failure) -> Result<Duration, String> {
        let retry = &self.options.retry;
        if matches!(failure, Failure::Permanent(_)) || attempt >= retry.attempts.max(1) {
            return Err(failure.to_string());
        }
        let choices = retry.choices(attempt);
        let delay = choices[rand::random_range(0..choices.len())];
        match task.deadline {
            Some(deadline) if SystemTime::now() + delay >= deadline => Err(format!(
                "its deadline will have passed before the next attempt; the last failed: {failure}"
            )),
            _ => Ok(delay),
        }
    }

    /// Tries until Redis has answered.
    async fn stored<T, F>(&self, call: impl Fn() -> F) -> Result<T, LeftToOthers>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let trying = async {
            let mut pauses = Pauses::new();
            loop {
                match call().await {
                    Ok(answer) => return answer,
                    Err(error) => warn!("cannot store an outcome yet: {error}"),
                }
                pauses.pause().await;
            }
        };
        let stored = self.cut.run_until_cancelled(trying).await;
        stored.ok_or(LeftToOthers)
    }
}

/// Ends at that time; never, if there is none.
async fn until(deadline: Option<SystemTime>) {
    match deadline {
        Some(deadline) => {
            let left = deadline.duration_since(SystemTime::now());
            tokio::time::sleep(left.unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
// end solution only
