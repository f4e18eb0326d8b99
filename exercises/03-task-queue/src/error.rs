//! What can go wrong, and the exit code that says so to whoever started the service.

use std::time::Duration;

use given::amqp::Refusal;
use given::trouble::{Trouble, advice};
use redis::RedisError;

use crate::status::State;

/// Everything that a call of this crate can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text cannot be the name of a task queue.
    #[error(
        "`{0}` is no name of a task queue: 1 to 200 of A-Z, a-z, 0-9, `.`, `_` and `-`, not beginning with `amq.`"
    )]
    BadName(String),
    /// Something is no task.
    #[error("{0}")]
    BadTask(String),
    /// A text cannot be an idempotency key.
    #[error("an idempotency key is 1 to 255 visible ASCII characters")]
    BadKey,
    /// The key belongs to another task: this one has another kind, payload, priority or deadline.
    #[error("the idempotency key was used for another task before")]
    KeyReused,
    /// RabbitMQ cannot be reached, or does not let us in.
    #[error("{0}")]
    Amqp(#[from] Refusal),
    /// A queue or an exchange is there, and was declared differently by somebody else.
    #[error(
        "{what} is there already, and differs from what we need: {why}. Delete it, or take another name with --name"
    )]
    Declared {
        /// Which one, such as "the queue `tasks`".
        what: String,
        /// What RabbitMQ said.
        why: String,
    },
    /// No queue took the message: it was returned.
    #[error("no queue took the task: it was returned ({0})")]
    Unroutable(String),
    /// RabbitMQ would not take the message: it was answered with a nack.
    #[error("RabbitMQ did not take the task: a queue is full, or cannot store it")]
    Refused,
    /// Whether RabbitMQ has stored the message is not known: no confirm came in time.
    #[error("RabbitMQ did not confirm the task within {0:?}")]
    Unconfirmed(Duration),
    /// The connection to RabbitMQ was lost, and there is no other yet.
    #[error("RabbitMQ is away: {0}")]
    Away(String),
    /// Redis could not be reached, or did not let us in.
    #[error("cannot connect to Redis at {url}: {source}. {}", advice(.source))]
    Redis {
        /// Where we tried, with the password masked.
        url: String,
        /// What the client library reported.
        source: RedisError,
    },
    /// A command failed: Redis refused it, or the connection was lost before its reply came.
    #[error("Redis: {0}")]
    Store(#[from] RedisError),
    /// Redis holds something under a task's key that is no status.
    #[error("the status of the task `{id}` cannot be read: {why}")]
    BadStatus {
        /// Which task.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such task.
    #[error("there is no task `{0}`")]
    NotFound(String),
    /// The task has ended and cannot be cancelled any more.
    #[error("the task has {0} already")]
    Ended(State),
    /// Everything is stopping.
    #[error("stopping: no more tasks are taken")]
    Stopping,
}

impl Error {
    /// The exit code of the service for this error, after `sysexits.h`: 2 wrong usage, 65 bad input,
    /// 69 RabbitMQ or Redis unreachable, 76 not what was expected there, 77 not let in.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::BadName(_) => 2,
            Error::Amqp(refusal) => refusal.exit_code(),
            Error::BadTask(_) | Error::BadKey | Error::KeyReused => 65,
            Error::Away(_) | Error::Unconfirmed(_) => 69,
            Error::Declared { .. } | Error::Unroutable(_) | Error::Refused => 76,
            Error::Redis { source, .. } => Trouble::of(source).exit_code(69),
            Error::Store(source) => Trouble::of(source).exit_code(76),
            Error::BadStatus { .. } => 76,
            Error::NotFound(_) | Error::Ended(_) | Error::Stopping => 1,
        }
    }

    /// Whether a connection is what failed, to RabbitMQ or to Redis (lost, refused, timed out, still
    /// starting), so that trying again later may help.
    pub fn is_connection(&self) -> bool {
        self.exit_code() == 69
    }
}
