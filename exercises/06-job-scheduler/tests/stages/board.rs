//! A scheduler of a check's own: both brokers behind proxies, names that nobody else uses, and what the
//! checks ask of them again and again.

use std::collections::HashMap;
use std::time::Duration;

use job_scheduler::{
    CancellationToken, Claim, Error, Lease, Misfire, Names, NewJob, NodeOptions, NodeReport, Reply,
    Run, Schedule, Store, Term, Time, run, time,
};
use lab::brokers::Taken;
use lab::{Failure, Lab, Outcome, Rabbit, Redis, Service};
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Longer than any check takes.
pub const LONG: Duration = Duration::from_secs(600);

#[derive(Clone)]
pub struct Board {
    pub lab: Lab,
    pub redis: Redis,
    pub rabbit: Rabbit,
    pub names: Names,
}

impl Board {
    pub async fn new(lab: &Lab) -> Result<Board, Failure> {
        Board::with(lab, lab.redis().await?).await
    }

    /// On this Redis.
    pub async fn with(lab: &Lab, redis: Redis) -> Result<Board, Failure> {
        Ok(Board {
            lab: lab.clone(),
            redis,
            rabbit: lab.rabbit()?,
            names: Names::new(&lab.unique("jobs"))?,
        })
    }

    /// The same scheduler through other proxies: for somebody whom other faults strike.
    pub async fn elsewhere(&self) -> Result<Board, Failure> {
        Ok(Board {
            redis: self.lab.redis().await?,
            rabbit: self.lab.rabbit()?,
            ..self.clone()
        })
    }

    pub async fn direct(&self) -> Result<MultiplexedConnection, Failure> {
        self.redis.direct().await
    }

    /// A store, with the service `mail`.
    pub async fn store(&self) -> Result<Store, Failure> {
        let store = Store::connect(&self.redis.url(), &self.names).await?;
        self.knows("mail").await?;
        Ok(store)
    }

    /// Lets a service be known, as if it had been started.
    pub async fn knows(&self, service: &str) -> Outcome {
        let _: u64 = redis::cmd("SADD")
            .arg(self.names.services())
            .arg(service)
            .query_async(&mut self.direct().await?)
            .await?;
        Ok(())
    }

    pub async fn lease(&self, node: &str, length: Duration) -> Result<Lease, Failure> {
        Ok(Lease::connect(&self.redis.url(), &self.names, node, length).await?)
    }

    /// A term that goes on for as long as the check does, whatever the candidate's lease can do.
    pub async fn term(&self, node: &str, token: u64) -> Result<Term, Failure> {
        let term = Term {
            node: node.to_owned(),
            token,
        };
        let _: () = redis::pipe()
            .atomic()
            .set(self.names.leader(), term.to_string())
            .set(self.names.token(), token)
            .query_async(&mut self.direct().await?)
            .await?;
        Ok(term)
    }

    // What Redis holds

    /// When jobs are due, by name.
    pub async fn due(&self) -> Result<HashMap<String, i64>, Failure> {
        self.scores(&self.names.due()).await
    }

    /// The runs that are open, and when they are to be published.
    pub async fn open(&self) -> Result<HashMap<String, i64>, Failure> {
        self.scores(&self.names.open()).await
    }

    async fn scores(&self, key: &str) -> Result<HashMap<String, i64>, Failure> {
        let rows: Vec<(String, f64)> = redis::cmd("ZRANGE")
            .arg(key)
            .arg(&["0", "-1", "WITHSCORES"])
            .query_async(&mut self.direct().await?)
            .await?;
        Ok(rows
            .into_iter()
            .map(|(name, at)| (name, at as i64))
            .collect())
    }

    /// The effects so far: their fields, in order.
    pub async fn effects(&self) -> Result<Vec<HashMap<String, String>>, Failure> {
        let entries: Vec<(String, HashMap<String, String>)> = redis::cmd("XRANGE")
            .arg(self.names.effects())
            .arg(&["-", "+"])
            .query_async(&mut self.direct().await?)
            .await?;
        Ok(entries.into_iter().map(|(_, fields)| fields).collect())
    }

    // Services

