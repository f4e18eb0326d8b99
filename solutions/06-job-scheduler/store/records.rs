//! Records in Redis, read and written.

use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;
use crate::job::{JobState, NewJob};
use crate::run::Run;
use crate::time::{Time, from_millis};

/// The fields of a job's hash, names and values by turns.
pub(super) fn fields(job: &NewJob, first: Time) -> Vec<String> {
    let fields = [
        ("schedule", text(&job.schedule)),
        ("service", job.service.clone()),
        ("payload", job.payload.to_string()),
        ("misfire", text(&job.misfire)),
        ("first", first.timestamp_millis().to_string()),
        ("state", JobState::Active.as_str().to_owned()),
    ];
    let pairs = fields.into_iter();
    pairs
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}

/// A job, its state and its first time, from all fields of its hash.
pub(crate) fn job_of(name: &str, fields: Vec<String>) -> Result<(NewJob, Stored), Error> {
    let fields = table(fields);
    let key = format!("the job `{name}`");
    let field = |name: &str| {
        let value = fields.get(name).map(String::as_str);
        value.ok_or_else(|| bad(&key, format!("it has no `{name}`")))
    };
    let first = field("first")?.parse();
    let job = NewJob {
        name: name.to_owned(),
        schedule: json(&key, field("schedule")?)?,
        service: field("service")?.to_owned(),
        payload: json(&key, field("payload")?)?,
        misfire: json(&key, field("misfire")?)?,
    };
    let stored = Stored {
        state: json(&key, &format!("\"{}\"", field("state")?))?,
        first: from_millis(first.map_err(|_| bad(&key, "`first` is no time".to_owned()))?),
    };
    Ok((job, stored))
}

/// What else is known of a job.
pub(crate) struct Stored {
    pub state: JobState,
    pub first: Time,
}

/// A run, from all fields of its hash.
pub(super) fn run_of(fields: Vec<String>, token: u64) -> Result<Run, Error> {
    let fields = table(fields);
    let key = "a run".to_owned();
    let field = |name: &str| {
        let value = fields.get(name).map(String::as_str);
        value.ok_or_else(|| bad(&key, format!("it has no `{name}`")))
    };
    let number = |name: &str| {
        let number = field(name)?.parse::<i64>();
        number.map_err(|_| bad(&key, format!("its `{name}` is no number")))
    };
    Ok(Run {
        job: field("job")?.to_owned(),
        scheduled_for: from_millis(number("scheduled_for")?),
        token,
        attempt: u32::try_from(number("attempt")?).unwrap_or(u32::MAX),
        payload: json(&key, field("payload")?)?,
        service: field("service")?.to_owned(),
    })
}

pub(crate) fn json<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| bad(key, format!("`{text}`: {error}")))
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .unwrap_or(Value::Null)
        .to_string()
}

fn table(fields: Vec<String>) -> HashMap<String, String> {
    let mut fields = fields.into_iter();
    let mut table = HashMap::new();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        table.insert(name, value);
    }
    table
}

fn bad(key: &str, why: String) -> Error {
    Error::BadRecord {
        key: key.to_owned(),
        why,
    }
}
