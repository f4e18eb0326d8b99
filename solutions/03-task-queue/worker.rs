//! Working: takes tasks from the queues, runs them side by side, and goes on after whatever is lost.

use tokio_util::sync::CancellationToken;

use crate::context::Handlers;
use crate::error::Error;
use crate::options::Work;
use crate::report::Worked;

// solution only
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::BasicNackOptions;
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
/// - A message may come again while its attempt still runs, because no more than the connection was lost.
///   It may begin another attempt, if one is left; it is better to let the first come to its end.
/// - What is no task, or of a kind that has no handler, is dead-lettered at once, without an attempt.
/// - A deadline that has passed before it begins, that passes while it runs, or that will have passed
///   before the next attempt, is a failure for good.
///
/// Whatever becomes of an attempt that is not the latest has no effect on the status. While Redis or RabbitMQ is away
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
    let worker = Worker {
        workshop: Arc::new(Workshop::new(options, handlers, store, publisher, stop)),
        running: TaskTracker::new(),
    };
    worker.run(intake).await;
    Ok(worker.workshop.worked())
    // end stub
}

// solution only
/// How long whatever needs RabbitMQ may take at the end: it may be away.
const GOODBYE: Duration = Duration::from_secs(5);

struct Worker {
    workshop: Arc<Workshop>,
    running: TaskTracker,
}

impl Worker {
    /// Takes deliveries until the stop, on one connection after the other.
    async fn run(&self, intake: Intake) {
        let mut open = Some(intake);
        while let Some(mut intake) = open.take() {
            match self.take(&mut intake).await {
                Ended::Stopped => open = Some(intake),
                Ended::Lost => {
                    warn!("deliveries have ended");
                    // All of it, before another is opened: what it holds is to go back.
                    intake.close().await;
                    open = self.open_again().await;
                    continue;
                }
            }
            break;
        }
        if let Some(intake) = &mut open {
            let _ = tokio::time::timeout(GOODBYE, self.give_back(intake)).await;
        }
        self.finish().await;
        if let Some(intake) = open {
            intake.close().await;
        }
        self.workshop.publisher.close().await;
    }

    /// Takes what comes, high priority first, as long as there are free places.
    async fn take(&self, intake: &mut Intake) -> Ended {
        let Workshop {
            places,
            wanted,
            stop,
            ..
        } = &*self.workshop;
        loop {
            let place = stop.run_until_cancelled(Arc::clone(places).acquire_owned());
            let Some(Ok(place)) = place.await else {
                return Ended::Stopped;
            };
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => return Ended::Stopped,
                () = wanted.notified() => continue,
                delivery = intake.high.next() => delivery,
                delivery = intake.normal.next() => delivery,
            };
            // A consumer ends with its channel, or when its queue is deleted.
            let Some(Ok(delivery)) = delivery else {
                return Ended::Lost;
            };
            let workshop = Arc::clone(&self.workshop);
            self.running
                .spawn(async move { workshop.handle(delivery, place).await });
        }
    }

    /// Another connection, or nothing at the stop.
    async fn open_again(&self) -> Option<Intake> {
        let mut pauses = Pauses::new();
        let opening = async {
            loop {
                match Intake::open(&self.workshop.options).await {
                    Ok(intake) => return intake,
                    Err(error) => warn!("{error}"),
                }
                pauses.pause().await;
            }
        };
        let opened = self.workshop.stop.run_until_cancelled(opening).await;
        opened.inspect(|_| info!("deliveries come again"))
    }

    /// Nothing more is delivered, and what has not begun goes back.
    async fn give_back(&self, intake: &mut Intake) {
        intake.cancel().await;
        for consumer in [&mut intake.high, &mut intake.normal] {
            while let Some(Ok(delivery)) = consumer.next().await {
                self.workshop.give_back(&delivery).await;
            }
        }
    }

    /// Waits for what runs, and at the end of the grace cuts it off.
    async fn finish(&self) {
        self.running.close();
        let grace = self.workshop.options.grace;
        let ended = tokio::time::timeout(grace, self.running.wait()).await;
        if ended.is_err() {
            self.workshop.cut.cancel();
            let _ = tokio::time::timeout(GOODBYE, self.running.wait()).await;
        }
    }
}

/// Why no more deliveries are taken.
enum Ended {
    Stopped,
    Lost,
}

/// Gives a delivery back to its queue. Returns whether it was still ours.
pub(crate) async fn requeue(delivery: &Delivery) -> bool {
    let options = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    let given_back = delivery.acker.nack(options).await;
    given_back.unwrap_or_else(|error| {
        info!("RabbitMQ gives it back by itself: {error}");
        false
    })
}
// end solution only
