//! A service: takes runs from its queue, works them, and answers. However often a run comes, it has one
//! effect; and what a leader publishes who is none any more has none.

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::names::Names;
use crate::options::ServiceOptions;
use crate::report::ServiceReport;
use crate::run::Run;

// solution only
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use futures::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions,
    BasicPublishOptions, BasicQosOptions, BasicRejectOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use redis::Script;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::connection::{Link, Pauses, channel, connect};
use crate::dispatch::{PERSISTENT, away, declare_service};
use crate::run::Reply;
use crate::store::Store;
// end solution only

/// What has become of a run at the place where its effect lands.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// It has had its effect, now.
    Now,
    /// It had had its effect before, with this result.
    Before(Value),
    /// It is refused: a higher token has written for this job already.
    Stale,
}

/// The place where effects land: the stream [`P:effects`](Names::effects) in Redis. Cheap to clone; after a
/// lost connection the next call connects again.
#[derive(Debug, Clone)]
pub struct Ledger {
    // solution only
    link: Arc<Link>,
    names: Names,
    keep: Duration,
    // end solution only
}

impl Ledger {
    /// Connects. That a run had its effect is remembered for `keep`.
    ///
    /// # Errors
    /// [`Error::Redis`] if Redis cannot be reached or does not let us in.
    pub async fn connect(redis: &str, names: &Names, keep: Duration) -> Result<Ledger, Error> {
        // stub stage 5: connect, and remember the rest
        Ok(Ledger {
            link: Arc::new(Link::connect(redis).await?),
            names: names.clone(),
            keep,
        })
        // end stub
    }

    /// Whether it makes sense to begin with a run: nothing has been written yet if the answer is none,
    /// otherwise it is what [`apply`](Self::apply) would say. Nothing changes.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away.
    pub async fn look(&self, run: &Run) -> Result<Option<Applied>, Error> {
        // stub stage 5: the mark, and the highest token of the job
        self.ask(run, None).await
        // end stub
    }

    /// Lets a run have its effect: an entry in the stream of effects, with the fields `job`,
    /// `scheduled_for` (RFC 3339), `service`, `token`, `attempt` and `result` (JSON).
    ///
    /// In the same atomic step it is looked whether the effect [was there before](Names::done), and whether
    /// a higher token has written for this job ([`P:fence`](Names::fence)): then there is none. What was
    /// there before is said even to a token that is too old. From then on the job's highest token is this
    /// run's, and the run is marked, with its result.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away. It may have had its effect then; asking again
    /// is safe.
    pub async fn apply(&self, run: &Run, result: &Value) -> Result<Applied, Error> {
        // stub stage 5: one script: a higher token? XADD (stage 6: the mark before, and SET … PX)
        let answer = self.ask(run, Some(result)).await?;
        Ok(answer.unwrap_or(Applied::Now))
        // end stub
    }
}

/// Works the runs of a service until `stop`, up to `concurrency` side by side, and returns what it did.
///
/// It [adds](crate::Store::add_service) the service, and declares [what it needs](crate::declare_service).
/// For each delivery:
///
/// - If the run [had its effect before](Ledger::look), the same reply goes out again: the first one may have
///   been lost. If its token is too old, the delivery is acknowledged and forgotten: whoever leads now
///   publishes the run again.
/// - Otherwise `handler` works it. If it succeeds, the run [has its effect](Ledger::apply), unless it turns
///   out now that it is too late for that, as above. If it fails or panics, there is none.
/// - The [reply](crate::Reply) goes to the queue that the message names as `reply-to`, or else to
///   [`P.replies`](Names::replies): persistent, mandatory, confirmed, with the correlation id of the
///   message. Only then is the delivery acknowledged. If the reply could not be stored, the delivery goes
///   back to its queue.
/// - What is no run is thrown away.
///
/// While Redis or RabbitMQ is away it tries again, and nothing is acknowledged before it is done. A connection
/// that was lost is opened again.
///
/// At `stop` no more is taken. What has not begun goes back; what runs is waited for. Redis is waited for no
/// longer than some seconds then: what it could not be told goes back.
///
/// # Errors
/// At the start, at once: [`Error::Redis`], [`Error::Amqp`], [`Error::Declared`], [`Error::BadJob`] if the
/// service's name is none. None later.
pub async fn serve<F, Fut>(
    options: ServiceOptions,
    handler: F,
    stop: CancellationToken,
) -> Result<ServiceReport, Error>
where
    F: Fn(Run) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, String>> + Send + 'static,
{
    // stub stage 6: connect, consume with a prefetch, work each delivery in a task, reply, acknowledge
    crate::job::check_name("/service", &options.service)?;
    let store = Store::connect(&options.redis, &options.names).await?;
    store.add_service(&options.service).await?;
    let ledger = Ledger::connect(&options.redis, &options.names, options.keep).await?;
    let first = Counter::open(&options).await?;
    let worker = Arc::new(Worker {
        options,
        ledger,
        handler,
        counts: Counts::default(),
        stop,
    });
    Worker::run(&worker, first).await;
    Ok(worker.counts.report())
    // end stub
}

