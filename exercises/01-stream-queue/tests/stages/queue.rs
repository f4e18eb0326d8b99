//! What the checks of this exercise share: a stream and a group of their own, the lab's direct view
//! of them, and workers whose handlers write down what they do.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::faults::Exchange;
use lab::history::{History, What};
use lab::{Failure, FairClock, Lab, Outcome, Redis};
use redis::aio::MultiplexedConnection;
use stream_queue::{Entry, Error, Summary, WorkOptions, work};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An entry in the reply to `XRANGE`: id, then names and values.
type Row = (String, Vec<(Vec<u8>, Vec<u8>)>);
pub type Handling = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
pub type Handler = Arc<dyn Fn(Entry) -> Handling + Send + Sync>;
type Looking<'a> = Pin<Box<dyn Future<Output = Result<bool, Failure>> + Send + 'a>>;

/// A stream and a group that no other check uses, behind a proxy that no other check uses.
#[derive(Clone)]
pub struct Queue {
    pub lab: Lab,
    pub redis: Redis,
    pub stream: String,
    pub group: String,
    direct: MultiplexedConnection,
}

/// One entry as Redis holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub id: String,
    pub fields: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Stored {
    /// A field as text, empty when it is not there.
    pub fn text(&self, field: &str) -> String {
        self.fields
            .get(field.as_bytes())
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    }
}

/// One line of `XPENDING stream group - + N`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    pub id: String,
    pub consumer: String,
    pub deliveries: u64,
}

impl Queue {
    pub async fn new(lab: &Lab) -> Result<Queue, Failure> {
        let redis = lab.redis().await?;
        Queue::on(lab, redis).await
    }

    /// A queue on a broker that the caller chose.
    pub async fn on(lab: &Lab, redis: Redis) -> Result<Queue, Failure> {
        let direct = redis.direct().await?;
        let (stream, group) = (lab.unique("orders"), lab.unique("billing"));
        lab.watch(&redis, &stream, &group);
        Ok(Queue {
            lab: lab.clone(),
            stream,
            group,
            redis,
            direct,
        })
    }

    /// The same queue after its broker was started again: the lab's own connection died with it.
    pub async fn reconnected(&self) -> Result<Queue, Failure> {
        Ok(Queue {
            direct: self.redis.direct().await?,
            ..self.clone()
        })
    }

    /// The same group on another stream.
    pub fn on_stream(&self, stream: &str) -> Queue {
        Queue {
            stream: stream.to_owned(),
            ..self.clone()
        }
    }

    /// The lab's own connection, past the proxy.
    pub fn direct(&self) -> MultiplexedConnection {
        self.direct.clone()
    }

    pub fn dead_stream(&self) -> String {
        format!("{}:dead", self.stream)
    }

    /// Options for a worker on this queue, with the defaults a learner reads about.
    pub fn options(&self, consumer: &str) -> WorkOptions {
        WorkOptions::new(self.redis.url(), &self.stream, &self.group, consumer)
    }

