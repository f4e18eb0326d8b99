//! What becomes of one delivery, from its first byte to its acknowledgement.

// solution only
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::connection::Pauses;
use crate::context::{Failure, Handlers};
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
#[path = "attempt/run.rs"]
mod run;
use counts::Counts;
use run::Running;

/// How long a delivery whose attempt runs elsewhere waits before it asks again.
const LOOK: Duration = Duration::from_millis(250);

/// Everything that attempts share.
pub(crate) struct Workshop {
    pub options: Work,
    handlers: Handlers,
    store: Store,
    pub publisher: Publisher,
    counts: Counts,
    /// As many as attempts may run side by side.
    pub places: Arc<Semaphore>,
    /// A delivery that has waited wants a place. Whoever holds one only to look for deliveries lets it go:
    /// places are given out in the order in which they were asked for.
    pub wanted: Notify,
    /// Cancelled at the stop: nothing is begun any more.
    pub stop: CancellationToken,
    /// Cancelled at the end of the grace: what still runs is dropped.
    pub cut: CancellationToken,
}

/// It has not begun, it was cut off, or the delivery is not ours any more: it comes again, here or
/// elsewhere.
struct LeftToOthers;

impl Workshop {
    pub fn new(
        options: Work,
        handlers: Handlers,
        store: Store,
        publisher: Publisher,
        stop: CancellationToken,
    ) -> Self {
        let places = usize::from(options.concurrency.max(1));
        Workshop {
            options,
            handlers,
            store,
            publisher,
            counts: Counts::default(),
            places: Arc::new(Semaphore::new(places)),
            wanted: Notify::new(),
            stop,
            cut: CancellationToken::new(),
        }
    }

    pub fn worked(&self) -> Worked {
        self.counts.worked()
    }

    /// Works a delivery in a place, and acknowledges it once its outcome is stored.
    pub async fn handle(&self, delivery: Delivery, place: OwnedSemaphorePermit) {
        match self.settle(&delivery, place).await {
            Ok(()) => {
                if let Err(error) = delivery.acker.ack(BasicAckOptions::default()).await {
                    info!("cannot acknowledge, it will come again: {error}");
                }
            }
            Err(LeftToOthers) => self.give_back(&delivery).await,
        }
    }

    /// Gives a delivery back to its queue, for others or for later.
    pub async fn give_back(&self, delivery: &Delivery) {
        if requeue(delivery).await {
            self.counts.returned();
        }
    }

    /// Returns once the delivery may be acknowledged.
    async fn settle(
        &self,
        delivery: &Delivery,
        place: OwnedSemaphorePermit,
    ) -> Result<(), LeftToOthers> {
        let task = match Task::read(&delivery.data) {
            Ok(task) => task,
            Err(error) => return self.bury(delivery, "", 0, &error.to_string()).await,
        };
        // The place is given back when the attempt has ended, and not before.
        let (begun, _place) = self.begin(delivery, &task, place).await?;
        match begun {
            Begun::Run(attempt) => self.attempt(delivery, &task, attempt).await,
            Begun::Bury(attempts, reason) => self.bury(delivery, &task.id, attempts, &reason).await,
            Begun::Drop => Ok(()),
            Begun::Wait => Err(LeftToOthers),
        }
    }

    /// Begins an attempt, if there is to be one. A delivery whose attempt still runs (it came again
    /// because a connection was lost) waits for the end of that, and leaves its place to others.
    async fn begin(
        &self,
        delivery: &Delivery,
        task: &Task,
        mut place: OwnedSemaphorePermit,
    ) -> Result<(Begun, OwnedSemaphorePermit), LeftToOthers> {
        let is_known = self.handlers.knows(&task.kind);
        let copy = Copy {
            asker: new_id(),
            attempts: letters::attempts(&delivery.properties),
            redelivered: delivery.redelivered,
            refusal: (!is_known)
                .then(|| format!("nobody here does tasks of the kind `{}`", task.kind)),
        };
        let most = self.options.retry.attempts.max(1);
        let mut pauses = Pauses::new();
        loop {
            // Looked at between two questions and not while one is under way: who does not hear the
            // answer does not know whether the attempt has begun.
            if self.stop.is_cancelled() {
                return Err(LeftToOthers);
            }
            match self.store.begin(task, &copy, most).await {
                Ok(Begun::Wait) => {
                    drop(place);
                    let waiting = self.stop.run_until_cancelled(tokio::time::sleep(LOOK));
                    waiting.await.ok_or(LeftToOthers)?;
                    place = self.place().await?;
                }
                Ok(begun) => return Ok((begun, place)),
                Err(error) => {
                    warn!("cannot begin an attempt yet: {error}");
                    pauses.pause().await;
                }
            }
        }
    }

    /// A place that is free, as soon as there is one before the stop.
    async fn place(&self) -> Result<OwnedSemaphorePermit, LeftToOthers> {
        let place = Arc::clone(&self.places).acquire_owned();
        let asked = async {
            tokio::pin!(place);
            // In line first, and only then asked for.
            if let Some(place) = (&mut place).now_or_never() {
                return place;
            }
            self.wanted.notify_one();
            place.await
        };
        let place = self.stop.run_until_cancelled(asked).await;
        place.and_then(Result::ok).ok_or(LeftToOthers)
    }

    /// Runs an attempt, stores its outcome, and publishes what follows from it.
    async fn attempt(
        &self,
        delivery: &Delivery,
        task: &Task,
        attempt: u32,
    ) -> Result<(), LeftToOthers> {
        let id = &task.id;
        let running = Running::new(self, task, attempt);
        let Some(outcome) = running.outcome().await? else {
            return Ok(());
        };
        let failure = match outcome {
            Ok(result) => {
                let call = || self.store.succeed(id, attempt, &result);
                if self.stored(call).await? {
                    self.counts.succeeded();
                }
                return Ok(());
            }
            Err(failure) => failure,
        };
        match self.next_delay(task, attempt, &failure) {
            Ok(delay) => {
                // It has to be out before the message is acknowledged, even if by now another worker
                // has the task.
                let publishing = self.publish_again(delivery, id, attempt, delay);
                running.alive(publishing).await?;
                let reason = failure.to_string();
                let call = || self.store.again(id, attempt, &reason);
                self.stored(call).await?;
                self.counts.retried();
                Ok(())
            }
            Err(reason) => {
                let call = || self.store.fail(id, attempt, &reason);
                if !self.stored(call).await? {
                    return Ok(());
                }
                self.bury(delivery, id, attempt, &reason).await
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

    /// Tries until Redis has answered: what has come out of an attempt is not forgotten.
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
// end solution only
