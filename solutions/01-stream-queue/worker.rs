//! The worker: takes entries as fast as it has room for them, runs the handler, and settles each
//! entry in the end, whatever happens to it, to Redis or to the connection between them.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::consumer::Consumer;
use crate::entry::Entry;
use crate::error::Error;
use crate::options::WorkOptions;

// solution only
#[path = "worker/filling.rs"]
mod filling;
#[path = "worker/held.rs"]
mod held;
#[path = "worker/settling.rs"]
mod settling;

use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use self::held::Held;
use crate::entry::RawEntry;
// end solution only

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries whose handler succeeded and that were then acknowledged.
    pub handled: u64,
    /// Entries that this worker moved to the dead letters.
    pub dead_lettered: u64,
    /// Entries that are still pending for this consumer: unfinished at the stop deadline, or waiting
    /// for a retry. They are not lost: others take them over after `visibility`.
    pub left_pending: u64,
}

/// Works on the entries of a stream as one consumer of a group, until `stop`: reads them, runs
/// `handler` for each, and settles each one, whatever dies. Every entry that is delivered ends up
/// acknowledged or dead-lettered: never neither, never both.
///
/// The function grows with the stages. What it promises, stage by stage:
///
/// **2, consume.** It connects and creates the group itself ([`Consumer::create_group`]), so entries
/// sent before it started are handled too. An entry is acknowledged after its handler returned `Ok`,
/// never before, and only that entry: a failure of one says nothing about the others. An entry whose
/// handler failed stays pending. With nothing to do it waits in Redis (a blocking read) instead of
/// asking again and again: an idle worker sends fewer than 20 commands a second.
///
/// **3, share.** Never more than `options.concurrency` handlers run at once, and never more entries
/// than that are delivered to this consumer without being handled or failed: a read asks for as many
/// as there are free slots, so what this worker has no room for is left to others. A slow entry
/// occupies its own slot and holds up nothing else. Any number of workers share a group.
///
/// **4, survive.** At a start it first delivers again what is pending for its name from a former life
/// ([`Consumer::own_pending`]). Some times in each `visibility` it keeps everything it holds
/// ([`Consumer::keep`]), so that an entry whose handler is alive is not taken from it however long it
/// runs. And it takes over what others abandoned ([`Consumer::claim_abandoned`]), as slots are free,
/// until there is no more: a dead worker's entries are handled again within `visibility` plus one
/// scan, and a scan is due at least every `visibility / 2` (or every 100 ms, if that is longer).
/// A worker that was paused while another took its entry neither takes it back nor dead-letters it.
///
/// **5, give up well.** When a handler fails (returns `Err` or panics, reason `handler panicked: …`)
/// for the entry's delivery number n, and n is below `options.max_deliveries`, the entry is delivered
/// again after at least [`retry_delay`](crate::retry_delay)`(options, n)`. That is a redelivery by the
/// broker: its count grows by one, and `Entry::deliveries` is that count, so that it survives any
/// restart. While it waits the entry occupies no slot, stays pending for this consumer, and is kept.
/// When n has reached `options.max_deliveries` the entry is dead-lettered with the handler's last
/// error as the reason ([`Consumer::dead_letter`]). The handler is started at most `max_deliveries`
/// times for an entry: one that was delivered so often and comes back all the same, because its
/// worker died each time, is dead-lettered without running the handler again. What cannot be decoded
/// ([`RawEntry::decode`](crate::RawEntry::decode)) is dead-lettered at once, without the handler.
///
/// **6, stay bounded.** While it acknowledges entries it [trims](crate::trim()) the stream now and
/// then: not at each entry, and no later than some seconds after.
///
/// **7, stop.** When `stop` is cancelled it reads, claims and retries no more. What is in flight, and
/// what the read under way then still brings, is finished and settled. Entries that wait for a retry
/// are not waited for: they stay pending, for others. Then the consumer leaves its group
/// ([`Consumer::leave`], so only if nothing is pending for it), and `work` returns. It returns as
/// soon as that is done, and `options.stop_deadline` after the stop in any case (up to a second later
/// if Redis does not answer): handlers that still run are dropped, and their entries stay pending for
/// others. A read that is under way is waited for, not cancelled.
///
/// **8, one effect.** A connection that is lost later than at the start is rebuilt, with growing
/// pauses, for ever; the worker never gives up and never panics over it. Handlers run on meanwhile,
/// and what they decided is told to Redis afterwards. What Redis delivered in a reply that never came
/// is found and handled too, without restarting the worker. Nothing is sent on the connection that
/// blocks while it blocks.
///
/// **9, go fast.** Entries are read many at a time, as slots allow, and acknowledged many at a time:
/// 10,000 quick entries at a concurrency of 100 take some hundreds of round trips, not tens of
/// thousands. A single entry in a quiet stream is acknowledged within milliseconds all the same.
///
/// # Errors
/// Only at the start: [`Error::Connect`] if Redis cannot be reached or does not let us in,
/// [`Error::Redis`] if the group cannot be created, because the key is not a stream, for example.
pub async fn work<F, Fut>(
    options: WorkOptions,
    handler: F,
    stop: CancellationToken,
) -> Result<Summary, Error>
where
    F: Fn(Entry) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    // stub stage 2: create the group; read, run the handler, acknowledge what succeeded; stop
    let deadline = async {
        stop.cancelled().await;
        sleep(options.stop_deadline).await;
    };
    let mut worker = Worker::start(options.clone(), handler).await?;
    tokio::select! {
        () = worker.run(&stop) => {}
        () = deadline => {}
    }
    Ok(worker.finish().await)
    // end stub
}

