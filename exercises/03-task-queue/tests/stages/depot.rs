//! A task queue of a check's own: both brokers behind proxies, names that nobody else uses, and what the
//! checks ask of them again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lab::brokers::Taken;
use lab::{Failure, Lab, Outcome, Rabbit, Redis, Service};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use task_queue::{
    CancellationToken, Context, Error, Handlers, Names, NewTask, Outcome as Done, Retry, State,
    Status, Store, Submit, Submitter, Work, Worked, work,
};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How long statuses are kept: longer than a check takes.
const KEEP: Duration = Duration::from_secs(600);

#[derive(Clone)]
pub struct Depot {
    pub lab: Lab,
    pub redis: Redis,
    pub rabbit: Rabbit,
    pub names: Names,
}

impl Depot {
    pub async fn new(lab: &Lab) -> Result<Depot, Failure> {
        Depot::with(lab, lab.rabbit()?).await
    }

    /// On this RabbitMQ.
    pub async fn with(lab: &Lab, rabbit: Rabbit) -> Result<Depot, Failure> {
        Ok(Depot {
            lab: lab.clone(),
            redis: lab.redis().await?,
            rabbit,
            names: Names::new(&lab.unique("tasks"))?,
        })
    }

    /// The same task queue through other proxies: for somebody whom other faults strike.
    pub async fn elsewhere(&self) -> Result<Depot, Failure> {
        Ok(Depot {
            redis: self.lab.redis().await?,
            rabbit: self.lab.rabbit()?,
            ..self.clone()
        })
    }

    pub fn submit_options(&self) -> Submit {
        Submit {
            names: self.names.clone(),
            keep: KEEP,
            ..Submit::new(self.rabbit.url(), self.redis.url())
        }
    }

    pub async fn submitter(&self) -> Result<Submitter, Failure> {
        Ok(Submitter::start(self.submit_options()).await?)
    }

    pub async fn store(&self) -> Result<Store, Failure> {
        Ok(Store::connect(&self.redis.url(), &self.names, KEEP).await?)
    }

    /// Two places, three attempts, short delays.
    pub fn work_options(&self) -> Work {
        Work {
            names: self.names.clone(),
            keep: KEEP,
            concurrency: 2,
            retry: Retry {
                attempts: 3,
                first: Duration::from_millis(20),
                longest: Duration::from_millis(200),
            },
            ..Work::new(self.rabbit.url(), self.redis.url())
        }
    }

    pub fn work(&self, handlers: Handlers) -> Working {
        self.work_with(self.work_options(), handlers)
    }

    pub fn work_with(&self, options: Work, handlers: Handlers) -> Working {
        let stop = CancellationToken::new();
        Working {
            lab: self.lab.clone(),
            task: Some(tokio::spawn(work(options, handlers, stop.clone()))),
            stop,
            _depot: self.clone(),
        }
    }

    /// `task-queue worker` as a process, with more flags.
    pub fn worker(&self, flags: &[&str]) -> Result<Service, Failure> {
        self.worker_at(&self.rabbit.url(), flags)
    }

    pub fn worker_at(&self, amqp: &str, flags: &[&str]) -> Result<Service, Failure> {
        let (redis, name) = (self.redis.url(), self.names.to_string());
        let mut arguments = vec!["worker", "--amqp", amqp, "--redis", &redis, "--name", &name];
        arguments.extend(flags);
        self.lab.service(arguments).start()
    }

    // Messages

    /// Publishes a message as another program would.
    pub async fn publish(&self, body: &Value) -> Outcome {
        self.publish_bytes(body.to_string().as_bytes()).await
    }

    pub async fn publish_bytes(&self, body: &[u8]) -> Outcome {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let exchange = self.names.exchange();
        if self
            .rabbit
            .publish(&exchange, "any.kind", properties, body)
            .await?
        {
            return Ok(());
        }
        Err(Failure::observed(format!(
            "a message to the exchange `{exchange}` with the routing key `any.kind` came into no queue: the queue `{}` is to be bound with `#`",
            self.names.queue()
        )))
    }

