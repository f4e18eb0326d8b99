//! How a task is attempted, and comes to its end.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{Store, keys, scripts};
use crate::error::Error;
use crate::status::State;
use crate::task::Task;

/// What is to become of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is this attempt's: run it.
    Run(u32),
    /// Its attempt runs, and has given a sign of life a moment ago: ask again.
    Wait,
    /// Nothing: the task has ended, or another message carries it on.
    Drop,
    /// It is a dead letter, after so many attempts, and for this reason.
    Bury(u32, String),
}

/// A delivery, as far as it matters for whether its task is attempted.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// Tells this delivery from all others, when it has to ask twice.
    pub asker: String,
    /// How many attempts had been made when it was published.
    pub attempts: u32,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Why the task cannot be attempted at all, if it cannot.
    pub refusal: Option<String>,
}

impl Store {
    /// How long an attempt counts as alive after its last [`progress`](Self::progress).
    pub(crate) const LEASE: Duration = Duration::from_secs(1);

    /// Decides about a delivery, and begins an attempt if there is to be one. At most `most` attempts
    /// are begun, whatever became of those before.
    pub(crate) async fn begin(&self, task: &Task, copy: &Copy, most: u32) -> Result<Begun, Error> {
        let is_overdue = task.deadline.is_some_and(|time| time <= SystemTime::now());
        let mut call = scripts::BEGIN.key(self.names.task_key(&task.id));
        call.key(self.names.done_key());
        call.arg(&task.id).arg(&task.kind);
        call.arg(keys::deadline(task)).arg(u8::from(is_overdue));
        call.arg(copy.attempts).arg(u8::from(copy.redelivered));
        call.arg(&copy.asker).arg(most);
        call.arg(Self::LEASE.as_millis() as u64);
        call.arg(copy.refusal.as_deref().unwrap_or_default());
        call.arg(self.keep_millis());
        let (answer, attempts, reason): (String, u32, String) = self.run(&call).await?;
        Ok(match answer.as_str() {
            "run" => Begun::Run(attempts),
            "wait" => Begun::Wait,
            "bury" => Begun::Bury(attempts, reason),
            _ => Begun::Drop,
        })
    }

    /// Writes how far an attempt is, which is a sign of life too. Returns whether the attempt is still
    /// the one that counts: it is not if the task was cancelled, or given to another worker.
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

    async fn end(&self, id: &str, attempt: u32, state: State, said: &str) -> Result<bool, Error> {
        let mut call = scripts::END.key(self.names.task_key(id));
        call.key(self.names.done_key());
        call.arg(id).arg(attempt).arg(state.as_str()).arg(said);
        call.arg(self.keep_millis());
        self.run(&call).await
    }
}
