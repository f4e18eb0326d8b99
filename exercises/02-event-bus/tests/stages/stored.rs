//! A log in Redis of a check's own, the lab's direct view of it, and followers whose calls are
//! written down.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_bus::{BoxError, CancellationToken, Error, Event, Follow, Followed, Stored, follow};
use lab::history::What;
use lab::{Failure, Lab, Outcome, Redis, Service};
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

/// An entry in the reply to `XRANGE`: id, then names and values.
type Row = (String, Vec<(Vec<u8>, Vec<u8>)>);
type Handling = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type Handler = Arc<dyn Fn(Stored) -> Handling + Send + Sync>;

/// A log and a group that no other check uses, behind a proxy that no other check uses.
#[derive(Clone)]
pub struct Journal {
    pub lab: Lab,
    pub redis: Redis,
    pub log: String,
    pub group: String,
}

/// One entry as Redis holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: String,
    pub fields: BTreeMap<String, Vec<u8>>,
    /// How many fields there are; one may be there twice.
    pub count: usize,
}

impl Entry {
    /// A field as text, empty when it is not there.
    pub fn text(&self, field: &str) -> String {
        let value = self.fields.get(field).map(Vec::as_slice);
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    }

    /// The field `data`, read as JSON; null if it is none.
    pub fn data(&self) -> serde_json::Value {
        serde_json::from_str(&self.text("data")).unwrap_or_default()
    }

    /// The number in the data of the lab's own events.
    pub fn n(&self) -> u64 {
        self.data()["n"].as_u64().unwrap_or_default()
    }

    /// The names of its fields, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.fields.keys().map(String::as_str).collect()
    }
}

impl Journal {
    pub async fn new(lab: &Lab) -> Result<Journal, Failure> {
        Ok(Journal::on(lab, lab.redis().await?))
    }

    /// A log on a broker that the caller chose.
    pub fn on(lab: &Lab, redis: Redis) -> Journal {
        let (log, group) = (lab.unique("events"), lab.unique("mail"));
        lab.watch(&redis, &log, &group);
        Journal {
            lab: lab.clone(),
            redis,
            log,
            group,
        }
    }

    /// The same log for another group.
    pub fn for_group(&self, group: &str) -> Journal {
        Journal {
            group: group.to_owned(),
            ..self.clone()
        }
    }

    /// The same log and group through a proxy of their own.
    pub async fn through_another_proxy(&self) -> Result<Journal, Failure> {
        Ok(Journal {
            redis: self.lab.redis().await?,
            ..self.clone()
        })
    }

    /// The lab's own connection, past the proxy.
    pub async fn direct(&self) -> Result<MultiplexedConnection, Failure> {
        self.redis.direct().await
    }

    pub fn dead_stream(&self) -> String {
        format!("{}:dead:{}", self.log, self.group)
    }

    /// Options for a follower, with retries that a check can wait for.
    pub fn options(&self) -> Follow {
        Follow {
            redis: self.redis.url(),
            log: self.log.clone(),
            group: self.group.clone(),
            pattern: "#".into(),
            from: None,
            attempts: 5,
            retry_delay: Duration::from_millis(10),
            batch: 100,
        }
    }

    /// Adds an entry as any other client of Redis would.
    pub async fn add<V: AsRef<[u8]>>(
        &self,
        id: &str,
        fields: &[(&str, V)],
    ) -> Result<String, Failure> {
        let mut command = redis::cmd("XADD");
        command.arg(&self.log).arg(id);
        for (name, value) in fields {
            command.arg(*name).arg(value.as_ref());
        }
        let id: String = command.query_async(&mut self.direct().await?).await?;
        self.lab.history().record("lab", What::Sent, &id);
        Ok(id)
    }

    /// Adds event `n` called `name`, past the candidate.
    pub async fn add_event(&self, name: &str, n: u64) -> Result<String, Failure> {
        self.add_event_at("*", name, n).await
    }

    /// The same with an id that the check chose.
    pub async fn add_event_at(&self, id: &str, name: &str, n: u64) -> Result<String, Failure> {
        let data = format!("{{\"n\":{n}}}");
        self.add(
            id,
            &[
                ("name", name),
                ("data", &data),
                ("at", "2026-03-01T12:00:00.000Z"),
            ],
        )
        .await
    }

    /// Adds the events `from` to `to`, past the candidate.
    pub async fn put(&self, from: u64, to: u64) -> Result<Vec<String>, Failure> {
        let mut pipe = redis::pipe();
        for n in from..=to {
            pipe.cmd("XADD")
                .arg(&[&self.log, "*", "name", "order.placed", "data"])
                .arg(format!("{{\"n\":{n}}}"))
                .arg(&["at", "2026-03-01T12:00:00.000Z"]);
        }
        let ids: Vec<String> = pipe.query_async(&mut self.direct().await?).await?;
        for id in ids.iter().take(50) {
            self.lab.history().record("lab", What::Sent, id);
        }
        Ok(ids)
    }

