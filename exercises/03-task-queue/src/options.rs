//! What the submitter and the worker take.

use std::time::Duration;

use crate::names::Names;

/// How tasks are submitted.
#[derive(Debug, Clone)]
pub struct Submit {
    /// The address of RabbitMQ, `amqp://USER:PASSWORD@HOST:PORT/VHOST`.
    pub amqp: String,
    /// The address of Redis.
    pub redis: String,
    /// What everything is called.
    pub names: Names,
    /// How long a submit may take, all in all. Five seconds unless told otherwise.
    pub confirm_timeout: Duration,
    /// How long statuses of ended tasks and idempotency keys are kept. A day unless told otherwise.
    pub keep: Duration,
}

impl Submit {
    /// The usual way, with these brokers.
    pub fn new(amqp: impl Into<String>, redis: impl Into<String>) -> Submit {
        Submit {
            amqp: amqp.into(),
            redis: redis.into(),
            names: Names::default(),
            confirm_timeout: Duration::from_secs(5),
            keep: KEEP,
        }
    }
}

/// How tasks are worked.
#[derive(Debug, Clone)]
pub struct Work {
    /// The address of RabbitMQ, `amqp://USER:PASSWORD@HOST:PORT/VHOST`.
    pub amqp: String,
    /// The address of Redis.
    pub redis: String,
    /// What everything is called.
    pub names: Names,
    /// How many tasks run side by side, at least 1: also the prefetch of each queue. Four unless told
    /// otherwise.
    pub concurrency: u16,
    /// When a failed task is tried again.
    pub retry: Retry,
    /// How long a stop waits for tasks that run. Thirty seconds unless told otherwise.
    pub grace: Duration,
    /// How long statuses of ended tasks are kept. A day unless told otherwise.
    pub keep: Duration,
}

impl Work {
    /// The usual way, with these brokers.
    pub fn new(amqp: impl Into<String>, redis: impl Into<String>) -> Work {
        Work {
            amqp: amqp.into(),
            redis: redis.into(),
            names: Names::default(),
            concurrency: 4,
            retry: Retry::default(),
            grace: Duration::from_secs(30),
            keep: KEEP,
        }
    }
}

const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// When a failed task is tried again, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many attempts there are in all, at least 1. Five unless told otherwise.
    pub attempts: u32,
    /// The delay after the first attempt. A second unless told otherwise.
    pub first: Duration,
    /// The delay doubles with each attempt, up to this. A minute unless told otherwise.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 5,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// The delays among which one is drawn after the attempt with this number, from 1: the doubled delay
    /// times 0.8, 0.9, 1, 1.1 and 1.2, in whole milliseconds and at least one.
    ///
    /// A choice of five spreads the tasks that failed together, and keeps the number of wait queues
    /// small: there is one for each delay.
    pub fn choices(&self, attempt: u32) -> [Duration; 5] {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let delay = self.first.saturating_mul(doubled).min(self.longest);
        [8, 9, 10, 11, 12].map(|tenths| {
            let millis = (delay.as_millis() * tenths / 10).max(1);
            Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Retry;

    #[test]
    fn delays_double_and_are_spread() {
        let retry = Retry {
            attempts: 9,
            first: Duration::from_millis(100),
            longest: Duration::from_millis(1_000),
        };
        assert_eq!(
            retry.choices(2).map(|delay| delay.as_millis()),
            [160, 180, 200, 220, 240]
        );
        assert_eq!(retry.choices(40)[2], retry.longest);
    }
}
