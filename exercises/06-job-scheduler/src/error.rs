//! What can go wrong, and the exit code that says so to whoever started the service.

use given::amqp::Refusal;
use given::trouble::{Trouble, advice};
use redis::RedisError;

use crate::job::JobState;

/// Everything that a call of this crate can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text cannot be the name of a scheduler.
    #[error(
        "`{0}` is no name of a scheduler: 1 to 100 of A-Z, a-z, 0-9, `.`, `_` and `-`, not beginning with `amq.`"
    )]
    BadName(String),
    /// Something is no job, or no workflow.
    #[error("{place}: {why}")]
    BadJob {
        /// Where, as a JSON pointer into the job or the workflow, such as `/schedule/cron`.
        place: String,
        /// What is wrong there.
        why: String,
    },
    /// A message is not what it should be.
    #[error("a message that is none of ours: {0}")]
    BadMessage(String),
    /// There is a job, or a workflow, of this name already.
    #[error("there is a {0} `{1}` already")]
    Duplicate(&'static str, String),
    /// There is no such job, or no such workflow.
    #[error("there is no {0} `{1}`")]
    NotFound(&'static str, String),
    /// The job is in a state in which this cannot be done.
    #[error("the job `{job}` is {state}")]
    Wrong {
        /// Which job.
        job: String,
        /// How it is.
        state: JobState,
    },
    /// Somebody else leads, or nobody: what a term writes is refused once the term has ended.
    #[error("refused: the term `{0}` has ended")]
    Fenced(String),
    /// No queue took the message: it was returned.
    #[error("no queue took the message for `{0}`: was its service ever started?")]
    Unroutable(String),
    /// RabbitMQ would not let us connect.
    #[error("{0}")]
    Amqp(#[from] Refusal),
    /// The connection to RabbitMQ was lost, or it did not answer in time.
    #[error("RabbitMQ is away: {0}")]
    Away(String),
    /// A queue or an exchange is there, and was declared differently by somebody else.
    #[error(
        "{what} is there already, and differs from what we need: {why}. Delete it, or take another name with --name"
    )]
    Declared {
        /// Which one, such as "the queue `jobs.replies`".
        what: String,
        /// What RabbitMQ said.
        why: String,
    },
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
    /// Redis holds something that is not ours under one of our keys.
    #[error("what Redis holds under `{key}` cannot be read: {why}")]
    BadRecord {
        /// Which key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// [`Error::BadJob`].
    pub fn bad(place: impl Into<String>, why: impl Into<String>) -> Error {
        Error::BadJob {
            place: place.into(),
            why: why.into(),
        }
    }

    /// The exit code of the service for this error, after `sysexits.h`: 2 wrong usage, 65 bad input,
    /// 69 RabbitMQ or Redis unreachable, 76 not what was expected there, 77 not let in.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::BadName(_) => 2,
            Error::BadJob { .. } | Error::BadMessage(_) | Error::Duplicate(..) => 65,
            Error::Away(_) => 69,
            Error::Declared { .. } | Error::Unroutable(_) | Error::BadRecord { .. } => 76,
            Error::Amqp(refusal) => refusal.exit_code(),
            Error::Redis { source, .. } => Trouble::of(source).exit_code(69),
            Error::Store(source) => Trouble::of(source).exit_code(76),
            Error::NotFound(..) | Error::Wrong { .. } | Error::Fenced(_) => 1,
        }
    }

    /// Whether a connection is what failed, to RabbitMQ or to Redis, so that trying again later may help.
    pub fn is_connection(&self) -> bool {
        self.exit_code() == 69
    }
}