    /// A message as a submitter writes it.
    pub async fn publish_task(&self, id: &str, kind: &str, payload: Value) -> Outcome {
        self.publish(&json!({"id": id, "kind": kind, "payload": payload}))
            .await
    }

    pub async fn ready(&self, queue: &str) -> Result<u32, Failure> {
        self.rabbit.ready(queue).await
    }

    /// Waits until so many messages are ready in a queue.
    pub async fn until_ready(&self, queue: &str, count: u32) -> Outcome {
        let what = format!("{count} message(s) to be ready in the queue `{queue}`");
        let seen = self
            .lab
            .eventually(&what, || async {
                Ok((self.ready(queue).await? == count).then_some(()))
            })
            .await;
        match seen {
            Err(failure) => Err(failure.also(format!("there are {}", self.ready(queue).await?))),
            ok => ok,
        }
    }

    /// Waits for a dead letter and takes it.
    pub async fn dead_letter(&self) -> Result<Taken, Failure> {
        let queue = self.names.dead_queue();
        self.lab
            .eventually("a dead letter", || self.rabbit.take(&queue))
            .await
    }

    // Statuses

    pub async fn status(&self, id: &str) -> Result<Option<Status>, Failure> {
        let fields: std::collections::HashMap<String, String> = redis::cmd("HGETALL")
            .arg(self.names.task_key(id))
            .query_async(&mut self.redis.direct().await?)
            .await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let bad = |name: &str| {
            Failure::observed(format!(
                "the hash `{}` in Redis has the field `{name}` = `{}`, which is none",
                self.names.task_key(id),
                field(name)
            ))
        };
        Ok(Some(Status {
            id: id.to_owned(),
            kind: field("kind").to_owned(),
            state: field("state").parse().map_err(|_| bad("state"))?,
            attempts: field("attempts").parse().map_err(|_| bad("attempts"))?,
            progress: field("progress").parse().map_err(|_| bad("progress"))?,
            result: fields
                .get("result")
                .map(|json| serde_json::from_str(json))
                .transpose()
                .map_err(|_| bad("result"))?,
            error: fields.get("error").cloned(),
        }))
    }

    /// Waits until a task has this state.
    pub async fn until(&self, id: &str, state: State) -> Result<Status, Failure> {
        let what = format!("the task {id} to be {state}");
        let look = || async {
            let status = self.status(id).await?;
            Ok(status.filter(|status| status.state == state))
        };
        match self.lab.eventually(&what, look).await {
            Err(failure) => Err(failure.also(match self.status(id).await? {
                Some(status) => describe(&status),
                None => "Redis knows of no such task".to_owned(),
            })),
            ok => ok,
        }
    }

    /// What the stream of ended tasks holds: ids and states, in order.
    pub async fn done(&self) -> Result<Vec<(String, String)>, Failure> {
        let entries: Vec<(String, std::collections::HashMap<String, String>)> =
            redis::cmd("XRANGE")
                .arg(self.names.done_key())
                .arg("-")
                .arg("+")
                .query_async(&mut self.redis.direct().await?)
                .await?;
        let field = |fields: &std::collections::HashMap<String, String>, name: &str| {
            fields.get(name).cloned().unwrap_or_default()
        };
        Ok(entries
            .iter()
            .map(|(_, fields)| (field(fields, "id"), field(fields, "state")))
            .collect())
    }

    /// Waits until so many tasks have ended.
    pub async fn until_done(&self, count: usize) -> Result<Vec<(String, String)>, Failure> {
        let what = format!("{count} task(s) to end");
        let look = || async {
            let done = self.done().await?;
            Ok((done.len() >= count).then_some(done))
        };
        match self.lab.eventually(&what, look).await {
            Err(failure) => Err(failure.also(format!("{} did", self.done().await?.len()))),
            ok => ok,
        }
    }

