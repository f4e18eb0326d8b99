//! A node: one of many that may lead, and all of which deal with replies.

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::options::NodeOptions;
use crate::report::NodeReport;

// solution only
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::FieldTable;
use lapin::{Connection, Consumer};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::connection::{Pauses, channel, connect};
use crate::dispatch::{Dispatcher, away, declare};
use crate::lease::Lease;
use crate::misfire::plan;
use crate::run::{Reply, Run};
use crate::store::{Claim, Store};
use crate::term::Term;
use crate::time::later;
// end solution only

/// Runs a node until `stop`, and returns what it did.
///
/// **Standing by**, it tries to [acquire](crate::Lease::acquire) the lease once in each `check`: so another
/// node leads within the lease and one check after a leader died, and within one check after it has stopped.
///
/// **Leading**, it renews the lease some times in each `lease`, whatever else keeps it busy. It ends its term
/// at the latest a whole `lease` after it *began* the last renewal that succeeded, by its own clock, and at once
/// when it hears that the lease is another's: then it stands by again. In its term it
///
/// - [takes over](crate::Store::take_over) what is open, once, at the beginning;
/// - claims what is [due](crate::Store::due), a page at a time, as the [plan](crate::plan) says, with the
///   misfire policy of each job;
/// - publishes the [open](crate::Store::open) runs, a page at a time, and says so
///   [afterwards](crate::Store::published); a run that no queue took is tried again after a pause;
/// - looks again as soon as the next is due, and within one check in any case: a job that was just added may
///   be the next.
///
/// **In any case** it takes the replies from [`P.replies`](crate::Names::replies), [deals](crate::Store::answer)
/// with each, and acknowledges it then. A failed attempt is made again after the [pause](crate::Retry::pause)
/// for it. What is no reply is thrown away.
///
/// While RabbitMQ or Redis is away it tries again; a connection that was lost is opened again. A leader who
/// cannot publish still claims and renews.
///
/// At `stop` it begins nothing more, [gives the lease up](crate::Lease::release), and returns.
///
/// # Errors
/// At the start, at once: [`Error::Redis`], [`Error::Amqp`], [`Error::Declared`], and [`Error::BadJob`] with the
/// place `/id` if the id is no name. None later.
pub async fn run(options: NodeOptions, stop: CancellationToken) -> Result<NodeReport, Error> {
    // stub stage 3: claim, publish and take replies until the stop (stage 4: only with the lease)
    crate::job::check_name("/id", &options.id)?;
    let store = Store::connect(&options.redis, &options.names).await?;
    let lease = Lease::connect(&options.redis, &options.names, &options.id, options.lease).await?;
    let dispatcher = Dispatcher::connect(&options.amqp, &options.names).await?;
    let inbox = Inbox::open(&options).await?;
    let node = Node {
        options,
        store,
        lease,
        stop,
        terms: AtomicU64::new(0),
        published: AtomicU64::new(0),
        replies: AtomicU64::new(0),
    };
    tokio::join!(node.stand_by(dispatcher), node.take_replies(inbox));
    Ok(NodeReport {
        terms: node.terms.into_inner(),
        published: node.published.into_inner(),
        replies: node.replies.into_inner(),
    })
    // end stub
}

// solution only
/// How long a reply of a broker is waited for at the end.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a connection to RabbitMQ may take to be ready for work.
const OPEN: Duration = Duration::from_secs(30);
/// How long a run that no queue took is put off.
const UNROUTABLE: Duration = Duration::from_secs(1);
/// Replies that are dealt with side by side.
const REPLIES: u16 = 32;

struct Node {
    options: NodeOptions,
    store: Store,
    lease: Lease,
    stop: CancellationToken,
    terms: AtomicU64,
    published: AtomicU64,
    replies: AtomicU64,
}