// solution only
/// How long closing may take, of a connection that may be dead.
const CLOSE: Duration = Duration::from_secs(2);
/// How long RabbitMQ may take to confirm a reply.
const CONFIRM: Duration = Duration::from_secs(10);

impl Ledger {
    async fn ask(&self, run: &Run, result: Option<&Value>) -> Result<Option<Applied>, Error> {
        let key = self.names.done(&run.id());
        let mut call = APPLY.key(&key);
        call.key(self.names.fence()).key(self.names.effects());
        call.arg(&run.job).arg(run.token);
        call.arg(result.map(Value::to_string).unwrap_or_default());
        call.arg(
            u64::try_from(self.keep.as_millis()).map_or(i64::MAX as u64 / 2, |keep| keep.max(1)),
        );
        call.arg(crate::time::text(run.scheduled_for));
        call.arg(&run.service).arg(run.attempt);
        let mut connection = self.link.connection().await?;
        let answer = call.invoke_async(&mut connection).await;
        let (answer, said): (String, String) = self.link.answer(answer).await?;
        Ok(match answer.as_str() {
            "before" => Some(Applied::Before(crate::store::json(&key, &said)?)),
            "stale" => Some(Applied::Stale),
            _ => None,
        })
    }
}

/// KEYS: mark, fence, effects. ARGV: job, token, result or nothing, keep, the time it was scheduled for,
/// service, attempt.
static APPLY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local before = redis.call('GET', KEYS[1])
        if before then return {'before', before} end
        local highest = redis.call('HGET', KEYS[2], ARGV[1])
        if highest and tonumber(highest) > tonumber(ARGV[2]) then return {'stale', ''} end
        if ARGV[3] == '' then return {'not yet', ''} end
        redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
        redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
        redis.call('XADD', KEYS[3], '*', 'job', ARGV[1], 'scheduled_for', ARGV[5], 'service', ARGV[6],
            'token', ARGV[2], 'attempt', ARGV[7], 'result', ARGV[3])
        return {'now', ''}",
    )
});

