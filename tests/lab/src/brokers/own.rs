//! A Redis that belongs to one check, to be killed and paused.

use std::ops::Deref;
use std::path::Path;

use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::container::{ContainerBroker, NoContainer, RedisSettings};
use super::force::Force;
use super::native_redis::{NativeRedis, Settings};
use super::{Redis, port, sweep};
use crate::{Failure, Lab, Outcome};

/// The label of a check's own containers; its value is the check's mark.
pub(crate) const CHECK_LABEL: &str = "org.workbook.check";

/// A Redis for one check alone, with its data on disk after every command. The address that a
/// candidate is given stays the same whatever happens to it; everything else is as with
/// [`Redis`], to which this dereferences.
pub struct OwnRedis {
    redis: Redis,
    broker: Mutex<Broker>,
    limit: std::time::Duration,
}

enum Broker {
    Process(NativeRedis),
    Container(ContainerBroker),
}

impl OwnRedis {
    pub(crate) async fn launch(lab: &Lab) -> Result<Self, Failure> {
        let force = Force::from_env().map_err(|attempt| Failure::infrastructure(attempt.why))?;
        let mut why = Vec::new();
        let mut broker = None;
        if force.allows_process() {
            match process(lab).await {
                Ok(redis) => broker = Some(Broker::Process(redis)),
                Err(error) => why.push(format!("as a local process: {error}")),
            }
        }
        if broker.is_none() && force.allows_container() {
            match container(lab).await {
                Ok(redis) => broker = Some(Broker::Container(redis)),
                Err(error) => why.push(format!("in a container: {error}")),
            }
        }
        let Some(broker) = broker else {
            return Err(Failure::infrastructure(format!(
                "this check needs a Redis of its own, and none can be had: {}",
                why.join("; ")
            )));
        };
        let url = match &broker {
            Broker::Process(redis) => redis.url(),
            Broker::Container(redis) => redis.redis_url(),
        };
        let redis = lab.redis_at(&url).await?;
        Ok(OwnRedis {
            redis,
            broker: Mutex::new(broker),
            limit: lab.deadline(),
        })
    }

    /// Kills it with SIGKILL, as a crash of the machine would.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when that is not possible; so for all that follow.
    pub async fn kill(&self) -> Outcome {
        match &mut *self.broker.lock().await {
            Broker::Process(redis) => {
                redis.kill();
                Ok(())
            }
            Broker::Container(redis) => redis.kill().await.map_err(|why| cannot("kill", &why)),
        }
    }

    /// Starts it again after [`kill`](Self::kill), and waits until it answers. What it had
    /// acknowledged is there again.
    pub async fn start(&self) -> Outcome {
        let started = match &mut *self.broker.lock().await {
            Broker::Process(redis) => redis.restart().await,
            Broker::Container(redis) => match redis.start_again().await {
                Ok(()) => redis.redis_ready(self.limit).await,
                Err(why) => Err(why),
            },
        };
        started.map_err(|why| cannot("start", &why))
    }

    /// Pauses it: connections stay open, and nothing is answered.
    pub async fn pause(&self) -> Outcome {
        let paused = match &*self.broker.lock().await {
            Broker::Process(redis) => redis.signal(Signal::SIGSTOP),
            Broker::Container(redis) => redis.pause().await,
        };
        paused.map_err(|why| cannot("pause", &why))
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub async fn resume(&self) -> Outcome {
        let resumed = match &*self.broker.lock().await {
            Broker::Process(redis) => redis.signal(Signal::SIGCONT),
            Broker::Container(redis) => redis.resume().await,
        };
        resumed.map_err(|why| cannot("resume", &why))
    }
}

impl Deref for OwnRedis {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.redis
    }
}

fn cannot(what: &str, why: &str) -> Failure {
    Failure::infrastructure(format!(
        "the lab cannot {what} this check's own Redis: {why}"
    ))
}

async fn process(lab: &Lab) -> Result<NativeRedis, String> {
    let program =
        which::which("redis-server").map_err(|_| "redis-server is not installed".to_owned())?;
    let directory = lab.leftovers().join(lab.unique("redis"));
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    // It is in the check's process group: the judge ends it whatever happens to the check.
    let limit = lab.deadline();
    NativeRedis::start(Settings {
        program,
        directory,
        durable: true,
        die_with_parent: false,
        limit,
    })
    .await
}

async fn container(lab: &Lab) -> Result<ContainerBroker, String> {
    // Tells the judge that there may be a container to remove, should this check be killed.
    std::fs::write(note_of_containers(lab.leftovers()), "")
        .map_err(|error| format!("cannot write into {}: {error}", lab.leftovers().display()))?;
    // The judge finds it by its mark; should the judge be killed, a sweep finds it by its directory.
    let mut labels = sweep::labels(lab.leftovers());
    labels.push((CHECK_LABEL.to_owned(), lab.mark().to_owned()));
    let port = port::free().map_err(|error| format!("there is no free port: {error}"))?;
    let settings = RedisSettings {
        labels: &labels,
        port: Some(port),
        durable: true,
        limit: lab.deadline(),
    };
    ContainerBroker::redis(settings)
        .await
        .map_err(|why| match why {
            NoContainer::Engine(why) | NoContainer::Image(why) | NoContainer::Broken(why) => why,
        })
}

/// The file by which a check tells its judge that it has started containers.
pub(crate) fn note_of_containers(leftovers: &Path) -> std::path::PathBuf {
    leftovers.join("containers")
}