impl Node {
    /// Waits for the lease, leads as long as it lasts, and waits again.
    async fn stand_by(&self, dispatcher: Dispatcher) {
        let mut dispatcher = Some(dispatcher);
        while !self.stop.is_cancelled() {
            let asked = Instant::now();
            match self.lease.acquire().await {
                Ok(Some(term)) => {
                    info!("leads from now on: {term}");
                    self.terms.fetch_add(1, Ordering::Relaxed);
                    self.lead(&term, asked, &mut dispatcher).await;
                    info!("leads no more: {term}");
                    if self.stop.is_cancelled() {
                        let released = timeout(GOODBYE, self.lease.release(&term)).await;
                        if !matches!(released, Ok(Ok(_))) {
                            warn!("the lease could not be given up; it ends by itself");
                        }
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => warn!("cannot ask for the lease: {error}"),
            }
            let pause = sleep(self.options.check);
            self.stop.run_until_cancelled(pause).await;
        }
    }

    /// One term, until it ends.
    async fn lead(&self, term: &Term, began: Instant, dispatcher: &mut Option<Dispatcher>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.renew(term, began) => {}
            error = self.work(term, dispatcher) => info!("{error}"),
        }
        // What was under way may have been dropped in the middle of a confirm.
        *dispatcher = None;
    }

    /// Renews the lease, and returns when it has ended, or may have.
    async fn renew(&self, term: &Term, began: Instant) {
        let mut ends = began + self.options.lease;
        loop {
            sleep(self.options.lease / 4).await;
            let asked = Instant::now();
            let renewed = tokio::select! {
                renewed = self.lease.renew(term) => renewed,
                () = sleep_until(ends) => return,
            };
            match renewed {
                Ok(true) => ends = asked + self.options.lease,
                Ok(false) => return,
                Err(error) => warn!("cannot renew the lease: {error}"),
            }
            if Instant::now() >= ends {
                return;
            }
        }
    }

    /// Works until the term has ended.
    async fn work(&self, term: &Term, dispatcher: &mut Option<Dispatcher>) -> Error {
        let mut pauses = Pauses::new();
        let mut has_taken_over = false;
        loop {
            let worked = async {
                if !has_taken_over {
                    self.store.take_over(term).await?;
                    has_taken_over = true;
                }
                let is_more = self.claim(term).await?;
                Ok(is_more | self.publish(term, dispatcher).await?)
            };
            match worked.await {
                Ok(is_more) => {
                    pauses = Pauses::new();
                    if !is_more {
                        self.rest().await;
                    }
                }
                Err(error @ Error::Fenced(_)) => return error,
                Err(error) => {
                    warn!("{error}");
                    pauses.pause().await;
                }
            }
        }
    }

    /// Waits until there may be something to do.
    async fn rest(&self) {
        let check = self.options.check;
        let pause = match self.store.wake_at().await {
            Ok(Some(at)) => {
                let left = (at - self.options.clock.now()).to_std();
                left.unwrap_or_default().min(check)
            }
            _ => check,
        };
        sleep(pause.max(Duration::from_millis(1))).await;
    }

    /// Claims a page of what is due. Returns whether there may be more.
    async fn claim(&self, term: &Term) -> Result<bool, Error> {
        let options = &self.options;
        let now = options.clock.now();
        let page = options.page.max(1);
        let due = self.store.due(now, page).await?;
        let is_more = due.len() == page;
        let claims: Vec<Claim> = due
            .into_iter()
            .map(|due| {
                let plan = plan(
                    &due.job.schedule,
                    due.job.misfire,
                    due.at,
                    now,
                    options.late,
                );
                Claim {
                    job: due.job.name,
                    at: due.at,
                    runs: plan.runs,
                    next: plan.next,
                }
            })
            .collect();
        if !claims.is_empty() {
            let attempts = options.retry.attempts.max(1);
            self.store.claim(term, &claims, attempts).await?;
        }
        Ok(is_more)
    }

    /// Publishes a page of what is open. Returns whether there may be more.
    async fn publish(
        &self,
        term: &Term,
        dispatcher: &mut Option<Dispatcher>,
    ) -> Result<bool, Error> {
        let options = &self.options;
        let page = options.page.max(1);
        let runs = self.store.open(term, options.clock.now(), page).await?;
        if runs.is_empty() {
            return Ok(false);
        }
        let mut open = match dispatcher.take() {
            Some(open) => open,
            None => in_time(Dispatcher::connect(&options.amqp, &options.names)).await?,
        };
        let outcomes = open.publish(&runs).await?;
        *dispatcher = Some(open);
        let (mut taken, mut returned): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
        let is_page = runs.len() == page;
        for (run, outcome) in runs.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => taken.push(run),
                Err(error) => {
                    warn!("{}: {error}", run.id());
                    returned.push(run);
                }
            }
        }
        self.published
            .fetch_add(taken.len() as u64, Ordering::Relaxed);
        let now = options.clock.now();
        self.store
            .published(term, &taken, later(now, options.resend))
            .await?;
        self.store
            .published(term, &returned, later(now, UNROUTABLE))
            .await?;
        Ok(is_page)
    }

    /// Deals with replies until the stop, on one connection after the other.
    async fn take_replies(&self, inbox: Inbox) {
        let mut open = Some(inbox);
        while let Some(inbox) = open.take() {
            let deliveries = inbox.replies.take_until(self.stop.cancelled());
            deliveries
                .for_each_concurrent(usize::from(REPLIES), async |delivery| {
                    if let Ok(delivery) = delivery {
                        self.settle(&delivery).await;
                    }
                })
                .await;
            let closed = inbox.connection.close(200, "done".into());
            let _ = timeout(GOODBYE, closed).await;
            if !self.stop.is_cancelled() {
                warn!("replies have ended");
                open = self.open_again().await;
            }
        }
    }

    async fn open_again(&self) -> Option<Inbox> {
        let opening = async {
            let mut pauses = Pauses::new();
            loop {
                match in_time(Inbox::open(&self.options)).await {
                    Ok(inbox) => return inbox,
                    Err(error) => warn!("{error}"),
                }
                pauses.pause().await;
            }
        };
        self.stop.run_until_cancelled(opening).await
    }

    async fn settle(&self, delivery: &Delivery) {
        let reply = match Reply::read(&delivery.data) {
            Ok(reply) => reply,
            Err(error) => {
                warn!("thrown away: {error}");
                let options = BasicRejectOptions { requeue: false };
                let _ = delivery.acker.reject(options).await;
                return;
            }
        };
        let now = self.options.clock.now();
        let again = later(now, self.options.retry.pause(reply.attempt));
        let done = match self.store.answer(&reply, now, again).await {
            Ok(_) => {
                self.replies.fetch_add(1, Ordering::Relaxed);
                delivery.acker.ack(BasicAckOptions::default()).await
            }
            Err(error) => {
                warn!("cannot deal with a reply yet: {error}");
                self.stop.run_until_cancelled(sleep(UNROUTABLE)).await;
                let options = BasicNackOptions {
                    requeue: true,
                    ..BasicNackOptions::default()
                };
                delivery.acker.nack(options).await
            }
        };
        if let Err(error) = done {
            info!("the reply comes again: {error}");
        }
    }
}

/// Where replies come in.
struct Inbox {
    connection: Connection,
    replies: Consumer,
}

impl Inbox {
    async fn open(options: &NodeOptions) -> Result<Inbox, Error> {
        let connection = connect(&options.amqp, "job-scheduler: replies").await?;
        let channel = channel(&connection).await?;
        declare(&channel, &options.names).await?;
        let limited = channel.basic_qos(REPLIES, BasicQosOptions::default());
        limited.await.map_err(away)?;
        let replies = channel.basic_consume(
            options.names.replies().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        Ok(Inbox {
            connection,
            replies: replies.await.map_err(away)?,
        })
    }
}

/// A RabbitMQ that is half dead may let us connect and then say nothing.
async fn in_time<T>(opening: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Err(Error::Away(format!("no answer within {OPEN:?}")));
    timeout(OPEN, opening).await.unwrap_or_else(late)
}
// end solution only