#[derive(Default)]
struct Counts {
    applied: AtomicU64,
    repeated: AtomicU64,
    stale: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn report(&self) -> ServiceReport {
        ServiceReport {
            applied: self.applied.load(Ordering::Relaxed),
            repeated: self.repeated.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Where runs come in and replies go out: one connection, and a channel for each.
struct Counter {
    connection: Connection,
    intake: Channel,
    replies: Channel,
    deliveries: Consumer,
}

impl Counter {
    async fn open(options: &ServiceOptions) -> Result<Counter, Error> {
        let name = format!("job-scheduler: {}", options.service);
        let connection = connect(&options.amqp, &name).await?;
        let intake = channel(&connection).await?;
        declare_service(&intake, &options.names, &options.service).await?;
        let replies = channel(&connection).await?;
        let confirmed = replies.confirm_select(ConfirmSelectOptions::default());
        confirmed.await.map_err(away)?;
        let prefetch = options.concurrency.max(1);
        let limited = intake.basic_qos(prefetch, BasicQosOptions::default());
        limited.await.map_err(away)?;
        let deliveries = intake.basic_consume(
            options.names.queue(&options.service).into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = deliveries.await.map_err(away)?;
        Ok(Counter {
            connection,
            intake,
            replies,
            deliveries,
        })
    }

    async fn close(self) {
        let closed = self.connection.close(200, "done".into());
        let _ = tokio::time::timeout(CLOSE, closed).await;
    }
}

struct Worker<F> {
    options: ServiceOptions,
    ledger: Ledger,
    handler: F,
    counts: Counts,
    stop: CancellationToken,
}

impl<F, Fut> Worker<F>
where
    F: Fn(Run) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, String>> + Send + 'static,
{
    async fn run(self: &Arc<Self>, first: Counter) {
        let running = TaskTracker::new();
        let mut open = Some(first);
        while let Some(mut counter) = open.take() {
            let lost = self.take(&mut counter, &running).await;
            if lost {
                warn!("deliveries have ended");
                counter.close().await;
                open = self.open_again().await;
                continue;
            }
            let cancelled = counter
                .intake
                .basic_cancel(counter.deliveries.tag(), BasicCancelOptions::default());
            let _ = tokio::time::timeout(CLOSE, cancelled).await;
            let rest = async {
                while let Some(Ok(delivery)) = counter.deliveries.next().await {
                    give_back(&delivery).await;
                }
            };
            let _ = tokio::time::timeout(CLOSE, rest).await;
            running.close();
            running.wait().await;
            counter.close().await;
        }
        running.close();
        running.wait().await;
    }

    /// Takes deliveries until the stop; true if they ended before.
    async fn take(self: &Arc<Self>, counter: &mut Counter, running: &TaskTracker) -> bool {
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                delivery = counter.deliveries.next() => delivery,
            };
            let Some(Ok(delivery)) = delivery else {
                return true;
            };
            let (worker, replies) = (Arc::clone(self), counter.replies.clone());
            running.spawn(async move { worker.settle(&delivery, &replies).await });
        }
    }

    async fn open_again(&self) -> Option<Counter> {
        let opening = async {
            let mut pauses = Pauses::new();
            loop {
                match Counter::open(&self.options).await {
                    Ok(counter) => return counter,
                    Err(error) => warn!("{error}"),
                }
                pauses.pause().await;
            }
        };
        self.stop.run_until_cancelled(opening).await
    }

    /// Everything that is to become of a delivery.
    async fn settle(&self, delivery: &Delivery, replies: &Channel) {
        let mut run = match Run::read(&delivery.data) {
            Ok(run) => run,
            Err(error) => {
                warn!("thrown away: {error}");
                let options = BasicRejectOptions { requeue: false };
                let _ = delivery.acker.reject(options).await;
                return;
            }
        };
        run.service.clone_from(&self.options.service);
        let outcome = match self.work(&run).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => return acknowledge(delivery).await,
            Err(Untold) => return give_back(delivery).await,
        };
        let reply = Reply::new(&run, outcome);
        match self.reply(&reply, delivery, replies).await {
            Ok(()) => acknowledge(delivery).await,
            Err(error) => {
                info!("{error}: the run comes again");
                give_back(delivery).await;
            }
        }
    }

    /// What is to be replied; nothing to a leader who is none any more.
    async fn work(&self, run: &Run) -> Result<Option<Result<Value, String>>, Untold> {
        match self.until_told(|| self.ledger.look(run)).await? {
            Some(Applied::Before(result)) => {
                count(&self.counts.repeated);
                return Ok(Some(Ok(result)));
            }
            Some(_) => {
                count(&self.counts.stale);
                return Ok(None);
            }
            None => {}
        }
        let handled = AssertUnwindSafe(async { (self.handler)(run.clone()).await }).catch_unwind();
        let outcome = handled
            .await
            .unwrap_or_else(|_| Err("the handler panicked".to_owned()));
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                count(&self.counts.failed);
                return Ok(Some(Err(error)));
            }
        };
        match self.until_told(|| self.ledger.apply(run, &result)).await? {
            Applied::Now => {
                count(&self.counts.applied);
                Ok(Some(Ok(result)))
            }
            Applied::Before(result) => {
                count(&self.counts.repeated);
                Ok(Some(Ok(result)))
            }
            Applied::Stale => {
                count(&self.counts.stale);
                Ok(None)
            }
        }
    }

    /// Asks until Redis has answered; at a stop not for much longer.
    async fn until_told<T, A>(&self, ask: impl Fn() -> A) -> Result<T, Untold>
    where
        A: Future<Output = Result<T, Error>>,
    {
        let asking = async {
            let mut pauses = Pauses::new();
            loop {
                match ask().await {
                    Ok(answer) => return answer,
                    Err(error) => warn!("cannot ask Redis yet: {error}"),
                }
                pauses.pause().await;
            }
        };
        let overdue = async {
            self.stop.cancelled().await;
            tokio::time::sleep(CLOSE).await;
        };
        tokio::select! {
            answer = asking => Ok(answer),
            () = overdue => Err(Untold),
        }
    }

    async fn reply(
        &self,
        reply: &Reply,
        delivery: &Delivery,
        channel: &Channel,
    ) -> Result<(), Error> {
        let asked = delivery.properties.reply_to().as_ref();
        let queue = asked.map_or_else(|| self.options.names.replies(), ToString::to_string);
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into());
        if let Some(id) = delivery.properties.correlation_id() {
            properties = properties.with_correlation_id(id.clone());
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let body = reply.body();
        let sending = async {
            let sent = channel.basic_publish("".into(), queue.into(), options, &body, properties);
            sent.await.map_err(away)?.await.map_err(away)
        };
        match tokio::time::timeout(CONFIRM, sending).await {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(_)) => Err(Error::Away("it did not take the reply".to_owned())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Away(format!("no confirm within {CONFIRM:?}"))),
        }
    }
}

/// Redis was away, and nobody waits for it any more: the run comes again, here or elsewhere.
struct Untold;

async fn acknowledge(delivery: &Delivery) {
    if let Err(error) = delivery.acker.ack(BasicAckOptions::default()).await {
        info!("cannot acknowledge, it will come again: {error}");
    }
}

async fn give_back(delivery: &Delivery) {
    let options = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    if let Err(error) = delivery.acker.nack(options).await {
        info!("RabbitMQ gives it back by itself: {error}");
    }
}
// end solution only
