// Stub 7bcf342153286f93: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! What operators do: look, pause, resume, delete.

use crate::error::Error;
use crate::job::Job;
use crate::run::Past;
use crate::store::Store;
use crate::time::Time;

impl Store {
    /// A job as it stands; nothing if there is none of this name.
    ///
    /// # Errors
    /// Those of the connection (so for all that follow), and [`Error::BadRecord`].
    pub async fn job(&self, name: &str) -> Result<Option<Job>, Error> {
        todo!("stage 9: the job's hash and its score, in one step")
    }

    /// Jobs in the order of their names (byte by byte), `max` at most: those after `after`, or from the
    /// first.
    ///
    /// # Errors
    /// [`Error::BadRecord`].
    pub async fn jobs(&self, after: Option<&str>, max: usize) -> Result<Vec<Job>, Error> {
        todo!("stage 9: ZRANGE P:all BYLEX, and each job")
    }

    /// How a job's last runs ended, the latest end first, `max` at most.
    ///
    /// # Errors
    /// [`Error::BadRecord`].
    pub async fn history(&self, name: &str, max: usize) -> Result<Vec<Past>, Error> {
        todo!("stage 9: XREVRANGE P:history:NAME")
    }

    /// Pauses a job: it is not due any more. Runs that are open come to their end. Pausing again changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Wrong`] if it is done.
    pub async fn pause(&self, name: &str) -> Result<Job, Error> {
        todo!("stage 9: one script: HSET, ZREM")
    }

    /// Lets a paused job go on. What fell into the pause is passed over, whatever its misfire policy: a job
    /// by `cron` is due at its first time after `now`, one with `every` so much after `now`, and one that runs
    /// once at its time, or if that has passed, never: it is done. One that is active stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Wrong`] if it is done.
    pub async fn resume(&self, name: &str, now: Time) -> Result<Job, Error> {
        todo!("stage 9: the next time, then one script: if it is paused, HSET and ZADD")
    }

    /// Deletes a job with its history: another may have its name at once. Runs that are open come to their
    /// end.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        todo!("stage 9: one script: DEL, ZREM, ZREM")
    }
}
