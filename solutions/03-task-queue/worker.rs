//! Working: takes tasks from the queues, runs them side by side, and goes on after whatever is lost.

use tokio_util::sync::CancellationToken;

use crate::context::Handlers;
use crate::error::Error;
use crate::options::Work;
use crate::report::Worked;

// solution only
use std::sync::Arc;

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::BasicNackOptions;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::attempt::Workshop;
use crate::connection::Pauses;
use crate::publisher::Publisher;
use crate::store::Store;

#[path = "worker/intake.rs"]
mod intake;
use intake::Intake;
// end solution only

/// Works tasks until `stop`, and returns what became of them.
///
/// Takes from the queues `NAME.high` and `NAME`, each on a channel of its own, and runs up to
/// `concurrency` attempts side by side. The prefetch is the `concurrency`, and twice that for `NAME.high`:
/// a place that gets free goes to a task of high priority if there is one, and the next of them has to be
/// at hand for that. Messages of any other client are worked too. For each delivery:
///
/// - The attempt is begun in Redis, in one step that counts it; state `running`. A task that has ended is
///   not begun, and neither is the copy of one that runs or that another message carries on.
/// - The handler runs. What it says of its progress can be seen within a second. A panic is a failure
///   that is tried again. When its task is cancelled, or given to another worker, it is dropped within a
///   second, and told so by [`Context::is_cancelled`](crate::Context::is_cancelled).
/// - Success: the result is stored, state `succeeded`; then the message is acknowledged.
/// - Failure with attempts left: a delay is drawn from [`Retry::choices`](crate::Retry::choices), and a
///   copy of the message, with the header `x-attempts`, is published to the
///   [queue of that delay](crate::declare_wait) and confirmed; state `queued`, with the error; then the
///   message is acknowledged.
/// - Failure for good, because it is permanent or that was the last attempt: state `failed`, with the
///   reason; then the body is published to `NAME.dead` with the headers `x-reason` (text) and
///   `x-attempts` (an integer), and confirmed; then the message is acknowledged.
/// - An attempt whose worker is killed counts. The message comes again, and is run again; after the last
///   attempt it is given up as above. A delivery that has not begun counts for nothing.
/// - What is no task, or of a kind that has no handler, is dead-lettered at once, without an attempt.
/// - A deadline that has passed before it begins, that passes while it runs, or that will have passed
///   before the next attempt, is a failure for good.
///
/// Whatever becomes of an attempt that is not the latest has no effect. While Redis or RabbitMQ is away
/// outcomes are kept until they are stored; nothing is acknowledged before. The connection and its
/// channels are opened again, and the topology is declared again.
///
/// At `stop` nothing is begun any more: deliveries that have not begun go back to their queue at once
/// (`basic.nack` with requeue). What runs is waited for, for the `grace` at most. What still runs then is
/// dropped and goes back too.
///
/// # Errors
/// At the start, at once, as [`Submitter::start`](crate::Submitter::start). None later.
pub async fn work(
    options: Work,
    handlers: Handlers,
    stop: CancellationToken,
) -> Result<Worked, Error> {
    // stub stage 3: connect, consume with a prefetch, run each delivery in a task, acknowledge (stage 8: again and again; stage 9: until the end)
    let store = Store::connect(&options.redis, &options.names, options.keep).await?;
    let publisher = Publisher::connect(&options.amqp, &options.names, "task-queue worker").await?;
    let intake = Intake::open(&options).await?;
    let slots = Arc::new(Semaphore::new(usize::from(options.concurrency.max(1))));
    let worker = Worker {
        options: options.clone(),
        workshop: Arc::new(Workshop::new(options, handlers, store, publisher)),
        slots,
        running: TaskTracker::new(),
        stop,
    };
    worker.run(intake).await;
    Ok(worker.workshop.worked())
    // end stub
}

// solution only
struct Worker {
    options: Work,
    workshop: Arc<Workshop>,
    slots: Arc<Semaphore>,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Worker {
    /// Takes deliveries until the stop, on one connection after the other.
    async fn run(&self, mut intake: Intake) {
        while self.take(&mut intake).await.is_lost() {
            warn!("the connection to RabbitMQ is lost");
            match self.open_again().await {
                Some(another) => intake = another,
                None => break,
            }
            info!("connected to RabbitMQ again");
        }
        self.give_back(&mut intake).await;
        self.finish().await;
        intake.close().await;
        self.workshop.close().await;
    }

    /// Takes what comes, high priority first, as long as there are free places.
    async fn take(&self, intake: &mut Intake) -> Ended {
        loop {
            let slot = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ended::Stopped,
                slot = Arc::clone(&self.slots).acquire_owned() => slot,
            };
            let Ok(slot) = slot else {
                return Ended::Stopped;
            };
            let delivery = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ended::Stopped,
                delivery = intake.high.next() => delivery,
                delivery = intake.normal.next() => delivery,
            };
            // A consumer ends with its channel, or when its queue is deleted.
            let Some(Ok(delivery)) = delivery else {
                return Ended::Lost;
            };
            let workshop = Arc::clone(&self.workshop);
            self.running.spawn(async move {
                workshop.handle(delivery).await;
                drop(slot);
            });
        }
    }

    /// Another connection, or nothing at the stop.
    async fn open_again(&self) -> Option<Intake> {
        let mut pauses = Pauses::new();
        let opening = async {
            loop {
                match Intake::open(&self.options).await {
                    Ok(intake) => return intake,
                    Err(error) => warn!("{error}"),
                }
                pauses.pause().await;
            }
        };
        self.stop.run_until_cancelled(opening).await
    }

    /// Nothing more is delivered, and what has not begun goes back.
    async fn give_back(&self, intake: &mut Intake) {
        intake.cancel().await;
        for consumer in [&mut intake.high, &mut intake.normal] {
            while let Some(Ok(delivery)) = consumer.next().await {
                requeue(&delivery).await;
                self.workshop.count_returned();
            }
        }
    }

    /// Waits for what runs, and at the end of the grace cuts it off.
    async fn finish(&self) {
        self.running.close();
        if tokio::time::timeout(self.options.grace, self.running.wait())
            .await
            .is_err()
        {
            self.workshop.cut.cancel();
            self.running.wait().await;
        }
    }
}

/// Why no more deliveries are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped,
    Lost,
}

impl Ended {
    fn is_lost(self) -> bool {
        self == Ended::Lost
    }
}

/// Gives a delivery back to its queue, if it is still ours.
pub(crate) async fn requeue(delivery: &Delivery) {
    let options = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    if let Err(error) = delivery.acker.nack(options).await {
        info!("RabbitMQ gives it back by itself: {error}");
    }
}
// end solution only