    /// Creates the group and delivers the first `count` entries to its consumer, as if that had read
    /// them and died.
    pub async fn deliver(&self, count: usize) -> Outcome {
        let mut direct = self.direct().await?;
        let _: redis::Value = redis::cmd("XGROUP")
            .arg(&["CREATE", &self.log, &self.group, "0", "MKSTREAM"])
            .query_async(&mut direct)
            .await?;
        let _: redis::Value = redis::cmd("XREADGROUP")
            .arg(&["GROUP", &self.group, &self.group, "COUNT"])
            .arg(count)
            .arg(&["STREAMS", &self.log, ">"])
            .query_async(&mut direct)
            .await?;
        Ok(())
    }

    /// The entries of a stream, oldest first.
    pub async fn entries_of(&self, stream: &str) -> Result<Vec<Entry>, Failure> {
        entries_of(&self.redis, stream).await
    }

    pub async fn entries(&self) -> Result<Vec<Entry>, Failure> {
        self.entries_of(&self.log).await
    }

    pub async fn dead(&self) -> Result<Vec<Entry>, Failure> {
        self.entries_of(&self.dead_stream()).await
    }

    /// The ids of the group's pending entries.
    pub async fn pending(&self) -> Result<Vec<String>, Failure> {
        let reply: redis::RedisResult<Vec<(String, String, u64, u64)>> = redis::cmd("XPENDING")
            .arg(&[&self.log, &self.group, "-", "+", "20000"])
            .query_async(&mut self.direct().await?)
            .await;
        match reply {
            Ok(rows) => Ok(rows.into_iter().map(|row| row.0).collect()),
            // The candidate has not created the group, or the stream, yet.
            Err(error) if error.code() == Some("NOGROUP") => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The id up to which the group has read; none if there is no such group.
    pub async fn read_up_to(&self) -> Result<Option<String>, Failure> {
        let groups: redis::RedisResult<redis::streams::StreamInfoGroupsReply> = redis::cmd("XINFO")
            .arg(&["GROUPS", &self.log])
            .query_async(&mut self.direct().await?)
            .await;
        let groups = groups.map(|reply| reply.groups).unwrap_or_default();
        let own = groups.into_iter().find(|group| group.name == self.group);
        Ok(own.map(|group| group.last_delivered_id))
    }

    /// How far the group is: up to where it has read, and how much of that is pending.
    pub async fn place(&self) -> Result<(Option<String>, usize), Failure> {
        Ok((self.read_up_to().await?, self.pending().await?.len()))
    }

    /// Whether everything in the log was read by the group and acknowledged.
    pub async fn is_done(&self) -> Result<bool, Failure> {
        let last = self.entries().await?.last().map(|entry| entry.id.clone());
        Ok(self.read_up_to().await? == last && self.pending().await?.is_empty())
    }

    /// Starts `follow` with a handler that notes each event and succeeds.
    pub fn follower(&self, options: Follow) -> Follower {
        self.follower_with(options, |_stored, _times| async { Ok(()) })
    }

    /// Starts `follow`; the handler is also told how often it was called for this event by now.
    pub fn follower_with<F, Fut>(&self, options: Follow, work: F) -> Follower
    where
        F: Fn(Stored, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let seen = Seen::default();
        let (noted, history, who) = (seen.clone(), self.lab.history(), options.group.clone());
        let handler: Handler = Arc::new(move |stored: Stored| {
            let (history, who, id) = (history.clone(), who.clone(), stored.id.clone());
            let times = noted.add(&stored);
            history.record(&who, What::Started { deliveries: 0 }, &id);
            let working = work(stored, times);
            Box::pin(async move {
                let outcome = working.await;
                let what = match &outcome {
                    Ok(()) => What::Succeeded,
                    Err(_) => What::Failed,
                };
                history.record(&who, what, &id);
                outcome
            })
        });
        let stop = CancellationToken::new();
        // The candidate's `follow` is generic: it is compiled for this one type of handler.
        let task = tokio::spawn(follow(options, move |stored| handler(stored), stop.clone()));
        Follower {
            seen,
            stop,
            task,
            _redis: self.redis.clone(),
        }
    }

    /// Starts `event-bus subscribe` to everything.
    pub fn subscriber(&self, more: &[&str]) -> Result<Service, Failure> {
        let url = self.redis.url();
        let mut arguments = vec![
            "subscribe",
            "--redis",
            &url,
            "--log",
            &self.log,
            "--group",
            &self.group,
            "#",
        ];
        arguments.extend(more);
        self.lab.service(arguments).start()
    }

    /// What may be the reason why a follower got nothing.
    pub fn suspect(&self) -> Option<&'static str> {
        let from_the_end = |e: &lab::faults::Exchange| {
            e.is("XREAD") || e.is("SUBSCRIBE") || (e.is("XGROUP CREATE") && e.arg(4) == "$")
        };
        self.redis
            .proxy()
            .with_log(|log| log.iter().any(from_the_end))
            .then_some("EB16")
    }

    /// Waits for something, and fails at once when the follower ends by itself.
    pub async fn until<F, Fut>(&self, what: &str, follower: &Follower, look: F) -> Outcome
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<bool, Failure>>,
    {
        self.lab
            .eventually(what, || async {
                lab::ensure!(
                    !follower.task.is_finished(),
                    "`follow` ended by itself while the check waited for {what}"
                );
                Ok(look().await?.then_some(()))
            })
            .await
            .map_err(|failure| {
                failure.code_if(self.suspect()).also(format!(
                    "handled until then: {:?}",
                    some(&follower.seen.ns())
                ))
            })
    }
}

/// The entries of a stream, oldest first.
pub async fn entries_of(redis: &Redis, stream: &str) -> Result<Vec<Entry>, Failure> {
    let rows: Vec<Row> = redis::cmd("XRANGE")
        .arg(&[stream, "-", "+"])
        .query_async(&mut redis.direct().await?)
        .await?;
    let entries = rows.into_iter().map(|(id, fields)| Entry {
        id,
        count: fields.len(),
        fields: fields
            .into_iter()
            .map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value))
            .collect(),
    });
    Ok(entries.collect())
}

