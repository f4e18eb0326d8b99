//! What is known of each task, in Redis. Workers and submitters on many machines write it, and some of
//! them are late: so every change is one script that compares first.

use std::time::Duration;

use crate::error::Error;
use crate::names::Names;
use crate::status::Status;

// solution only
use std::sync::Arc;
use std::time::SystemTime;

use redis::{FromRedisValue, ScriptInvocation};
use serde_json::Value;

use crate::connection::Link;
use crate::status::State;
use crate::task::{NewTask, Task, in_millis};

#[path = "store/read.rs"]
mod read;
#[path = "store/scripts.rs"]
mod scripts;
// end solution only

/// The statuses of the tasks. Cheap to clone; after a lost connection the next call connects again.
///
/// A status is the hash `NAME:task:ID` with the fields `kind`, `state`, `attempts`, `progress` and,
/// where there is one, `result` (JSON) and `error`. It never goes backwards: what has ended does not
/// change any more, and `attempts` does not fall. In the step in which a task ends one entry with the
/// fields `id` and `state` is added to the stream `NAME:done`, which keeps about the last 100,000.
#[derive(Debug, Clone)]
pub struct Store {
    // solution only
    link: Arc<Link>,
    names: Names,
    keep: Duration,
    // end solution only
}

impl Store {
    /// Connects. What has ended is forgotten after `keep`, and so are idempotency keys.
    ///
    /// # Errors
    /// [`Error::Redis`] if Redis cannot be reached or does not let us in.
    pub async fn connect(redis: &str, names: &Names, keep: Duration) -> Result<Store, Error> {
        // stub stage 2: connect, and remember the names
        Ok(Store {
            link: Arc::new(Link::connect(redis).await?),
            names: names.clone(),
            keep,
        })
        // end stub
    }

    /// What is known of a task; nothing if there is no such task, or it ended so long ago that it is
    /// forgotten.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away, [`Error::BadStatus`] if what is there is
    /// no status.
    pub async fn get(&self, id: &str) -> Result<Option<Status>, Error> {
        // stub stage 2: one HGETALL
        let mut connection = self.link.connection().await?;
        let answer = redis::cmd("HGETALL")
            .arg(self.names.task_key(id))
            .query_async(&mut connection)
            .await;
        read::status(id, self.link.answer(answer).await?)
        // end stub
    }

    /// Cancels a task that waits or runs: its state is `cancelled` at once, and that is its end. One that
    /// waits never begins. One that runs is told so within a second, and whatever comes of it has no
    /// effect. Cancelling again changes nothing. Returns the status.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such task, [`Error::Ended`] if it has succeeded or failed
    /// already, and those of [`get`](Self::get).
    pub async fn cancel(&self, id: &str) -> Result<Status, Error> {
        // stub stage 7: one script: if it has not ended, it is cancelled
        let mut call = scripts::CANCEL.key(self.names.task_key(id));
        call.key(self.names.done_key());
        call.arg(id).arg(self.keep_millis());
        let _: i64 = self.run(&call).await?;
        let status = self.get(id).await?;
        let status = status.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        match status.state {
            State::Succeeded | State::Failed => Err(Error::Ended(status.state)),
            _ => Ok(status),
        }
        // end stub
    }
}

// solution only
/// What an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// For this id from now on.
    New(String),
    /// For this id; whoever reserved it has not been told that the task is accepted.
    Pending(String),
    /// For this id, whose task is accepted.
    Accepted(String),
}

/// What is to become of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is this attempt's: run it.
    Run(u32),
    /// Nothing: the task has ended, or another message carries it on.
    Drop,
    /// It is a dead letter, after so many attempts, and for this reason.
    Bury(u32, String),
}

/// What a delivery says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// Tells this delivery from all others, when it has to ask twice.
    pub asker: String,
    /// How many attempts had been made when it was published.
    pub attempts: u32,
    /// Whether it was delivered before.
    pub redelivered: bool,
}

impl Store {
    /// Makes a task known that RabbitMQ has confirmed. If a worker was faster, its status stays.
    pub(crate) async fn create(&self, id: &str, kind: &str) -> Result<(), Error> {
        let mut call = scripts::CREATE.key(self.names.task_key(id));
        call.arg(kind);
        let _: i64 = self.run(&call).await?;
        Ok(())
    }