// solution only
/// The pauses between attempts to get back to Redis.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

struct Worker<F> {
    options: WorkOptions,
    handler: Arc<F>,
    consumer: Consumer,
    /// The handlers at work, one a slot.
    running: JoinSet<(String, Result<(), String>)>,
    /// The read that is under way, if any. It is never cancelled: it might just be given an entry.
    reading: JoinSet<Result<Vec<RawEntry>, Error>>,
    /// How many entries that read asked for: so many slots are kept free for it.
    asked: usize,
    held: Held,
    /// Where to go on looking for entries that are ours without our knowing: left by a former life,
    /// or delivered in a reply that never came.
    strays: Option<String>,
    next_keep: Instant,
    next_scan: Instant,
    next_trim: Option<Instant>,
    /// When to settle what is finished, if anything is.
    settle_at: Option<Instant>,
    summary: Summary,
}

impl<F, Fut> Worker<F>
where
    F: Fn(Entry) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    async fn start(options: WorkOptions, handler: F) -> Result<Self, Error> {
        let now = Instant::now();
        Ok(Worker {
            consumer: join_group(&options).await?,
            options,
            handler: Arc::new(handler),
            running: JoinSet::new(),
            reading: JoinSet::new(),
            asked: 0,
            held: Held::default(),
            strays: Some("0".into()),
            next_keep: now,
            next_scan: now,
            next_trim: None,
            settle_at: None,
            summary: Summary::default(),
        })
    }

    /// Works until it is told to stop and nothing is left to do, over any number of lost connections.
    async fn run(&mut self, stop: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let Err(error) = self.serve(stop).await else {
                return;
            };
            if stop.is_cancelled() && self.held.len() == 0 {
                return;
            }
            tracing::warn!(%error, "lost Redis, connecting again");
            if started.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            loop {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                match join_group(&self.options).await {
                    Ok(consumer) => break self.consumer = consumer,
                    Err(error) => tracing::warn!(%error, "still no Redis"),
                }
            }
            self.strays = Some("0".into());
            self.next_keep = Instant::now();
            // The others were away too: let them say that they live before taking anything from them.
            self.next_scan = Instant::now() + self.scan_every().max(2 * LONGEST_PAUSE);
        }
    }

    /// Works on the present connection until that fails (`Err`) or all is done after a stop (`Ok`).
    async fn serve(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            if now >= self.next_keep {
                self.consumer.keep(&self.held.ids()).await?;
                self.next_keep = now + self.keep_every();
            }
            if self.next_trim.is_some_and(|at| now >= at) {
                self.trim().await?;
            }
            let stopping = stop.is_cancelled();
            let gathered = self.running.is_empty() || self.settle_at.is_some_and(|at| now >= at);
            if !stopping && (self.settle_at.is_none() || gathered) {
                self.retry().await?;
                self.take().await?;
            }
            if self.settle_at.is_some() && gathered {
                self.settle().await?;
            }
            if stopping && self.running.is_empty() && self.reading.is_empty() {
                return self.settle().await;
            }
            let wake_at = self.wake_at(stopping);
            tokio::select! {
                Some(read) = self.reading.join_next() => {
                    self.asked = 0;
                    for entry in read.unwrap_or_else(panicked)? {
                        self.begin(entry);
                    }
                }
                Some(ended) = self.running.join_next() => self.end(ended),
                () = sleep_until(wake_at) => {}
                () = stop.cancelled(), if !stopping => {}
            }
        }
    }

    /// When there is something to do even if nothing happens until then.
    fn wake_at(&self, stopping: bool) -> Instant {
        let takes_more = self.free() > 0 && self.settle_at.is_none() && !stopping;
        let retry = self.held.next_retry().filter(|_| takes_more);
        let scan = Some(self.next_scan).filter(|_| takes_more);
        [retry, scan, self.settle_at, self.next_trim]
            .into_iter()
            .flatten()
            .fold(self.next_keep, Instant::min)
    }
}

/// Connects, and makes sure that there is a group: it may be gone with a Redis that lost its data.
async fn join_group(options: &WorkOptions) -> Result<Consumer, Error> {
    let consumer = Consumer::connect(options).await?;
    consumer.create_group().await?;
    Ok(consumer)
}

/// Our tasks catch what the handler throws, so a panic that comes out of them is a fault of our own.
fn panicked<T>(gone: JoinError) -> T {
    std::panic::resume_unwind(gone.into_panic())
}
// end solution only
