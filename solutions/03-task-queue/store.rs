//! What is known of each task, in Redis. Workers and submitters on many machines write it, and some of
//! them are late: so every change is one script that compares first.

use std::time::Duration;

use crate::error::Error;
use crate::names::Names;
use crate::status::Status;

// solution only
use std::sync::Arc;

use redis::{FromRedisValue, ScriptInvocation};

use crate::connection::Link;
use crate::status::State;

#[path = "store/attempts.rs"]
mod attempts;
#[path = "store/keys.rs"]
mod keys;
#[path = "store/read.rs"]
mod read;
#[path = "store/scripts.rs"]
mod scripts;
pub(crate) use attempts::{Begun, Copy};
pub(crate) use keys::Reserved;
// end solution only

/// The statuses of the tasks. Cheap to clone; after a lost connection the next call connects again.
///
/// A status is the hash `NAME:task:ID` with the fields `kind`, `state`, `attempts`, `progress` and,
/// where there is one, `result` (JSON), `error` and `deadline` (RFC 3339); there may be more, which are
/// nobody else's. It never goes backwards: what has ended does not change any more, and `attempts` does
/// not fall. In the step in which a task ends one entry with the fields `id` and `state` is added to the
/// stream `NAME:done`, which keeps about the last 100,000.
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
impl Store {
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
