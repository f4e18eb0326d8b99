// Stub 187e86249af2b090: this file is yours to write. `cargo xtask reset task-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! What is known of each task, in Redis. Workers and submitters on many machines write it, and some of
//! them are late: so every change is one script that compares first.

use std::time::Duration;

use crate::error::Error;
use crate::names::Names;
use crate::status::Status;

/// The statuses of the tasks. Cheap to clone; after a lost connection the next call connects again.
///
/// A status is the hash `NAME:task:ID` with the fields `kind`, `state`, `attempts`, `progress` and,
/// where there is one, `result` (JSON), `error` and `deadline` (RFC 3339); there may be more, which are
/// nobody else's. It never goes backwards: what has ended does not change any more, and `attempts` does
/// not fall. In the step in which a task ends one entry with the fields `id` and `state` is added to the
/// stream `NAME:done`, which keeps about the last 100,000.
#[derive(Debug, Clone)]
pub struct Store {}

impl Store {
    /// Connects. What has ended is forgotten after `keep`, and so are idempotency keys.
    ///
    /// # Errors
    /// [`Error::Redis`] if Redis cannot be reached or does not let us in.
    pub async fn connect(redis: &str, names: &Names, keep: Duration) -> Result<Store, Error> {
        todo!("stage 2: connect, and remember the names")
    }

    /// What is known of a task; nothing if there is no such task, or it ended so long ago that it is
    /// forgotten.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away, [`Error::BadStatus`] if what is there is
    /// no status.
    pub async fn get(&self, id: &str) -> Result<Option<Status>, Error> {
        todo!("stage 2: one HGETALL")
    }

    /// Cancels a task that waits or runs: its state is `cancelled` at once, and that is its end. One that
    /// waits never begins. One that runs is told so within a second, and whatever comes of it has no
    /// effect. Cancelling again changes nothing. Returns the status.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such task, [`Error::Ended`] if it has succeeded or failed
    /// already, and those of [`get`](Self::get).
    pub async fn cancel(&self, id: &str) -> Result<Status, Error> {
        todo!("stage 7: one script: if it has not ended, it is cancelled")
    }
}