    /// Adds `count` orders past the candidate, as any other Redis client would.
    pub async fn put(&self, count: usize) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::with_capacity(count);
        for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
            let mut pipe = redis::pipe();
            for n in chunk {
                pipe.cmd("XADD")
                    .arg(&self.stream)
                    .arg("*")
                    .arg(&[("order_id", format!("A-{n}"))])
                    .arg(&[("user_id", "42"), ("amount", "12.50")]);
            }
            let added: Vec<String> = pipe.query_async(&mut self.direct()).await?;
            ids.extend(added);
        }
        let history = self.lab.history();
        for id in &ids {
            history.record("lab", What::Sent, id);
        }
        Ok(ids)
    }

    /// Creates the group at the beginning, as the lab.
    pub async fn create_group(&self, group: &str) -> Result<(), Failure> {
        let _: () = redis::cmd("XGROUP")
            .arg(&["CREATE", &self.stream, group, "0", "MKSTREAM"])
            .query_async(&mut self.direct())
            .await?;
        Ok(())
    }

    /// Delivers up to `count` new entries to `consumer`, as the lab: they are pending from now on,
    /// as if that consumer had read them and died.
    pub async fn deliver_to(
        &self,
        group: &str,
        consumer: &str,
        count: usize,
    ) -> Result<Vec<String>, Failure> {
        let reply: redis::streams::StreamReadReply = redis::cmd("XREADGROUP")
            .arg(&["GROUP", group, consumer, "COUNT"])
            .arg(count)
            .arg(&["STREAMS", &self.stream, ">"])
            .query_async(&mut self.direct())
            .await?;
        let history = self.lab.history();
        let ids: Vec<String> = reply
            .keys
            .into_iter()
            .flat_map(|key| key.ids)
            .map(|entry| entry.id)
            .collect();
        for id in &ids {
            history.record(consumer, What::Delivered { deliveries: 1 }, id);
        }
        Ok(ids)
    }

    /// Sets how long ago, and how often, pending entries were last delivered.
    pub async fn age(
        &self,
        consumer: &str,
        ids: &[String],
        idle: Duration,
        deliveries: u64,
    ) -> Result<(), Failure> {
        for chunk in ids.chunks(500) {
            let _: redis::Value = redis::cmd("XCLAIM")
                .arg(&[&self.stream, &self.group, consumer, "0"])
                .arg(chunk)
                .arg("IDLE")
                .arg(idle.as_millis() as u64)
                .arg("RETRYCOUNT")
                .arg(deliveries)
                .arg("JUSTID")
                .query_async(&mut self.direct())
                .await?;
        }
        Ok(())
    }

    pub async fn acknowledge(&self, group: &str, ids: &[String]) -> Result<u64, Failure> {
        Ok(redis::cmd("XACK")
            .arg(&self.stream)
            .arg(group)
            .arg(ids)
            .query_async(&mut self.direct())
            .await?)
    }

    /// Adds an entry while `consumer`, with a concurrency of one, has a handler at work: it must stay in the stream.
    pub async fn waits_without_a_slot(&self, consumer: &str) -> Outcome {
        let id = self.put(1).await?.remove(0);
        self.lab.within(Duration::from_millis(700)).await;
        let pending = self.pending().await?;
        let taken = pending.iter().find(|entry| entry.id == id);
        lab::ensure!(
            taken.is_none_or(|entry| entry.consumer != consumer),
            "SQ20",
            "`{consumer}` has a concurrency of 1 and a handler at work; entry {id}, added after that, was delivered to it all the same, and now waits inside the worker, where no other worker can have it"
        );
        Ok(())
    }

    /// Every pending entry of the group.
    pub async fn pending(&self) -> Result<Vec<Pending>, Failure> {
        let reply: redis::RedisResult<Vec<(String, String, u64, u64)>> = redis::cmd("XPENDING")
            .arg(&[&self.stream, &self.group, "-", "+", "20000"])
            .query_async(&mut self.direct())
            .await;
        match reply {
            Ok(rows) => Ok(rows
                .into_iter()
                .map(|(id, consumer, _idle, deliveries)| Pending {
                    id,
                    consumer,
                    deliveries,
                })
                .collect()),
            // The candidate has not created the group yet.
            Err(error) if error.code() == Some("NOGROUP") => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    pub async fn pending_ids(&self) -> Result<Vec<String>, Failure> {
        Ok(self
            .pending()
            .await?
            .into_iter()
            .map(|entry| entry.id)
            .collect())
    }

    /// The entries of a stream, oldest first.
    pub async fn entries_of(&self, stream: &str) -> Result<Vec<Stored>, Failure> {
        let rows: Vec<Row> = redis::cmd("XRANGE")
            .arg(&[stream, "-", "+"])
            .query_async(&mut self.direct())
            .await?;
        Ok(rows
            .into_iter()
            .map(|(id, fields)| Stored {
                id,
                fields: fields.into_iter().collect(),
            })
            .collect())
    }

    pub async fn entries(&self) -> Result<Vec<Stored>, Failure> {
        self.entries_of(&self.stream).await
    }

    pub async fn dead(&self) -> Result<Vec<Stored>, Failure> {
        self.entries_of(&self.dead_stream()).await
    }

    /// How many entries the group has not delivered to anybody yet.
    pub async fn undelivered(&self) -> Result<usize, Failure> {
        let groups: redis::streams::StreamInfoGroupsReply = redis::cmd("XINFO")
            .arg(&["GROUPS", &self.stream])
            .query_async(&mut self.direct())
            .await?;
        let last = groups
            .groups
            .into_iter()
            .find(|group| group.name == self.group)
            .map(|group| group.last_delivered_id);
        let from = last.map_or("-".to_owned(), |id| format!("({id}"));
        let rows: Vec<redis::Value> = redis::cmd("XRANGE")
            .arg(&[&self.stream, &from, "+"])
            .query_async(&mut self.direct())
            .await?;
        Ok(rows.len())
    }

    pub async fn length(&self) -> Result<u64, Failure> {
        Ok(redis::cmd("XLEN")
            .arg(&self.stream)
            .query_async(&mut self.direct())
            .await?)
    }

    /// Starts `work` with a handler that always succeeds.
    pub fn worker(&self, options: WorkOptions) -> Worker {
        self.worker_with(options, |_entry| async { Ok(()) })
    }

    /// Starts `work` with a handler that notes each entry in `seen` and succeeds.
    pub fn noting_worker(&self, options: WorkOptions, seen: &Seen) -> Worker {
        let seen = seen.clone();
        self.worker_with(options, move |entry| {
            seen.add(&entry);
            async { Ok(()) }
        })
    }

    /// Starts `work` with a handler that notes each entry in `seen`, waits at the gate and succeeds.
    pub fn waiting_worker(&self, options: WorkOptions, gate: &Gate, seen: &Seen) -> Worker {
        let (gate, seen) = (gate.clone(), seen.clone());
        self.worker_with(options, move |entry| {
            seen.add(&entry);
            let gate = gate.clone();
            async move {
                gate.passed().await;
                Ok(())
            }
        })
    }

    /// Starts `work` in this process; what its handler does goes into the check's history.
    pub fn worker_with<F, Fut>(&self, options: WorkOptions, handler: F) -> Worker
    where
        F: Fn(Entry) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.worker_called(options, Arc::new(move |entry| Box::pin(handler(entry))))
    }

    /// The same for a handler that may panic before it returns a future.
    ///
    /// The candidate's `work` is generic. It is compiled for this one type of handler, and not once
    /// for every check, so that a learner who saved a file waits less.
    pub fn worker_called(&self, options: WorkOptions, handler: Handler) -> Worker {
        let stop = CancellationToken::new();
        let history = self.lab.history();
        let name = options.consumer.clone();
        let recorded = {
            let (history, name) = (history.clone(), name.clone());
            move |entry: Entry| -> Handling {
                let (history, name) = (history.clone(), name.clone());
                let (id, deliveries) = (entry.id.clone(), entry.deliveries);
                history.record(&name, What::Started { deliveries }, &id);
                let handling = handler(entry);
                Box::pin(async move {
                    let outcome = handling.await;
                    let what = if outcome.is_ok() {
                        What::Succeeded
                    } else {
                        What::Failed
                    };
                    history.record(&name, what, &id);
                    outcome
                })
            }
        };
        let task = tokio::spawn(work(options, recorded, stop.clone()));
        Worker {
            name,
            stop,
            history,
            task,
        }
    }

    /// Waits until `condition` holds, and fails at once when one of `workers` has ended meanwhile.
    pub async fn until<F, Fut>(
        &self,
        workers: &mut [&mut Worker],
        what: &str,
        condition: F,
    ) -> Result<(), Failure>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<bool, Failure>> + Send,
    {
        self.wait(workers, what, &|| Box::pin(condition())).await
    }

    /// The same for a condition of any kind; it is compiled once.
    async fn wait<'a>(
        &self,
        workers: &mut [&mut Worker],
        what: &str,
        condition: &(dyn Fn() -> Looking<'a> + Send + Sync),
    ) -> Result<(), Failure> {
        tokio::select! {
            biased;
            outcome = self.lab.eventually(what, || async move { Ok(condition().await?.then_some(())) }) => outcome,
            failure = first_to_end(workers) => Err(failure),
        }
    }

    /// What the wire says about the mistake behind a failure, when it says something.
    pub fn suspect(&self) -> Option<&'static str> {
        let log = self.redis.proxy().log();
        let says = |exchange: &Exchange, word: &str| {
            (1..exchange.command.len()).any(|i| exchange.arg(i).eq_ignore_ascii_case(word))
        };
        if log.iter().any(|e| e.is("XREAD")) {
            Some("SQ04")
        } else if log.iter().any(|e| e.is("XREADGROUP") && says(e, "NOACK")) {
            Some("SQ02")
        } else if log
            .iter()
            .any(|e| e.is("XGROUP") && says(e, "CREATE") && e.arg(4) == "$")
        {
            Some("SQ01")
        } else {
            None
        }
    }
}