    /// The id for which a key stands: `id` if the key is new.
    pub(crate) async fn reserve(
        &self,
        key: &str,
        id: &str,
        task: &NewTask,
    ) -> Result<Reserved, Error> {
        let mut call = scripts::RESERVE.key(self.names.key_key(key));
        call.arg(id).arg(task.digest()).arg(self.keep_millis());
        let (answer, id): (String, String) = self.run(&call).await?;
        match answer.as_str() {
            "new" => Ok(Reserved::New(id)),
            "pending" => Ok(Reserved::Pending(id)),
            "accepted" => Ok(Reserved::Accepted(id)),
            _ => Err(Error::KeyReused),
        }
    }

    /// Makes the task of a key known, and remembers that it was accepted, in one step.
    pub(crate) async fn accept(&self, key: &str, id: &str, kind: &str) -> Result<(), Error> {
        let mut call = scripts::ACCEPT.key(self.names.task_key(id));
        call.key(self.names.key_key(key));
        call.arg(kind).arg(id);
        let _: i64 = self.run(&call).await?;
        Ok(())
    }

    /// Decides about a delivery, and begins an attempt if there is to be one. At most `most` attempts
    /// are begun, whatever became of those before.
    pub(crate) async fn begin(&self, task: &Task, copy: &Copy, most: u32) -> Result<Begun, Error> {
        let mut call = scripts::BEGIN.key(self.names.task_key(&task.id));
        call.key(self.names.done_key());
        call.arg(&task.id).arg(&task.kind);
        call.arg(copy.attempts).arg(u8::from(copy.redelivered));
        call.arg(most).arg(in_millis(SystemTime::now()));
        call.arg(task.deadline.map_or(0, in_millis));
        call.arg(self.keep_millis()).arg(&copy.asker);
        let (answer, attempts, reason): (String, u32, String) = self.run(&call).await?;
        Ok(match answer.as_str() {
            "run" => Begun::Run(attempts),
            "bury" => Begun::Bury(attempts, reason),
            _ => Begun::Drop,
        })
    }

    /// Writes how far an attempt is. Returns whether the attempt is still the one that counts: it is not
    /// if the task was cancelled, or given to another worker.
    pub(crate) async fn progress(
        &self,
        id: &str,
        attempt: u32,
        percent: u8,
    ) -> Result<bool, Error> {
        let mut call = scripts::PROGRESS.key(self.names.task_key(id));
        call.arg(attempt).arg(percent);
        self.run(&call).await
    }

    /// The attempt has succeeded, and so the task has. Returns whether that had an effect.
    pub(crate) async fn succeed(
        &self,
        id: &str,
        attempt: u32,
        result: &Value,
    ) -> Result<bool, Error> {
        self.end(id, attempt, State::Succeeded, &result.to_string())
            .await
    }

    /// The task is given up. Returns whether that had an effect.
    pub(crate) async fn fail(&self, id: &str, attempt: u32, reason: &str) -> Result<bool, Error> {
        self.end(id, attempt, State::Failed, reason).await
    }

    /// The attempt has failed, and the message for the next one is on its way.
    pub(crate) async fn again(&self, id: &str, attempt: u32, reason: &str) -> Result<(), Error> {
        let mut call = scripts::AGAIN.key(self.names.task_key(id));
        call.arg(attempt).arg(reason);
        let _: i64 = self.run(&call).await?;
        Ok(())
    }

    /// A task that cannot be attempted at all is given up.
    pub(crate) async fn refuse(&self, task: &Task, reason: &str) -> Result<(), Error> {
        self.create(&task.id, &task.kind).await?;
        let mut call = scripts::REFUSE.key(self.names.task_key(&task.id));
        call.key(self.names.done_key());
        call.arg(&task.id).arg(reason).arg(self.keep_millis());
        let _: i64 = self.run(&call).await?;
        Ok(())
    }

    async fn end(&self, id: &str, attempt: u32, state: State, said: &str) -> Result<bool, Error> {
        let mut call = scripts::END.key(self.names.task_key(id));
        call.key(self.names.done_key());
        call.arg(id).arg(attempt).arg(state.as_str()).arg(said);
        call.arg(self.keep_millis());
        self.run(&call).await
    }

    async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, Error> {
        let mut connection = self.link.connection().await?;
        let answer = call.invoke_async(&mut connection).await;
        self.link.answer(answer).await
    }

    /// Never nothing: PEXPIRE would forget at once what has just ended.
    fn keep_millis(&self) -> u64 {
        u64::try_from(self.keep.as_millis()).map_or(i64::MAX as u64 / 2, |millis| millis.max(1))
    }
}
// end solution only
