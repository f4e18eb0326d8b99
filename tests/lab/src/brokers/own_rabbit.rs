//! A RabbitMQ that belongs to one check, to be killed, stopped, paused and started again.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::container::{ContainerBroker, NoContainer};
use super::force::Force;
use super::native_amqp::{self, NativeAmqp, Settings};
use super::own::{CHECK_LABEL, note_of_containers};
use super::{Direct, Rabbit, port, sweep};
use crate::faults::amqp::AmqpProxy;
use crate::{Failure, Lab, Outcome};

/// How long a start may take on an idle machine: it takes six seconds where nothing else happens.
const START: Duration = Duration::from_secs(60);

/// How long a quorum queue has to be there before a SIGKILL. RabbitMQ 3.10 notes on disk that there is one
/// only about a second after it was declared; killed before that, the queue comes back without the messages
/// that it had confirmed, which is nobody's mistake but its own.
const NOTED: Duration = Duration::from_secs(3);

/// A RabbitMQ for one check alone. The address that a candidate is given stays the same whatever happens
/// to it, and what is durable survives; everything else is as with [`Rabbit`], to which this
/// dereferences.
pub struct OwnRabbit {
    rabbit: Rabbit,
    broker: Mutex<Broker>,
    /// All proxies in front of it.
    proxies: std::sync::Mutex<Vec<AmqpProxy>>,
    limit: Duration,
    noted: Duration,
}

enum Broker {
    Process(NativeAmqp),
    Container(ContainerBroker),
}

impl OwnRabbit {
    pub(crate) async fn launch(lab: &Lab) -> Result<Self, Failure> {
        let force = Force::from_env().map_err(|attempt| Failure::infrastructure(attempt.why))?;
        let limit = START.mul_f64(lab.patience());
        let mut why = Vec::new();
        let mut broker = None;
        if force.allows_process() {
            match process(lab, limit).await {
                Ok(rabbit) => broker = Some(Broker::Process(rabbit)),
                Err(error) => why.push(format!("as a local process: {error}")),
            }
        }
        if broker.is_none() && force.allows_container() {
            match container(lab, limit).await {
                Ok(rabbit) => broker = Some(Broker::Container(rabbit)),
                Err(error) => why.push(format!("in a container: {error}")),
            }
        }
        let Some(broker) = broker else {
            return Err(Failure::infrastructure(format!(
                "this check needs a RabbitMQ of its own, and none can be had: {}",
                why.join("; ")
            )));
        };
        let url = match &broker {
            Broker::Process(rabbit) => rabbit.url(),
            Broker::Container(rabbit) => rabbit.amqp_url(),
        };
        let rabbit = lab.rabbit_at(&url, None, Direct::default())?;
        Ok(OwnRabbit {
            proxies: std::sync::Mutex::new(vec![rabbit.proxy().clone()]),
            rabbit,
            broker: Mutex::new(broker),
            limit,
            noted: NOTED.mul_f64(lab.patience()),
        })
    }

    /// The same RabbitMQ behind another proxy, for somebody whom other faults strike.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when the proxy cannot be started.
    pub fn again(&self, lab: &Lab) -> Result<Rabbit, Failure> {
        let rabbit = lab.rabbit_at(self.rabbit.upstream(), None, Direct::default())?;
        self.proxies().push(rabbit.proxy().clone());
        Ok(rabbit)
    }

    /// Kills it with SIGKILL, as a crash of the machine would. Until it is [started](Self::start) again,
    /// candidates find their connections closed and new ones refused.
    ///
    /// If a queue was first declared through a proxy less than three seconds ago, it waits for these to
    /// pass: before, RabbitMQ itself may lose what such a queue holds. On a busy machine it takes longer to
    /// write down that there is a queue; for that it waits too, where it can look at the files.
    ///
    /// # Errors
    /// [`Failure::infrastructure`] when that is not possible; so for all that follow.
    pub async fn kill(&self) -> Outcome {
        let last = self
            .proxies()
            .iter()
            .filter_map(AmqpProxy::last_new_queue)
            .min();
        if let Some(ago) = last {
            tokio::time::sleep(self.noted.saturating_sub(ago)).await;
        }
        match &mut *self.broker.lock().await {
            Broker::Process(rabbit) => {
                rabbit.until_written(&self.declared()).await;
                rabbit.kill();
                Ok(())
            }
            Broker::Container(rabbit) => rabbit.kill().await.map_err(|why| cannot("kill", &why)),
        }
    }

