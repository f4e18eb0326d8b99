//! `POST /tasks`: from the bytes of a body to a task that can be done.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt as _;
use serde_json::{Map, Value};

use super::problem::{Problem, Wrong};
use crate::error::Error;
use crate::kinds;
use crate::task::{NewTask, Priority};

/// How much more of a body that is too large is read and thrown away: a client that is still sending
/// when the connection closes does not see the answer.
const DISCARDED: usize = 8 * 1024 * 1024;
/// How long a body may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The idempotency key, if there is one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all("idempotency-key").iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => {
            let key = key.to_str().map_err(|_| Error::BadKey)?.trim();
            // Some clients send it as a string in quotation marks, as its draft standard has it.
            let bare = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
            Ok(Some(bare.unwrap_or(key).to_owned()))
        }
        (Some(_), Some(_)) => Err(Error::BadKey.into()),
    }
}

/// Reads and checks a posted task. Its key is not in the body.
///
/// # Errors
/// 415 another content type, 413 too large, 408 too slow, 400 not JSON, 422 no task.
pub(super) async fn read(request: Request, largest: usize) -> Result<NewTask, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the task with `content-type: application/json`",
        ));
    }
    let body = tokio::time::timeout(TIMEOUT, collect(request.into_body(), largest))
        .await
        .map_err(|_| {
            let detail = format!("the body took longer than {TIMEOUT:?}");
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })??;
    let body: Value = serde_json::from_slice(&body)
        .map_err(|error| bad_request(format!("the body is not JSON: {error}")))?;
    task(body, SystemTime::now()).map_err(Problem::no_task)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    text.and_then(|text| text.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn collect(body: Body, largest: usize) -> Result<Vec<u8>, Problem> {
    let mut parts = body.into_data_stream();
    let mut whole = Vec::new();
    let mut length = 0;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| bad_request(format!("the body broke off: {error}")))?;
        length += part.len();
        if length <= largest {
            whole.extend_from_slice(&part);
        } else if length > largest + DISCARDED {
            break;
        }
    }
    if length > largest {
        let detail = format!("the body is larger than {largest} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(whole)
}

/// The task that a body describes, or all that is wrong with it.
fn task(body: Value, now: SystemTime) -> Result<NewTask, Vec<Wrong>> {
    let Value::Object(mut members) = body else {
        return Err(vec![wrong("", "a task is an object")]);
    };
    let mut errors = Vec::new();
    let kind = kind(&mut members).map_err(|why| errors.push(wrong("/kind", why)));
    let payload = members.remove("payload").unwrap_or(Value::Null);
    if let Ok(kind) = &kind
        && let Some(Err(why)) = kinds::check(kind, &payload)
    {
        errors.push(wrong("/payload", format!("no payload of `{kind}`: {why}")));
    }
    let priority = priority(&mut members).map_err(|why| errors.push(wrong("/priority", why)));
    let deadline = deadline(&mut members, now).map_err(|why| errors.push(wrong("/deadline", why)));
    for name in members.keys() {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        errors.push(wrong(&pointer, format!("a task has no `{name}`")));
    }
    match (kind, priority, deadline) {
        (Ok(kind), Ok(priority), Ok(deadline)) if errors.is_empty() => Ok(NewTask {
            priority,
            deadline,
            ..NewTask::new(kind, payload)
        }),
        _ => Err(errors),
    }
}

fn kind(members: &mut Map<String, Value>) -> Result<String, String> {
    let known = kinds::KINDS.join(", ");
    match members.remove("kind") {
        Some(Value::String(kind)) if kinds::KINDS.contains(&kind.as_str()) => Ok(kind),
        Some(Value::String(kind)) => Err(format!("there is no kind `{kind}`: {known}")),
        Some(_) => Err(format!("the kind is a string: one of {known}")),
        None => Err(format!("a task needs a `kind`: one of {known}")),
    }
}

fn priority(members: &mut Map<String, Value>) -> Result<Priority, String> {
    match members.remove("priority") {
        None => Ok(Priority::Normal),
        Some(value) => serde_json::from_value(value)
            .map_err(|_| "the priority is `normal` or `high`".to_owned()),
    }
}

fn deadline(
    members: &mut Map<String, Value>,
    now: SystemTime,
) -> Result<Option<SystemTime>, String> {
    let Some(value) = members.remove("deadline") else {
        return Ok(None);
    };
    let time = value.as_str().map(humantime::parse_rfc3339);
    match time {
        Some(Ok(time)) if time > now => Ok(Some(time)),
        Some(Ok(_)) => Err("the deadline has passed already".to_owned()),
        _ => Err("the deadline is a time in RFC 3339, such as 2026-11-25T08:00:00Z".to_owned()),
    }
}

fn wrong(pointer: &str, detail: impl Into<String>) -> Wrong {
    Wrong {
        pointer: pointer.to_owned(),
        detail: detail.into(),
    }
}

fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(body: Value) -> Vec<String> {
        let errors = task(body, SystemTime::now()).expect_err("no task");
        errors.into_iter().map(|wrong| wrong.pointer).collect()
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_place() {
        assert_eq!(pointers(json!([])), [""]);
        assert_eq!(pointers(json!({})), ["/kind"]);
        assert_eq!(pointers(json!({"kind": "dance"})), ["/kind"]);
        assert_eq!(
            pointers(json!({"kind": "sleep", "payload": {"millis": -1}, "priority": 7, "a/b": 1})),
            ["/payload", "/priority", "/a~1b"]
        );
        let past = "2001-01-01T00:00:00Z";
        assert_eq!(
            pointers(json!({"kind": "crash", "deadline": past})),
            ["/deadline"]
        );
    }

    #[test]
    fn a_task_is_read_whole() {
        let body = json!({"kind": "sleep", "payload": {"millis": 5}, "priority": "high",
            "deadline": "2999-01-01T00:00:00Z"});
        let task = task(body, SystemTime::now()).expect("a task");
        assert_eq!(task.priority, Priority::High);
        assert!(task.deadline.is_some());
    }
}
