//! Runs: one for each job and each of its times. What a service is told, and what it answers.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;
use crate::time::{Time, as_text};

/// One run: a job, and the time for which it was scheduled. The message to a service is this as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The job's name. A step of a workflow is the job `WORKFLOW/STEP`.
    pub job: String,
    /// The time for which it was scheduled, which may have passed when it runs.
    #[serde(with = "as_text")]
    pub scheduled_for: Time,
    /// The token of the leader who published it.
    pub token: u64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What it is to work on.
    #[serde(default)]
    pub payload: Value,
    /// Who does it. Not in the message: the routing key says so.
    #[serde(skip)]
    pub service: String,
}

impl Run {
    /// What tells this run from all others: `JOB@MILLISECONDS`.
    pub fn id(&self) -> String {
        run_id(&self.job, self.scheduled_for)
    }

    /// The message.
    pub fn body(&self) -> Vec<u8> {
        json!(self).to_string().into_bytes()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Error::BadMessage`] if it is none.
    pub fn read(body: &[u8]) -> Result<Run, Error> {
        serde_json::from_slice(body).map_err(|error| Error::BadMessage(error.to_string()))
    }
}

/// What tells the run of a job for a time from all others: `JOB@MILLISECONDS`.
pub fn run_id(job: &str, scheduled_for: Time) -> String {
    format!("{job}@{}", scheduled_for.timestamp_millis())
}

/// What a service answers, in the queue `P.replies`, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The run's job.
    pub job: String,
    /// The run's time.
    #[serde(with = "as_text")]
    pub scheduled_for: Time,
    /// The attempt that this is the outcome of.
    pub attempt: u32,
    /// Whether it succeeded.
    pub ok: bool,
    /// What came of it, if it succeeded; null otherwise.
    #[serde(default)]
    pub result: Value,
    /// Why it failed, if it did.
    #[serde(default)]
    pub error: Option<String>,
}

impl Reply {
    /// The outcome of an attempt.
    pub fn new(run: &Run, outcome: Result<Value, String>) -> Reply {
        let (ok, result, error) = match outcome {
            Ok(result) => (true, result, None),
            Err(error) => (false, Value::Null, Some(error)),
        };
        Reply {
            job: run.job.clone(),
            scheduled_for: run.scheduled_for,
            attempt: run.attempt,
            ok,
            result,
            error,
        }
    }

    /// The id of its run.
    pub fn id(&self) -> String {
        run_id(&self.job, self.scheduled_for)
    }

    /// The message.
    pub fn body(&self) -> Vec<u8> {
        json!(self).to_string().into_bytes()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Error::BadMessage`] if it is none.
    pub fn read(body: &[u8]) -> Result<Reply, Error> {
        serde_json::from_slice(body).map_err(|error| Error::BadMessage(error.to_string()))
    }
}

/// How a run came to its end, or how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It was claimed, and no reply has come.
    Open,
    /// It has succeeded.
    Succeeded,
    /// Its last attempt has failed.
    Failed,
}

/// What the history of a job says of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Past {
    /// The time for which it was scheduled.
    #[serde(with = "as_text")]
    pub scheduled_for: Time,
    /// When its end was known.
    #[serde(with = "as_text")]
    pub ended_at: Time,
    /// How it ended.
    pub state: RunState,
    /// How many attempts there were.
    pub attempts: u32,
    /// Why it failed, if it did.
    pub error: Option<String>,
}
