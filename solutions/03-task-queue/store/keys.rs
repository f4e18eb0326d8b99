//! How a task becomes known, with a key and without.

use super::{Store, scripts};
use crate::error::Error;
use crate::task::{NewTask, Task};

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

impl Store {
    /// Makes a task known that RabbitMQ has confirmed. If a worker was faster, its status stays.
    pub(crate) async fn create(&self, task: &Task) -> Result<(), Error> {
        let mut call = scripts::CREATE.key(self.names.task_key(&task.id));
        call.arg(&task.kind).arg(deadline(task));
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
    pub(crate) async fn accept(&self, key: &str, task: &Task) -> Result<(), Error> {
        let mut call = scripts::ACCEPT.key(self.names.task_key(&task.id));
        call.key(self.names.key_key(key));
        call.arg(&task.kind).arg(deadline(task)).arg(&task.id);
        let _: i64 = self.run(&call).await?;
        Ok(())
    }
}

/// In RFC 3339; nothing if there is none.
pub(super) fn deadline(task: &Task) -> String {
    let time = task.deadline.map(humantime::format_rfc3339_millis);
    time.map(|time| time.to_string()).unwrap_or_default()
}
