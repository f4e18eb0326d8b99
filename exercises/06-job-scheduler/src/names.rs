//! What everything is called in Redis and in RabbitMQ.

use std::fmt;

use crate::error::Error;

/// The names that belong to one scheduler. They all begin with its own, `jobs` unless told otherwise: so
/// several schedulers may share a Redis and a RabbitMQ.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names(String);

impl Names {
    /// The longest name, in bytes: AMQP allows 255 for what is made of it.
    const LONGEST: usize = 100;

    /// The names of the scheduler `name`.
    ///
    /// # Errors
    /// [`Error::BadName`] unless it is 1 to 100 bytes of `A-Z a-z 0-9 . _ -` and does not begin with
    /// `amq.`, which brokers keep for themselves.
    pub fn new(name: &str) -> Result<Names, Error> {
        match is_name(name, Self::LONGEST) && !name.starts_with("amq.") {
            true => Ok(Names(name.to_owned())),
            false => Err(Error::BadName(name.to_owned())),
        }
    }

    // In Redis

    /// The sorted set of what is due when: `P:due`. Members are jobs' names, scores the next time in
    /// milliseconds since 1970. A job that is paused or done is not in it.
    pub fn due(&self) -> String {
        format!("{}:due", self.0)
    }

    /// The hash of a job: `P:job:NAME`. What stands in it is the store's business.
    pub fn job(&self, job: &str) -> String {
        format!("{}:job:{job}", self.0)
    }

    /// The sorted set of all jobs' names, all scores 0, so that they come in the order of their names:
    /// `P:all`.
    pub fn all(&self) -> String {
        format!("{}:all", self.0)
    }

    /// The set of services that have been started at least once: `P:services`.
    pub fn services(&self) -> String {
        format!("{}:services", self.0)
    }

    /// The lease of the leader: `P:leader`. Its value is [`Term`](crate::Term) as text.
    pub fn leader(&self) -> String {
        format!("{}:leader", self.0)
    }

    /// The counter that the tokens come from: `P:token`.
    pub fn token(&self) -> String {
        format!("{}:token", self.0)
    }

    /// The sorted set of runs that have not come to their end: `P:open`. Members are the runs' ids, scores
    /// the time, in milliseconds, from which they are to be published (again).
    pub fn open(&self) -> String {
        format!("{}:open", self.0)
    }

    /// The hash of a run: `P:run:ID`. What stands in it is the store's business.
    pub fn run(&self, id: &str) -> String {
        format!("{}:run:{id}", self.0)
    }

    /// What has become of a job's runs, a stream: `P:history:NAME`.
    pub fn history(&self, job: &str) -> String {
        format!("{}:history:{job}", self.0)
    }

    /// The hash of the highest token that has written for each job: `P:fence`.
    pub fn fence(&self) -> String {
        format!("{}:fence", self.0)
    }

    /// The mark that a run had its effect: `P:done:ID`. Its value is the result, as JSON.
    pub fn done(&self, id: &str) -> String {
        format!("{}:done:{id}", self.0)
    }

    /// The stream of effects, one entry for each run: `P:effects`.
    pub fn effects(&self) -> String {
        format!("{}:effects", self.0)
    }

    /// The hash of a workflow: `P:workflow:NAME`. What stands in it is the store's business.
    pub fn workflow(&self, id: &str) -> String {
        format!("{}:workflow:{id}", self.0)
    }

    // In RabbitMQ

    /// The topic exchange to which runs are published: `P`.
    pub fn exchange(&self) -> String {
        self.0.clone()
    }

    /// The routing key of a service: `service.NAME`.
    pub fn key(&self, service: &str) -> String {
        format!("service.{service}")
    }

    /// The queue of a service: `P.service.NAME`.
    pub fn queue(&self, service: &str) -> String {
        format!("{}.service.{service}", self.0)
    }

    /// The queue of replies: `P.replies`.
    pub fn replies(&self) -> String {
        format!("{}.replies", self.0)
    }
}

/// Whether a text may be the name of a job, a service, a workflow's step or a node.
pub(crate) fn is_name(text: &str, longest: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=longest).contains(&text.len()) && text.bytes().all(fits)
}

impl Default for Names {
    /// The names of the scheduler `jobs`.
    fn default() -> Names {
        Names("jobs".to_owned())
    }
}

impl fmt::Display for Names {
    /// The scheduler's own name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
