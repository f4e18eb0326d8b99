//! What is known of a task.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far a task is.
///
/// It goes from `Queued` to `Running`, back to `Queued` while it waits for another attempt, and ends as
/// one of the other three. What has ended never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits: for its first attempt, or for the next.
    Queued,
    /// A worker is at it.
    Running,
    /// It is done; there is a result.
    Succeeded,
    /// It is given up; there is an error, and a dead letter.
    Failed,
    /// Somebody wanted it no longer.
    Cancelled,
}

impl State {
    /// Whether it never changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::Cancelled)
    }

    /// The state as it stands in Redis and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<State, String> {
        let all = [
            State::Queued,
            State::Running,
            State::Succeeded,
            State::Failed,
            State::Cancelled,
        ];
        all.into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no state of a task"))
    }
}

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Which one.
    pub id: String,
    /// What is to be done.
    pub kind: String,
    /// How far it is.
    pub state: State,
    /// How many attempts were begun.
    pub attempts: u32,
    /// How far the running attempt is, in percent; 100 once it has succeeded.
    pub progress: u8,
    /// What the handler returned.
    pub result: Option<Value>,
    /// Why it failed, or why the last attempt did.
    pub error: Option<String>,
}

impl Status {
    /// The status of a task that nobody has begun.
    pub fn queued(id: &str, kind: &str) -> Status {
        Status {
            id: id.to_owned(),
            kind: kind.to_owned(),
            state: State::Queued,
            attempts: 0,
            progress: 0,
            result: None,
            error: None,
        }
    }
}
