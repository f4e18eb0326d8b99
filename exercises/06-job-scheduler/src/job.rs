//! Jobs: what is to happen, when, and by which service.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::names::is_name;
use crate::time::{Time, as_text, as_text_or_null};

/// The longest name of a job or a service, in bytes.
const LONGEST_NAME: usize = 100;

/// When a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Schedule {
    /// By a cron expression, in a time zone.
    Cron {
        /// Five fields (minute, hour, day, month, day of the week) or six, with seconds first.
        cron: String,
        /// A time zone of the IANA database, such as `Europe/Berlin`.
        tz: String,
    },
    /// Again and again, so far apart.
    Every {
        /// At least 100 ms.
        #[serde(with = "as_duration")]
        every: Duration,
    },
    /// Once, at this time.
    At {
        /// In the future.
        #[serde(with = "as_text")]
        at: Time,
    },
    /// Once, so long after it was added.
    After {
        /// How long.
        #[serde(with = "as_duration")]
        after: Duration,
    },
}

/// What becomes of times that passed without a run, because nobody led or everything was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// They are passed over.
    Skip,
    /// The last of them is made up for.
    #[default]
    Once,
    /// The last ones are made up for, so many at most.
    CatchUp(u32),
}

/// A job as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    /// 1 to 100 of `A-Z a-z 0-9 . _ -`; no other job has it.
    pub name: String,
    /// When it runs.
    pub schedule: Schedule,
    /// Who does it.
    pub service: String,
    /// What the service is given. Null unless told otherwise.
    #[serde(default)]
    pub payload: Value,
    /// What becomes of times that were missed.
    #[serde(default)]
    pub misfire: Misfire,
}

impl NewJob {
    /// A job without a payload, that makes up for the last time it missed.
    pub fn new(name: impl Into<String>, schedule: Schedule, service: impl Into<String>) -> NewJob {
        NewJob {
            name: name.into(),
            schedule,
            service: service.into(),
            payload: Value::Null,
            misfire: Misfire::default(),
        }
    }

    /// Whether the names can be names. The schedule is looked at by [`first`](crate::first).
    ///
    /// # Errors
    /// [`Error::BadJob`] with the place.
    pub fn check(&self) -> Result<(), Error> {
        check_name("/name", &self.name)?;
        check_name("/service", &self.service)
    }
}

/// Whether a text can be the name of a job, a service or a step.
pub(crate) fn check_name(place: &str, text: &str) -> Result<(), Error> {
    match is_name(text, LONGEST_NAME) {
        true => Ok(()),
        false => Err(Error::bad(
            place,
            format!("`{text}` is no name: 1 to {LONGEST_NAME} of A-Z, a-z, 0-9, `.`, `_` and `-`"),
        )),
    }
}

/// How a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It runs when its time comes.
    Active,
    /// It does not run until it is resumed.
    Paused,
    /// It has no time any more.
    Done,
}

impl JobState {
    /// As it stands in Redis and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Active => "active",
            JobState::Paused => "paused",
            JobState::Done => "done",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// What was asked for.
    #[serde(flatten)]
    pub job: NewJob,
    /// How it is.
    pub state: JobState,
    /// When it runs next; nothing unless it is active.
    #[serde(with = "as_text_or_null")]
    pub next: Option<Time>,
}

/// For serde: a duration as people write it, such as `1h 30m`.
mod as_duration {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("`{text}` is no duration: {error}")))
    }
}
