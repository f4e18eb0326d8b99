//! What everything is called in RabbitMQ and in Redis.

use std::fmt;
use std::time::Duration;

use crate::error::Error;

/// The names that belong to one task queue. They all begin with its own, `tasks` unless told otherwise:
/// so several task queues may share a RabbitMQ and a Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names(String);

impl Names {
    /// The longest name, in bytes: AMQP allows 255 for what is made of it.
    const LONGEST: usize = 200;

    /// The names of the task queue `name`.
    ///
    /// # Errors
    /// [`Error::BadName`] unless it is 1 to 200 bytes of `A-Z a-z 0-9 . _ -` and does not begin with
    /// `amq.`, which brokers keep for themselves.
    pub fn new(name: &str) -> Result<Names, Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_one = (1..=Self::LONGEST).contains(&name.len()) && name.bytes().all(fits);
        if is_one && !name.starts_with("amq.") {
            Ok(Names(name.to_owned()))
        } else {
            Err(Error::BadName(name.to_owned()))
        }
    }

    /// The exchange to which tasks are published: `NAME`. A topic exchange; the routing key is the kind.
    pub fn exchange(&self) -> String {
        self.0.clone()
    }

    /// The exchange for tasks that are to overtake others: `NAME.high`.
    pub fn high_exchange(&self) -> String {
        format!("{}.high", self.0)
    }

    /// The exchange to which dead letters are published: `NAME.dead`. A fanout exchange.
    pub fn dead_exchange(&self) -> String {
        format!("{}.dead", self.0)
    }

    /// The queue from which workers take: `NAME`.
    pub fn queue(&self) -> String {
        self.0.clone()
    }

    /// The queue from which workers take first: `NAME.high`.
    pub fn high_queue(&self) -> String {
        format!("{}.high", self.0)
    }

    /// The queue that keeps dead letters: `NAME.dead`.
    pub fn dead_queue(&self) -> String {
        format!("{}.dead", self.0)
    }

    /// The queue in which a task waits so long before it is tried again: `NAME.retry.1500` for one and
    /// a half seconds. Whole milliseconds; what is less is left out.
    pub fn wait_queue(&self, delay: Duration) -> String {
        format!("{}.retry.{}", self.0, delay.as_millis())
    }

    /// The hash in Redis that holds the status of a task: `NAME:task:ID`.
    pub fn task_key(&self, id: &str) -> String {
        format!("{}:task:{id}", self.0)
    }

    /// What Redis knows of an idempotency key: `NAME:key:KEY`.
    pub fn key_key(&self, key: &str) -> String {
        format!("{}:key:{key}", self.0)
    }

    /// The stream in Redis with one entry for each task that has come to its end: `NAME:done`.
    pub fn done_key(&self) -> String {
        format!("{}:done", self.0)
    }
}

impl Default for Names {
    /// The names of the task queue `tasks`.
    fn default() -> Names {
        Names("tasks".to_owned())
    }
}

impl fmt::Display for Names {
    /// The task queue's own name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