    /// Stops it as an operator does: it tells its clients that it goes (320, `CONNECTION_FORCED`), and
    /// closes its files.
    pub async fn stop(&self) -> Outcome {
        let stopped = match &mut *self.broker.lock().await {
            Broker::Process(rabbit) => rabbit.stop().await,
            Broker::Container(rabbit) => rabbit.stop().await,
        };
        stopped.map_err(|why| cannot("stop", &why))
    }

    /// Starts it after [`kill`](Self::kill) or [`stop`](Self::stop), on the same port, and waits until it
    /// answers. Durable queues are there again, with the messages that it had confirmed. One that runs is
    /// left as it is.
    pub async fn start(&self) -> Outcome {
        let started = match &mut *self.broker.lock().await {
            Broker::Process(rabbit) => rabbit.restart().await,
            Broker::Container(rabbit) => match rabbit.start_again().await {
                Ok(()) => rabbit.amqp_ready(self.limit).await,
                Err(why) => Err(why),
            },
        };
        started.map_err(|why| cannot("start", &why))
    }

    /// [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart(&self) -> Outcome {
        self.stop().await?;
        self.start().await
    }

    /// Pauses it: connections stay open, and nothing is answered.
    pub async fn pause(&self) -> Outcome {
        let paused = match &*self.broker.lock().await {
            Broker::Process(rabbit) => rabbit.signal(Signal::SIGSTOP),
            Broker::Container(rabbit) => rabbit.pause().await,
        };
        paused.map_err(|why| cannot("pause", &why))
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub async fn resume(&self) -> Outcome {
        let resumed = match &*self.broker.lock().await {
            Broker::Process(rabbit) => rabbit.signal(Signal::SIGCONT),
            Broker::Container(rabbit) => rabbit.resume().await,
        };
        resumed.map_err(|why| cannot("resume", &why))
    }

    fn declared(&self) -> HashSet<String> {
        let proxies = self.proxies();
        proxies
            .iter()
            .flat_map(AmqpProxy::declared_queues)
            .collect()
    }

    fn proxies(&self) -> MutexGuard<'_, Vec<AmqpProxy>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for OwnRabbit {
    type Target = Rabbit;

    fn deref(&self) -> &Rabbit {
        &self.rabbit
    }
}

fn cannot(what: &str, why: &str) -> Failure {
    Failure::infrastructure(format!(
        "the lab cannot {what} this check's own RabbitMQ: {why}"
    ))
}

async fn process(lab: &Lab, limit: Duration) -> Result<NativeAmqp, String> {
    let program =
        native_amqp::program().ok_or_else(|| "rabbitmq-server is not installed".to_owned())?;
    let directory = lab.leftovers().join(lab.unique("rabbitmq"));
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    // It is in no process group of the check's. The judge, or what is left of the check if the judge is
    // gone, finds it where it is written down.
    let settings = Settings {
        program,
        directory,
        home: lab.leftovers().to_owned(),
        limit,
    };
    NativeAmqp::start(settings).await
}

async fn container(lab: &Lab, limit: Duration) -> Result<ContainerBroker, String> {
    // Tells the judge that there may be a container to remove, should this check be killed.
    std::fs::write(note_of_containers(lab.leftovers()), "")
        .map_err(|error| format!("cannot write into {}: {error}", lab.leftovers().display()))?;
    let mut labels = sweep::labels(lab.leftovers());
    labels.push((CHECK_LABEL.to_owned(), lab.mark().to_owned()));
    let port = port::free().map_err(|error| format!("there is no free port: {error}"))?;
    ContainerBroker::amqp_at(&labels, Some(port), limit)
        .await
        .map_err(|why| match why {
            NoContainer::Engine(why) | NoContainer::Image(why) | NoContainer::Broken(why) => why,
        })
}
