//! What nodes and services take.

use std::time::Duration;

use crate::clock::Clock;
use crate::names::Names;

/// How a node works.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The address of Redis.
    pub redis: String,
    /// The address of RabbitMQ, `amqp://USER:PASSWORD@HOST:PORT/VHOST`.
    pub amqp: String,
    /// What everything is called.
    pub names: Names,
    /// What this node is called. No other node that runs at the same time is called the same.
    pub id: String,
    /// How long a leader leads without a sign of life. Five seconds unless told otherwise.
    pub lease: Duration,
    /// How often the others look whether there is a leader, and the leader whether there is work. A quarter
    /// of a second unless told otherwise.
    pub check: Duration,
    /// What is later than this is a misfire. Ten seconds unless told otherwise.
    pub late: Duration,
    /// How many jobs are claimed, and how many runs published, in one step. A hundred unless told
    /// otherwise.
    pub page: usize,
    /// When a failed attempt is made again.
    pub retry: Retry,
    /// After how long a run that nobody has answered is published again. Five minutes unless told
    /// otherwise.
    pub resend: Duration,
    /// The clock by which jobs come due.
    pub clock: Clock,
}

impl NodeOptions {
    /// The usual way, with these brokers.
    pub fn new(
        id: impl Into<String>,
        redis: impl Into<String>,
        amqp: impl Into<String>,
    ) -> NodeOptions {
        NodeOptions {
            redis: redis.into(),
            amqp: amqp.into(),
            names: Names::default(),
            id: id.into(),
            lease: Duration::from_secs(5),
            check: Duration::from_millis(250),
            late: Duration::from_secs(10),
            page: 100,
            retry: Retry::default(),
            resend: Duration::from_secs(300),
            clock: Clock::system(),
        }
    }
}

/// When a failed attempt is made again, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many attempts a job's run has in all, at least 1. Three unless told otherwise. Steps of
    /// workflows say it themselves.
    pub attempts: u32,
    /// The pause after the first attempt; it doubles with each. A second unless told otherwise.
    pub first: Duration,
    /// The longest pause. A minute unless told otherwise.
    pub longest: Duration,
}

impl Retry {
    /// The pause after the attempt with this number, from 1.
    pub fn pause(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.longest)
    }
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 3,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
        }
    }
}

/// How a service works.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// The address of Redis.
    pub redis: String,
    /// The address of RabbitMQ.
    pub amqp: String,
    /// What everything is called.
    pub names: Names,
    /// What the service is called. Several processes may be the same service.
    pub service: String,
    /// How many runs are worked side by side, at least 1: also the prefetch. Four unless told otherwise.
    pub concurrency: u16,
    /// How long it is remembered that a run had its effect: longer than its message may come again. A day
    /// unless told otherwise.
    pub keep: Duration,
}

impl ServiceOptions {
    /// The usual way, with these brokers.
    pub fn new(
        service: impl Into<String>,
        redis: impl Into<String>,
        amqp: impl Into<String>,
    ) -> ServiceOptions {
        ServiceOptions {
            redis: redis.into(),
            amqp: amqp.into(),
            names: Names::default(),
            service: service.into(),
            concurrency: 4,
            keep: Duration::from_secs(24 * 60 * 60),
        }
    }
}
