//! What a check is given.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::brokers::{Direct, Endpoints, OwnRabbit, OwnRedis, Rabbit, Redis};
use crate::browser::Browser;
use crate::history::History;
use crate::process::ServiceBuilder;
use crate::stall::StallWatch;
use crate::{Failure, faults::Proxy};

/// How long an idle machine may take for what should happen at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// How many proxies in front of RabbitMQ are kept for the history of a failure.
const WIRES: usize = 4;

/// The workbench of one check. Clones share everything.
#[derive(Clone)]
pub struct Lab {
    inner: Arc<Inner>,
}

struct Inner {
    began: Instant,
    seed: u64,
    /// Part of every name this check makes up; another one in every run.
    mark: String,
    patience: f64,
    service: Option<PathBuf>,
    /// Where the judge looks for what a killed check could not remove itself.
    leftovers: PathBuf,
    brokers: Endpoints,
    promise: Mutex<Option<String>>,
    history: History,
    stalls: StallWatch,
    /// Proxy, stream and group of every queue whose wire belongs into the history of a failure.
    watched: Mutex<Vec<(Proxy, String, String)>>,
    /// The RabbitMQs whose wires do: the last ones.
    rabbits: Mutex<VecDeque<Rabbit>>,
    /// The lab's own connection to the run's RabbitMQ.
    direct: Direct,
}

/// What the judge decided about a check's surroundings.
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) mark: String,
    pub(crate) patience: f64,
    pub(crate) service: Option<PathBuf>,
    pub(crate) leftovers: PathBuf,
    pub(crate) brokers: Endpoints,
}

impl Lab {
    pub(crate) fn new(setting: Setting) -> std::io::Result<Self> {
        let began = Instant::now();
        Ok(Lab {
            inner: Arc::new(Inner {
                began,
                seed: setting.seed,
                mark: setting.mark,
                patience: setting.patience,
                service: setting.service,
                leftovers: setting.leftovers,
                brokers: setting.brokers,
                promise: Mutex::new(None),
                history: History::new(began),
                stalls: StallWatch::start()?,
                watched: Mutex::default(),
                rabbits: Mutex::default(),
                direct: Direct::default(),
            }),
        })
    }

    /// Says what this check holds the candidate to. A failure shows it first; the last call counts.
    pub fn promise(&self, text: impl Into<String>) {
        *self
            .inner
            .promise
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(text.into());
    }

