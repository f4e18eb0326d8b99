//! The rungs, in order, for each kind of broker.

use std::time::Duration;

use super::container::{AMQP_IMAGE, ContainerBroker, NoContainer, REDIS_IMAGE, RedisSettings};
use super::force::Force;
use super::native_amqp::{self, NativeAmqp};
use super::native_redis::{self, NativeRedis};
use super::sweep::Home;
use super::url::{address_of, masked};
use super::{Attempt, How, Served, Unavailable, health, mend, rabbit};

/// The kinds of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broker {
    Redis,
    Amqp,
}

impl Broker {
    pub(super) fn name(self) -> &'static str {
        match self {
            Broker::Redis => "Redis",
            Broker::Amqp => "RabbitMQ",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Broker::Redis => "REDIS_URL",
            Broker::Amqp => "AMQP_URL",
        }
    }

    /// How long a start may take on an idle machine.
    fn limit(self) -> Duration {
        let limit = match self {
            Broker::Redis => Duration::from_secs(15),
            Broker::Amqp => Duration::from_secs(90),
        };
        limit.mul_f64(crate::patience())
    }

    /// The URL that was given, after it answered; `None` if none was given.
    pub(super) async fn given(self) -> Option<Result<Served, Unavailable>> {
        let url = std::env::var(self.variable())
            .ok()
            .filter(|url| !url.is_empty())?;
        let limit = Duration::from_secs(5).mul_f64(crate::patience());
        let answer = match self {
            Broker::Redis => health::redis_answers(&url, limit).await.map(|_| ()),
            Broker::Amqp => match address_of(&url) {
                Some(_) => rabbit::lets_in(&url, limit).await,
                None => Err("it is not of the form amqp://user:password@host:port/vhost".into()),
            },
        };
        Some(match answer {
            Ok(()) => Ok(Served {
                url,
                how: How::Given,
                warm: false,
            }),
            Err(why) => Err(self.unavailable(vec![Attempt {
                way: format!("{} = {}", self.variable(), masked(&url)),
                why: format!("{why}. A URL that is set is the only one that is tried"),
                mend: Some(format!(
                    "unset {}   (or start what it names)",
                    self.variable()
                )),
            }])),
        })
    }

    /// Goes down the rungs that start something.
    pub(super) async fn start(self, force: Force, home: &Home) -> Result<Running, Unavailable> {
        let mut tried = Vec::new();
        if force.allows_container() {
            match self.start_container(home).await {
                Ok(container) => return Ok(Running::Container(self, container)),
                Err(why) => tried.push(self.no_container(why)),
            }
        }
        if force.allows_process() {
            match self.start_process(home).await {
                Ok(running) => return Ok(running),
                Err(attempt) => tried.push(attempt),
            }
        }
        if force != Force::Nothing {
            tried.push(Attempt {
                way: "the other ways".into(),
                why: "WORKBOOK_BROKERS forbids them".into(),
                mend: Some("unset WORKBOOK_BROKERS".into()),
            });
        }
        Err(self.unavailable(tried))
    }

    async fn start_container(self, home: &Home) -> Result<ContainerBroker, NoContainer> {
        let labels = home.labels();
        match self {
            Broker::Redis => {
                let limit = self.limit();
                let settings = RedisSettings {
                    labels: &labels,
                    port: None,
                    durable: false,
                    limit,
                };
                ContainerBroker::redis(settings).await
            }
            Broker::Amqp => ContainerBroker::amqp(&labels, self.limit()).await,
        }
    }

    async fn start_process(self, home: &Home) -> Result<Running, Attempt> {
        let program = match self {
            Broker::Redis => which::which("redis-server").ok(),
            Broker::Amqp => native_amqp::program(),
        };
        let Some(program) = program else {
            return Err(self.no_process("it is not installed".into()));
        };
        let directory = home.path().join(self.name());
        std::fs::create_dir_all(&directory).map_err(|error| {
            self.no_process(format!("cannot make {}: {error}", directory.display()))
        })?;
        match self {
            Broker::Redis => {
                let redis = NativeRedis::start(native_redis::Settings {
                    program,
                    directory,
                    durable: false,
                    die_with_parent: true,
                    limit: self.limit(),
                });
                let redis = redis.await.map_err(|why| self.no_process(why))?;
                let sign = format!(":{}", redis.port());
                let noted = home.write_down(redis.pid(), false, &sign);
                noted.map_err(|error| {
                    let home = home.path().display();
                    self.no_process(format!("cannot write into {home}: {error}"))
                })?;
                Ok(Running::Redis(redis))
            }
            Broker::Amqp => {
                let amqp = NativeAmqp::start(native_amqp::Settings {
                    program,
                    directory,
                    home: home.path().to_owned(),
                    limit: self.limit(),
                });
                let amqp = amqp.await.map_err(|why| self.no_process(why))?;
                Ok(Running::Amqp(amqp))
            }
        }
    }

    fn no_container(self, why: NoContainer) -> Attempt {
        let (name, tag) = match self {
            Broker::Redis => REDIS_IMAGE,
            Broker::Amqp => AMQP_IMAGE,
        };
        let (why, mend) = match why {
            NoContainer::Engine(why) => (
                format!("no container engine answers: {why}"),
                mend::engine(),
            ),
            NoContainer::Image(why) => (why, mend::image()),
            NoContainer::Broken(why) => {
                (format!("it was started and does not answer: {why}"), None)
            }
        };
        Attempt {
            way: format!("the container image {name}:{tag}"),
            why,
            mend,
        }
    }

    fn no_process(self, why: String) -> Attempt {
        let (program, mend) = match self {
            Broker::Redis => (
                "redis-server",
                mend::install("redis-server", "redis", "redis", "redis"),
            ),
            Broker::Amqp => {
                let package = "rabbitmq-server";
                (
                    "rabbitmq-server",
                    mend::install(package, package, "rabbitmq", "rabbitmq"),
                )
            }
        };
        Attempt {
            way: format!("a local process of {program}"),
            why,
            mend,
        }
    }

    fn unavailable(self, tried: Vec<Attempt>) -> Unavailable {
        Unavailable {
            broker: self.name().into(),
            tried,
        }
    }
}

/// A broker that was started.
pub(super) enum Running {
    Container(Broker, ContainerBroker),
    Redis(NativeRedis),
    Amqp(NativeAmqp),
}

impl Running {
    pub(super) fn served(&self) -> Served {
        let (url, how) = match self {
            Running::Container(Broker::Redis, container) => (container.redis_url(), How::Container),
            Running::Container(Broker::Amqp, container) => (container.amqp_url(), How::Container),
            Running::Redis(redis) => (redis.url(), How::Process),
            Running::Amqp(amqp) => (amqp.url(), How::Process),
        };
        Served {
            url,
            how,
            warm: false,
        }
    }

    /// Ends it, and waits until it is gone.
    pub(super) async fn stop(self) {
        match self {
            Running::Container(_, container) => container.remove().await,
            Running::Redis(redis) => drop(redis),
            Running::Amqp(amqp) => drop(amqp),
        }
    }
}