    /// Each of these has ended once, in this state; and nothing else has.
    pub async fn ended_once(&self, ids: &[String], state: State) -> Outcome {
        let done = self.done().await?;
        for id in ids {
            let of_it: Vec<_> = done.iter().filter(|(other, _)| other == id).collect();
            match of_it.as_slice() {
                [(_, ended)] if ended == state.as_str() => {}
                [] => {
                    return Err(Failure::observed(format!(
                        "the task {id} has no entry in the stream `{}`: it has not ended",
                        self.names.done_key()
                    )));
                }
                [(_, ended)] => {
                    return Err(Failure::observed(format!(
                        "the task {id} ended as `{ended}`, and was to end as `{state}`"
                    )));
                }
                many => {
                    let states: Vec<_> = many.iter().map(|(_, state)| state.as_str()).collect();
                    return Err(Failure::observed(format!(
                        "the task {id} ended {} times ({}): its effect took place again",
                        many.len(),
                        states.join(", ")
                    ))
                    .code("TQ10"));
                }
            }
        }
        Ok(())
    }
}

/// A status in words.
pub fn describe(status: &Status) -> String {
    let error = status.error.as_deref().unwrap_or("none");
    format!(
        "it is {} after {} attempt(s), progress {}, error: {error}",
        status.state, status.attempts, status.progress
    )
}

/// A header of a message, as a number.
pub fn number(value: Option<&AMQPValue>) -> Option<i64> {
    Some(match value? {
        AMQPValue::ShortShortInt(number) => i64::from(*number),
        AMQPValue::ShortShortUInt(number) => i64::from(*number),
        AMQPValue::ShortInt(number) => i64::from(*number),
        AMQPValue::ShortUInt(number) => i64::from(*number),
        AMQPValue::LongInt(number) => i64::from(*number),
        AMQPValue::LongUInt(number) => i64::from(*number),
        AMQPValue::LongLongInt(number) => *number,
        _ => return None,
    })
}