    pub(crate) fn promised(&self) -> Option<String> {
        self.inner
            .promise
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The seed of all that is random in this check. A failure names it, so that it can be had again.
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// A generator of random numbers; every call gives the same sequence for the same seed.
    pub fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.inner.seed)
    }

    /// A name that nobody else uses, such as `orders-5f3c9a1b-2`. What carries such a name in the
    /// broker is removed after the check.
    pub fn unique(&self, name: &str) -> String {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        format!(
            "{name}-{}-{}",
            self.inner.mark,
            COUNT.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// The run's shared Redis, behind a proxy that this call starts: no other check, and no other
    /// call, uses it.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when there is no Redis, or it does not answer.
    pub async fn redis(&self) -> Result<Redis, Failure> {
        let url = self.inner.brokers.redis.as_deref().ok_or_else(|| {
            Failure::infrastructure("this check needs Redis, and the run was started without one")
        })?;
        self.redis_at(url).await
    }

    /// Lets a failure show what the wire has seen of this stream and group, without the check
    /// having to [absorb](History::absorb) it.
    pub fn watch(&self, redis: &Redis, stream: &str, group: &str) {
        let queue = (redis.proxy().clone(), stream.to_owned(), group.to_owned());
        self.inner
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(queue);
    }

    pub(crate) fn absorb_watched(&self) {
        let watched = self
            .inner
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let rabbits = self.inner.rabbits.lock();
        for rabbit in rabbits.unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.inner.history.absorb_amqp(rabbit.proxy());
        }
        // The last queue is the one that a failure is about.
        if let Some((proxy, stream, group)) = watched.last() {
            self.inner.history.absorb(proxy, stream, group);
        }
    }

    /// A Redis at `url`, behind a proxy of its own.
    pub(crate) async fn redis_at(&self, url: &str) -> Result<Redis, Failure> {
        let proxy = Proxy::start(url, self.inner.began).map_err(|error| {
            Failure::infrastructure(format!(
                "the lab cannot start a proxy on this machine: {error}"
            ))
        })?;
        Redis::connect(url, proxy, self.deadline()).await
    }

    /// A Redis for this check alone, which it may kill, start again and pause. What it holds
    /// survives that. It is a local `redis-server` where there is one, because that ends with the
    /// check whatever happens, and a container otherwise; `WORKBOOK_BROKERS` forces either.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when neither can be had.
    pub async fn own_redis(&self) -> Result<OwnRedis, Failure> {
        OwnRedis::launch(self).await
    }

    /// The run's shared RabbitMQ, behind a proxy that this call starts. What a candidate declares
    /// through it is deleted after the check: so every name has to be [unique](Self::unique).
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when the run has none.
    pub fn rabbit(&self) -> Result<Rabbit, Failure> {
        let url = self.inner.brokers.amqp.as_deref().ok_or_else(|| {
            Failure::infrastructure(
                "this check needs RabbitMQ, and the run was started without one",
            )
        })?;
        let note = Some(self.note_of_declared());
        self.rabbit_at(url, note, self.inner.direct.clone())
    }

    /// A RabbitMQ at `url`, behind a proxy of its own. What that sees belongs into the history of a
    /// failure.
    pub(crate) fn rabbit_at(
        &self,
        url: &str,
        note: Option<PathBuf>,
        direct: Direct,
    ) -> Result<Rabbit, Failure> {
        let rabbit = Rabbit::new(url, self.inner.began, note, self.deadline(), direct)?;
        let mut rabbits = self.inner.rabbits.lock();
        let rabbits = rabbits
            .as_mut()
            .map_err(|_| Failure::infrastructure("the lab lost count of its proxies"))?;
        if rabbits.len() == WIRES {
            rabbits.pop_front();
        }
        rabbits.push_back(rabbit.clone());
        Ok(rabbit)
    }

    /// A RabbitMQ for this check alone, which it may kill and start again. It takes some six seconds to
    /// start, so there should be few of such checks, each with a limit of at least 120 seconds. It is a
    /// local `rabbitmq-server` where there is one, and a container otherwise; `WORKBOOK_BROKERS` forces
    /// either.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when neither can be had.
    pub async fn own_rabbit(&self) -> Result<OwnRabbit, Failure> {
        OwnRabbit::launch(self).await
    }

    /// The file that tells the judge what to delete in the run's RabbitMQ.
    fn note_of_declared(&self) -> PathBuf {
        crate::judge::note_of_declared(&self.inner.leftovers)
    }

    /// A browser for this check alone, with an empty profile; see [`browser`](crate::browser). Each
    /// call starts another one, which takes a second or two and some hundred megabytes. A check that
    /// uses one wants a limit of 120 seconds.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when there is none on this machine, with what to do about it.
    pub async fn browser(&self) -> Result<Browser, Failure> {
        let desk = self.inner.brokers.browser.as_deref().ok_or_else(|| {
            Failure::infrastructure(
                "this check needs a browser, and the run was started without one: its exercise.toml has to say `browser = true`, and its suite `.browser()`",
            )
        })?;
        Browser::start(self, desk).await
    }

    /// Prepares the candidate's service with these arguments.
    pub fn service<I, S>(&self, arguments: I) -> ServiceBuilder
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        let arguments = arguments.into_iter().map(Into::into).collect();
        ServiceBuilder::new(self.clone(), self.inner.service.clone(), arguments)
    }

    /// The history of this check: one, however often it is asked for.
    pub fn history(&self) -> History {
        self.inner.history.clone()
    }

    /// The factor by which deadlines are stretched on this machine.
    pub fn patience(&self) -> f64 {
        self.inner.patience
    }

    /// How long to wait, at most, for what should happen at once: ten seconds, stretched by the
    /// [patience](Self::patience) of the run.
    pub fn deadline(&self) -> Duration {
        DEADLINE.mul_f64(self.inner.patience)
    }

    /// Lets `duration` of real time pass, for checks that something does *not* happen. It is never
    /// used to wait for something that does: that is [`eventually`](Self::eventually).
    pub async fn within(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// The longest time this process was not given the processor since the check began, or since
    /// [`forget_stalls`](Self::forget_stalls).
    pub fn stalled(&self) -> Duration {
        self.inner.stalls.longest()
    }

    /// Begins a new measurement for [`stalled`](Self::stalled).
    pub fn forget_stalls(&self) {
        self.inner.stalls.forget();
    }

    /// The moment from which the times in logs and histories count.
    pub fn began(&self) -> Instant {
        self.inner.began
    }

    pub(crate) fn mark(&self) -> &str {
        &self.inner.mark
    }

    pub(crate) fn leftovers(&self) -> &std::path::Path {
        &self.inner.leftovers
    }
}