    /// A service that the check plays itself: its queue is there, and nobody takes from it.
    pub async fn plays(&self, service: &str) -> Outcome {
        self.knows(service).await?;
        let channel = self.rabbit.direct().await?;
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let exchange = lapin::options::ExchangeDeclareOptions {
            durable: true,
            ..lapin::options::ExchangeDeclareOptions::default()
        };
        let (queue, key) = (self.names.queue(service), self.names.key(service));
        self.rabbit
            .owns(&[&queue, &self.names.replies()], &[&self.names.exchange()]);
        let mut quorum = FieldTable::default();
        quorum.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        channel
            .exchange_declare(
                self.names.exchange().into(),
                ExchangeKind::Topic,
                exchange,
                FieldTable::default(),
            )
            .await?;
        for name in [&queue, &self.names.replies()] {
            channel
                .queue_declare(name.as_str().into(), durable, quorum.clone())
                .await?;
        }
        channel
            .queue_bind(
                queue.into(),
                self.names.exchange().into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(())
    }

    /// The next run for a service, as soon as there is one.
    pub async fn next_run(&self, service: &str) -> Result<Run, Failure> {
        let taken = self.next_message(service).await?;
        read(&taken)
    }

    pub async fn next_message(&self, service: &str) -> Result<Taken, Failure> {
        let queue = self.names.queue(service);
        self.lab
            .eventually(&format!("a run for the service `{service}`"), || {
                self.rabbit.take(&queue)
            })
            .await
    }

    /// All runs that are in a service's queue now.
    pub async fn drain(&self, service: &str) -> Result<Vec<Run>, Failure> {
        let all = self.rabbit.drain(&self.names.queue(service)).await?;
        all.iter().map(read).collect()
    }

    /// Replies as a service does.
    pub async fn reply(&self, run: &Run, outcome: Result<Value, String>) -> Outcome {
        self.send_reply(&Reply::new(run, outcome).body()).await
    }

    pub async fn send_reply(&self, body: &[u8]) -> Outcome {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let queue = self.names.replies();
        if self.rabbit.publish("", &queue, properties, body).await? {
            return Ok(());
        }
        Err(Failure::observed(format!(
            "there is no queue `{queue}` that takes replies"
        )))
    }

    /// Publishes a run as a node does.
    pub async fn publish(&self, service: &str, run: &Run) -> Outcome {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_correlation_id(run.id().into())
            .with_reply_to(self.names.replies().into());
        self.publish_with(service, properties, &run.body()).await
    }

    pub async fn publish_with(
        &self,
        service: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Outcome {
        let (exchange, key) = (self.names.exchange(), self.names.key(service));
        if self
            .rabbit
            .publish(&exchange, &key, properties, body)
            .await?
        {
            return Ok(());
        }
        Err(Failure::observed(format!(
            "a message to the exchange `{exchange}` with the key `{key}` came into no queue"
        )))
    }

    /// The next reply, as soon as there is one.
    pub async fn next_reply(&self) -> Result<(Reply, Taken), Failure> {
        let queue = self.names.replies();
        let taken = self
            .lab
            .eventually("a reply", || self.rabbit.take(&queue))
            .await?;
        let reply = Reply::read(&taken.message.body)
            .map_err(|error| Failure::observed(format!("what came as a reply is none: {error}")))?;
        Ok((reply, taken))
    }

    // Nodes

    /// Short times.
    pub fn node_options(&self, id: &str) -> NodeOptions {
        NodeOptions {
            names: self.names.clone(),
            lease: Duration::from_secs(3),
            check: Duration::from_millis(50),
            retry: job_scheduler::Retry {
                attempts: 3,
                first: Duration::from_millis(50),
                longest: Duration::from_millis(200),
            },
            ..NodeOptions::new(id, self.redis.url(), self.rabbit.url())
        }
    }

    pub fn node(&self, id: &str) -> Node {
        self.node_with(self.node_options(id))
    }

    pub fn node_with(&self, options: NodeOptions) -> Node {
        let stop = CancellationToken::new();
        Node {
            lab: self.lab.clone(),
            task: Some(tokio::spawn(run(options, stop.clone()))),
            stop,
            _board: self.clone(),
        }
    }

    /// `job-scheduler node` as a process, with more flags.
    pub fn node_process(&self, id: &str, flags: &[&str]) -> Result<Service, Failure> {
        let (redis, amqp) = (self.redis.url(), self.rabbit.url());
        let name = self.names.to_string();
        let mut arguments = vec![
            "node",
            "--redis",
            &redis,
            "--amqp",
            &amqp,
            "--name",
            &name,
            "--id",
            id,
            "--listen",
            "127.0.0.1:0",
        ];
        arguments.extend(flags);
        self.lab.service(arguments).start()
    }

    /// `job-scheduler service` as a process.
    pub fn service_process(&self, service: &str, flags: &[&str]) -> Result<Service, Failure> {
        let (redis, amqp) = (self.redis.url(), self.rabbit.url());
        let name = self.names.to_string();
        let mut arguments = vec![
            "service", service, "--redis", &redis, "--amqp", &amqp, "--name", &name,
        ];
        arguments.extend(flags);
        self.lab.service(arguments).start()
    }

    /// The term that goes on, as Redis has it.
    pub async fn leader(&self) -> Result<Option<Term>, Failure> {
        let value: Option<String> = redis::cmd("GET")
            .arg(self.names.leader())
            .query_async(&mut self.direct().await?)
            .await?;
        match value {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|()| {
                Failure::observed(format!(
                    "the lease `{}` has the value `{text}`, and was to have `NODE TOKEN`",
                    self.names.leader()
                ))
            }),
        }
    }

    /// Waits until somebody leads for whom this holds.
    pub async fn led_by(&self, what: &str, is: impl Fn(&Term) -> bool) -> Result<Term, Failure> {
        self.lab
            .eventually(what, || async {
                Ok(self.leader().await?.filter(|term| is(term)))
            })
            .await
    }

    /// Waits until nothing is open.
    pub async fn all_settled(&self) -> Outcome {
        let settled = self
            .lab
            .eventually("every run to be settled", || async {
                Ok(self.open().await?.is_empty().then_some(()))
            })
            .await;
        match settled {
            Err(failure) => {
                let open: Vec<_> = self.open().await?.into_keys().take(5).collect();
                Err(failure.also(format!("open are still {open:?}")))
            }
            ok => ok,
        }
    }
}

pub fn read(taken: &Taken) -> Result<Run, Failure> {
    Run::read(&taken.message.body).map_err(|error| {
        Failure::observed(format!(
            "a message for a service is no run: {error}; it is {}",
            String::from_utf8_lossy(&taken.message.body)
        ))
    })
}

/// A node that runs in this process.
pub struct Node {
    lab: Lab,
    pub stop: CancellationToken,
    task: Option<JoinHandle<Result<NodeReport, Error>>>,
    // Its proxies end with the board.
    _board: Board,
}

impl Node {
    /// Stops it, and returns what it says.
    pub async fn stop(mut self) -> Result<NodeReport, Failure> {
        self.stop.cancel();
        let Some(task) = self.task.take() else {
            return Err(Failure::infrastructure("it was stopped before"));
        };
        let limit = self.lab.deadline();
        match tokio::time::timeout(limit, task).await {
            Ok(ended) => Ok(ended
                .map_err(|error| Failure::observed(format!("`run` did not return: {error}")))??),
            Err(_) => Err(Failure::observed(format!(
                "`run` had not returned {limit:.0?} after its stop"
            ))),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

// Jobs and times

/// So many milliseconds after a moment that is the same in every run.
pub fn at(millis: i64) -> Time {
    time::from_millis(1_800_000_000_000 + millis)
}

/// A job for the service `mail` that runs once, at `at(millis)`.
pub fn once(name: &str, millis: i64) -> NewJob {
    NewJob::new(name, Schedule::At { at: at(millis) }, "mail")
}

pub fn every(name: &str, millis: u64) -> NewJob {
    NewJob::new(name, of_every(millis), "mail")
}

pub fn of_every(millis: u64) -> Schedule {
    Schedule::Every {
        every: Duration::from_millis(millis),
    }
}

pub fn cron(expression: &str, tz: &str) -> Schedule {
    Schedule::Cron {
        cron: expression.to_owned(),
        tz: tz.to_owned(),
    }
}

/// A job that runs once, so soon after it was added.
pub fn soon(name: &str, millis: u64) -> NewJob {
    let after = Duration::from_millis(millis);
    NewJob {
        misfire: Misfire::Once,
        ..NewJob::new(name, Schedule::After { after }, "mail")
    }
}

pub fn claim(job: &str, at: Time, runs: &[Time], next: Option<Time>) -> Claim {
    Claim {
        job: job.to_owned(),
        at,
        runs: runs.to_vec(),
        next,
    }
}

pub fn a_run(job: &str, millis: i64, token: u64) -> Run {
    Run {
        job: job.to_owned(),
        scheduled_for: at(millis),
        token,
        attempt: 1,
        payload: json!({"for": job}),
        service: "mail".to_owned(),
    }
}
