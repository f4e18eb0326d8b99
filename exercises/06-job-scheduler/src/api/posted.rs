//! Bodies of requests, read with the place of what is wrong.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::error::Error;
use crate::flow::NewWorkflow;
use crate::job::{Misfire, NewJob, Schedule};
use crate::time::{Time, from_millis};

/// The largest body.
const MOST: usize = 1024 * 1024;
/// The most times that a job may catch up with.
const MOST_TO_CATCH_UP: u64 = 1000;

pub(super) async fn body(request: Request) -> Result<Map<String, Value>, Problem> {
    let bytes = to_bytes(request.into_body(), MOST).await.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {MOST} bytes, or was cut off"),
        )
    })?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::bad_request("the body is no JSON object")),
        Err(error) => Err(Problem::bad_request(format!(
            "the body is no JSON: {error}"
        ))),
    }
}

/// A job, with each of its members looked at.
pub(super) fn job(body: &Map<String, Value>) -> Result<NewJob, Error> {
    known_only(
        body,
        "",
        &["name", "schedule", "service", "payload", "misfire"],
    )?;
    Ok(NewJob {
        name: text(body, "", "name")?.to_owned(),
        schedule: schedule(body.get("schedule"))?,
        service: text(body, "", "service")?.to_owned(),
        payload: body.get("payload").cloned().unwrap_or_default(),
        misfire: misfire(body.get("misfire"))?,
    })
}

/// A workflow. Where something is wrong in a step, the reason says it in words.
pub(super) fn workflow(body: &Map<String, Value>) -> Result<NewWorkflow, Error> {
    known_only(body, "", &["name", "steps"])?;
    let name = text(body, "", "name")?.to_owned();
    let steps = match body.get("steps") {
        Some(Value::Array(steps)) => steps,
        _ => return Err(Error::bad("/steps", "there has to be a list of steps")),
    };
    let steps = steps.iter().enumerate().map(|(n, step)| {
        serde_json::from_value(step.clone())
            .map_err(|error| Error::bad(format!("/steps/{n}"), error.to_string()))
    });
    Ok(NewWorkflow {
        name,
        steps: steps.collect::<Result<_, _>>()?,
    })
}

const KINDS: &str = r#"it is {"cron","tz"}, {"every"}, {"at"} or {"after"}"#;

fn schedule(value: Option<&Value>) -> Result<Schedule, Error> {
    let Some(Value::Object(object)) = value else {
        let why = format!("a schedule is an object: {KINDS}");
        return Err(Error::bad("/schedule", why));
    };
    known_only(object, "/schedule", &["cron", "tz", "every", "at", "after"])?;
    let kinds = ["cron", "every", "at", "after"];
    let mut given = kinds.into_iter().filter(|kind| object.contains_key(*kind));
    let (Some(kind), None) = (given.next(), given.next()) else {
        let why = format!("a schedule is of one kind: {KINDS}");
        return Err(Error::bad("/schedule", why));
    };
    if kind != "cron" && object.contains_key("tz") {
        return Err(Error::bad("/schedule/tz", "only `cron` has a time zone"));
    }
    let value = text(object, "/schedule", kind)?;
    Ok(match kind {
        "cron" => Schedule::Cron {
            cron: value.to_owned(),
            tz: match object.contains_key("tz") {
                true => text(object, "/schedule", "tz")?.to_owned(),
                false => "UTC".to_owned(),
            },
        },
        "every" => Schedule::Every {
            every: duration("/schedule/every", value)?,
        },
        "at" => Schedule::At {
            at: value.parse::<Time>().map_or_else(
                |error| {
                    let why = format!(
                        "`{value}` is no time: {error}. It looks like 2026-03-29T01:00:00Z"
                    );
                    Err(Error::bad("/schedule/at", why))
                },
                |time| Ok(from_millis(time.timestamp_millis())),
            )?,
        },
        _ => Schedule::After {
            after: duration("/schedule/after", value)?,
        },
    })
}

fn duration(place: &str, value: &str) -> Result<Duration, Error> {
    humantime::parse_duration(value).map_err(|error| {
        let why = format!("`{value}` is no duration: {error}. It looks like 90s or 1h 30m");
        Error::bad(place, why)
    })
}

fn misfire(value: Option<&Value>) -> Result<Misfire, Error> {
    match value {
        None => Ok(Misfire::default()),
        Some(Value::String(text)) if text == "skip" => Ok(Misfire::Skip),
        Some(Value::String(text)) if text == "once" => Ok(Misfire::Once),
        Some(Value::Object(object)) if object.len() == 1 => {
            let most = object.get("catch_up").and_then(Value::as_u64);
            let most = most.filter(|most| *most <= MOST_TO_CATCH_UP);
            let most = most.and_then(|most| u32::try_from(most).ok());
            most.map(Misfire::CatchUp).ok_or_else(|| {
                let why = format!("`catch_up` is a number up to {MOST_TO_CATCH_UP}");
                Error::bad("/misfire/catch_up", why)
            })
        }
        Some(_) => Err(Error::bad(
            "/misfire",
            r#"it is "skip", "once" or {"catch_up": N}"#,
        )),
    }
}

fn text<'a>(object: &'a Map<String, Value>, at: &str, name: &str) -> Result<&'a str, Error> {
    let place = format!("{at}/{name}");
    match object.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::bad(place, "it has to be a text")),
        None => Err(Error::bad(place, "it is missing")),
    }
}

/// A member that is misspelt would be passed over in silence.
fn known_only(object: &Map<String, Value>, at: &str, known: &[&str]) -> Result<(), Error> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Error::bad(
            format!("{at}/{name}"),
            format!("there is no such member; there are: {}", known.join(", ")),
        )),
    }
}