/// Waits as [`Lab::eventually`] does, and several times as long while `progress` shows that somebody
/// gets on: a slow machine is no mistake, and standing still is.
pub async fn while_it_moves<T, P, Moves, Progress, F, Fut>(
    lab: &Lab,
    what: &str,
    progress: Moves,
    mut look: F,
) -> Result<T, Failure>
where
    P: PartialEq,
    Moves: Fn() -> Progress,
    Progress: Future<Output = Result<P, Failure>>,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>, Failure>>,
{
    let mut rounds = 0;
    loop {
        rounds += 1;
        let before = progress().await?;
        match lab.eventually(what, &mut look).await {
            Err(_) if rounds < 4 && progress().await? != before => {}
            ended => return ended,
        }
    }
}

/// Waits until a Redis that was started again has read its data and does what it is asked.
pub async fn until_loaded(lab: &Lab, redis: &Redis) -> Outcome {
    lab.eventually("Redis to have loaded its data", || async {
        let asked: redis::RedisResult<u64> = match redis.direct().await {
            Ok(mut direct) => redis::cmd("DBSIZE").query_async(&mut direct).await,
            Err(_) => return Ok(None),
        };
        Ok(asked.ok().map(|_| ()))
    })
    .await
}

/// A running `follow`.
pub struct Follower {
    pub seen: Seen,
    stop: CancellationToken,
    pub task: JoinHandle<Result<Followed, Error>>,
    /// Its proxy lasts as long as it does.
    _redis: Redis,
}

impl Follower {
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops it and waits for it.
    pub async fn finish(mut self, lab: &Lab) -> Result<Followed, Failure> {
        self.stop();
        let ended =
            crate::hall::timely(lab, "`follow` to return after its stop", &mut self.task).await?;
        ended.map_err(|error| {
            Failure::observed(format!(
                "`follow` was asked to stop and returned an error: {error}"
            ))
        })
    }

    /// Ends it in the middle of whatever it does.
    pub async fn abort(mut self) -> Seen {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.seen.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The calls of a follower's handler, in order.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Stored>>>);

impl Seen {
    /// Notes a call; says how often this event has come by now.
    fn add(&self, stored: &Stored) -> usize {
        let mut seen = self.lock();
        seen.push(stored.clone());
        seen.iter().filter(|other| other.id == stored.id).count()
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    pub fn all(&self) -> Vec<Stored> {
        self.lock().clone()
    }

    /// The numbers of the lab's own events.
    pub fn ns(&self) -> Vec<u64> {
        self.lock()
            .iter()
            .map(|stored| n_of(&stored.event))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stored>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub fn n_of(event: &Event) -> u64 {
    event.data["n"].as_u64().unwrap_or_default()
}

/// At most eight numbers, for a message a person reads.
pub fn some(numbers: &[u64]) -> String {
    let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
    match text.len() {
        0 => "none".to_owned(),
        1..=8 => text.join(", "),
        many => format!("{}, … ({many} in all)", text[..8].join(", ")),
    }
}

/// Holds what the lives of a handler saw, one after the other, to the events 1 to `count`: none is left
/// out, none overtaken. Only the event that was about to be acknowledged when something happened may
/// come again, and that at most `repeats` times in all.
pub fn no_gap(
    lives: &[Vec<u64>],
    count: u64,
    repeats: usize,
    code: impl lab::Code + Copy,
) -> Outcome {
    let (mut done, mut again) = (0, 0);
    for n in lives.iter().flatten() {
        again += usize::from(*n == done);
        lab::ensure!(
            *n == done + 1 || *n == done,
            code,
            "after event {done} came event {n}; what the subscriber was called for, life by life: {lives:?}"
        );
        done = *n;
    }
    lab::ensure!(
        done == count,
        code,
        "the last event that was handled is {done} of {count}; what the subscriber was called for, life by life: {lives:?}"
    );
    lab::ensure!(
        again <= repeats,
        "{again} calls were for an event that had been handled; what the subscriber was called for, life by life: {lives:?}"
    );
    Ok(())
}