/// A running `work`.
pub struct Worker {
    pub name: String,
    stop: CancellationToken,
    history: History,
    task: JoinHandle<Result<Summary, Error>>,
}

impl Worker {
    /// Asks the worker to stop, as SIGTERM does for the service.
    pub fn stop(&self) {
        self.history.note(&self.name, "asked to stop");
        self.stop.cancel();
    }

    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// What `work` returned. Its panic is this check's panic.
    pub async fn ended(&mut self) -> Result<Summary, Error> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(gone) if gone.is_panic() => std::panic::resume_unwind(gone.into_panic()),
            Err(_) => panic!("the lab aborted the worker itself"),
        }
    }

    /// Stops the worker and waits for it.
    pub async fn finish(mut self, lab: &Lab) -> Result<Summary, Failure> {
        self.stop();
        let name = self.name.clone();
        let limit = lab.deadline();
        match tokio::time::timeout(limit, self.ended()).await {
            Ok(Ok(summary)) => Ok(summary),
            Ok(Err(error)) => Err(Failure::observed(format!(
                "`work` of {name} was asked to stop and returned an error: {error}"
            ))),
            Err(_) => Err(Failure::observed(format!(
                "`work` of {name} was asked to stop and had not returned after {limit:?}"
            ))),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when a worker does, which it must not while the check still waits for something.
async fn first_to_end(workers: &mut [&mut Worker]) -> Failure {
    if workers.is_empty() {
        return std::future::pending().await;
    }
    let ended = futures::future::select_all(workers.iter_mut().map(|worker| {
        Box::pin(async move {
            let name = worker.name.clone();
            (name, worker.ended().await)
        })
    }));
    let ((name, result), _, _) = ended.await;
    match result {
        Ok(_) => Failure::observed(format!(
            "`work` of {name} returned by itself, while there was work to do"
        )),
        Err(error) => Failure::observed(format!("`work` of {name} gave up with an error: {error}")),
    }
}

/// A gate that handlers wait at until the check opens it.
#[derive(Clone)]
pub struct Gate(tokio::sync::watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Gate {
        Gate(tokio::sync::watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn passed(&self) {
        let mut opened = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = opened.wait_for(|open| *open).await;
    }
}

/// What handlers saw: each start of a handler, in order.
#[derive(Clone, Default)]
pub struct Seen(Arc<std::sync::Mutex<Vec<(Instant, Entry)>>>);

impl Seen {
    pub fn add(&self, entry: &Entry) {
        self.lock().push((Instant::now(), entry.clone()));
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    pub fn all(&self) -> Vec<Entry> {
        self.lock().iter().map(|(_, entry)| entry.clone()).collect()
    }

    pub fn ids(&self) -> Vec<String> {
        self.lock()
            .iter()
            .map(|(_, entry)| entry.id.clone())
            .collect()
    }

    /// How many different entries were seen.
    pub fn distinct(&self) -> usize {
        let seen = self.lock();
        let ids: HashSet<&str> = seen.iter().map(|(_, entry)| entry.id.as_str()).collect();
        ids.len()
    }

    pub fn has(&self, id: &str) -> bool {
        self.lock().iter().any(|(_, entry)| entry.id == id)
    }

    /// Ids that were seen more than once, with their count.
    pub fn repeated(&self) -> Vec<(String, usize)> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (_, entry) in self.lock().iter() {
            *counts.entry(entry.id.clone()).or_default() += 1;
        }
        counts.retain(|_, count| *count > 1);
        counts.into_iter().collect()
    }

    /// The longest time between two starts in a row.
    pub fn longest_pause(&self) -> Duration {
        let seen = self.lock();
        let pauses = seen.windows(2).map(|pair| pair[1].0 - pair[0].0);
        pauses.max().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Entry)>> {
        self.0
            .lock()
            .expect("no handler panics while it holds this lock")
    }
}

/// At most three of `items`, for a message a person reads.
pub fn some(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        few if few.len() <= 3 => few.join(", "),
        many => format!("{}, … ({} in all)", many[..3].join(", "), many.len()),
    }
}

/// Whether the reply brings at least one entry.
pub fn delivers(exchange: &Exchange) -> bool {
    exchange
        .reply
        .as_ref()
        .is_some_and(|reply| !reply.is_nil() && !reply.is_error())
}

/// The number that Redis answered, 0 when it was none.
pub fn answered(exchange: &Exchange) -> i64 {
    exchange
        .reply
        .as_ref()
        .and_then(|reply| reply.as_int())
        .unwrap_or(0)
}

/// Runs a check whose promise has a time in it with longer and longer visibility timeouts, in ms, until
/// this machine was never held up for long enough to spoil the answer.
pub async fn on_a_fair_clock<F, Fut>(lab: &Lab, timeouts: [u64; 3], check: F) -> Outcome
where
    F: Fn(Duration) -> Fut,
    Fut: Future<Output = Outcome>,
{
    FairClock::stalls_beyond(4).run(lab, timeouts, check).await
}

/// Waits until the fault holds a command of the task; true if the task ended without sending so many.
pub async fn undisturbed<T>(held: &lab::faults::Fault, task: &JoinHandle<T>) -> bool {
    let finished = async {
        while !task.is_finished() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = held.fired() => false,
        () = finished => held.disarm(),
    }
}

/// A call that was never held up, because it sends fewer than `nth` commands, must have worked.
pub async fn sound<T>(nth: usize, task: JoinHandle<Result<T, Error>>) -> Outcome {
    match task.await {
        Ok(result) => result?,
        Err(gone) if gone.is_panic() => std::panic::resume_unwind(gone.into_panic()),
        Err(gone) => return Err(gone.into()),
    };
    lab::ensure!(nth > 1, "the call sent no command to Redis at all");
    Ok(())
}