/// A header of a message, as a text.
pub fn text(value: Option<&AMQPValue>) -> Option<String> {
    match value? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// The arguments of a queue.
pub fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

pub fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A worker that runs in this process.
pub struct Working {
    lab: Lab,
    stop: CancellationToken,
    task: Option<JoinHandle<Result<Worked, Error>>>,
    // Its proxies end with the depot.
    _depot: Depot,
}

impl Working {
    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// Stops it, and returns what it says.
    pub async fn stop(mut self) -> Result<Worked, Failure> {
        self.stop.cancel();
        let Some(task) = self.task.take() else {
            return Err(Failure::infrastructure("it was stopped before"));
        };
        let limit = self.lab.deadline();
        match tokio::time::timeout(limit, task).await {
            Ok(ended) => Ok(ended
                .map_err(|error| Failure::observed(format!("`work` did not return: {error}")))??),
            Err(_) => Err(Failure::observed(format!(
                "`work` had not returned {limit:.0?} after its stop"
            ))),
        }
    }

    /// Fails if `work` has returned although nobody asked it to.
    pub async fn expect_running(&mut self) -> Outcome {
        let Some(task) = &mut self.task else {
            return Ok(());
        };
        if !task.is_finished() {
            return Ok(());
        }
        let ended = task.await;
        self.task = None;
        Err(Failure::observed(match ended {
            Ok(Ok(worked)) => format!("`work` returned without a stop: {worked:?}"),
            Ok(Err(error)) => format!("`work` gave up: {error}"),
            Err(error) => format!("`work` ended: {error}"),
        }))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Handlers that count, wait at a gate, and remember.
#[derive(Clone)]
pub struct Floor {
    inner: Arc<Inner>,
}

struct Inner {
    began: std::sync::Mutex<Vec<(String, u32)>>,
    running: AtomicUsize,
    most: AtomicUsize,
    gate: Semaphore,
}

impl Floor {
    pub fn new() -> Floor {
        Floor {
            inner: Arc::new(Inner {
                began: std::sync::Mutex::default(),
                running: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
                gate: Semaphore::new(0),
            }),
        }
    }

    /// `quick` succeeds at once, `gated` when the gate opens, `flaky` in attempt `{"in": N}`, `fail`
    /// never, `wrong` never and for good, `panic` panics.
    pub fn handlers(&self) -> Handlers {
        let quick = self.handler(|context: Context| async move { Ok(json!({"of": context.id()})) });
        let floor = self.clone();
        let gated = self.handler(move |_: Context| {
            let floor = floor.clone();
            async move {
                if let Ok(permit) = floor.inner.gate.acquire().await {
                    permit.forget();
                }
                Ok(json!("through"))
            }
        });
        let flaky = self.handler(|context: Context| async move {
            let good = context.payload()["in"].as_u64().unwrap_or(2);
            if u64::from(context.attempt()) < good {
                let why = format!("attempt {} was to fail", context.attempt());
                return Err(task_queue::Failure::Retry(why));
            }
            Ok(json!({"attempt": context.attempt()}))
        });
        let fail = self.handler(|_: Context| async move {
            Err(task_queue::Failure::Retry("no luck today".to_owned()))
        });
        let wrong = self.handler(|_: Context| async move {
            Err(task_queue::Failure::Permanent("never will".to_owned()))
        });
        let panics = self.handler(|_: Context| async move { panic!("the handler's own panic") });
        Handlers::new()
            .on("quick", quick)
            .on("gated", gated)
            .on("flaky", flaky)
            .on("fail", fail)
            .on("wrong", wrong)
            .on("panic", panics)
    }

    /// A handler whose calls are seen.
    pub fn handler<F, R>(
        &self,
        handler: F,
    ) -> impl Fn(Context) -> futures::future::BoxFuture<'static, Done> + Send + Sync + 'static
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Done> + Send + 'static,
    {
        let floor = self.clone();
        move |context: Context| {
            let seen = floor.enter(&context);
            let call = handler(context);
            Box::pin(async move {
                let _seen = seen;
                call.await
            })
        }
    }

    fn enter(&self, context: &Context) -> Seen {
        let inner = &self.inner;
        let call = (context.id().to_owned(), context.attempt());
        inner.began.lock().expect("the list").push(call);
        let running = inner.running.fetch_add(1, Ordering::SeqCst) + 1;
        inner.most.fetch_max(running, Ordering::SeqCst);
        Seen(self.clone())
    }

    /// Lets so many through the gate.
    pub fn open(&self, places: usize) {
        self.inner.gate.add_permits(places);
    }

    /// Takes back what nobody has used.
    pub fn close(&self) {
        self.inner.gate.forget_permits(usize::MAX >> 4);
    }

    /// The calls so far, in order: ids and attempts.
    pub fn began(&self) -> Vec<(String, u32)> {
        self.inner.began.lock().expect("the list").clone()
    }

    /// The attempts at one task, in order.
    pub fn attempts(&self, id: &str) -> Vec<u32> {
        let began = self.began();
        let of_it = began.iter().filter(|(other, _)| other == id);
        of_it.map(|(_, attempt)| *attempt).collect()
    }

    pub fn running(&self) -> usize {
        self.inner.running.load(Ordering::SeqCst)
    }

    /// The most that ran at one time.
    pub fn most(&self) -> usize {
        self.inner.most.load(Ordering::SeqCst)
    }

    /// Waits until so many run.
    pub async fn until_running(&self, lab: &Lab, count: usize) -> Outcome {
        let what = format!("{count} handler(s) to run");
        let seen = lab
            .eventually(&what, || async {
                Ok((self.running() >= count).then_some(()))
            })
            .await;
        seen.map_err(|failure| failure.also(format!("{} did", self.running())))
    }
}

struct Seen(Floor);

impl Drop for Seen {
    fn drop(&mut self) {
        self.0.inner.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A task for the floor.
pub fn task(kind: &str) -> NewTask {
    NewTask::new(kind, json!({}))
}

/// Whether a fault has struck, or is about to: what it cuts ends a moment before it says so.
pub async fn has_struck(fault: &lab::faults::Fault) -> bool {
    tokio::time::timeout(Duration::from_secs(2), fault.fired())
        .await
        .is_ok()
}
