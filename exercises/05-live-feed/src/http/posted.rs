//! `POST /events`: from the bytes of a body to an event whose topic and type are safe.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::reply::Problem;
use crate::event::NewEvent;

/// The largest body, in bytes.
const LARGEST: usize = 64 * 1024;
/// How much more of a body that is too large is read and thrown away: a client that is still sending
/// when the connection closes does not see the answer.
const DISCARDED: usize = 4 * 1024 * 1024;
/// How long a body may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest topic or type, in characters.
const LONGEST_NAME: usize = 64;

/// Values as they were written: a number is not rounded, an object keeps its order.
#[derive(Deserialize)]
struct Posted<'a> {
    #[serde(borrow)]
    topic: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Reads and checks a posted event.
///
/// # Errors
/// 415 another content type, 413 too large, 408 too slow, 400 not JSON, 422 a field that is missing
/// or cannot be.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<NewEvent, Problem> {
    if !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "send the event with `content-type: application/json`",
        ));
    }
    let body = tokio::time::timeout(TIMEOUT, collect(body))
        .await
        .map_err(|_| {
            let detail = format!("the body took longer than {} s", TIMEOUT.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail)
        })??;
    parse(&body)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    text.and_then(|text| text.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn collect(body: Body) -> Result<Vec<u8>, Problem> {
    let mut parts = body.into_data_stream();
    let mut whole = Vec::new();
    let mut length = 0;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| bad_request(format!("the body broke off: {error}")))?;
        length += part.len();
        if length <= LARGEST {
            whole.extend_from_slice(&part);
        } else if length > LARGEST + DISCARDED {
            break;
        }
    }
    if length > LARGEST {
        let detail = format!("the body is larger than {} KiB", LARGEST / 1024);
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            detail,
        ));
    }
    Ok(whole)
}

fn parse(body: &[u8]) -> Result<NewEvent, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| bad_request("the body is not UTF-8"))?;
    let posted: Posted = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => wrong_field(format!("the body is no event: {error}")),
        _ => bad_request(format!("the body is not JSON: {error}")),
    })?;
    let topic =
        string("topic", posted.topic)?.ok_or_else(|| wrong_field("an event needs a `topic`"))?;
    check_name("topic", &topic)?;
    let kind = string("type", posted.kind)?.unwrap_or_else(|| "message".into());
    check_name("type", &kind)?;
    let data = match posted.data.map_or("null", RawValue::get) {
        text if text.starts_with('"') => string("data", posted.data)?.unwrap_or_default(),
        other => compact(other),
    };
    Ok(NewEvent { topic, kind, data })
}

/// Checks a topic or a type: 1 to 64 letters, digits, `-`, `_` and `.`.
///
/// # Errors
/// 422.
pub fn check_name(field: &str, name: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(wrong_field(format!(
        "`{field}` must be 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`"
    )))
}

/// The text of a field, or none if the field is not there or null.
fn string(field: &str, value: Option<&RawValue>) -> Result<Option<String>, Problem> {
    let Some(value) = value else { return Ok(None) };
    serde_json::from_str(value.get())
        .map_err(|_| wrong_field(format!("`{field}` must be a string of Unicode text")))
}

/// JSON without the white space between its parts.
fn compact(json: &str) -> String {
    let mut in_string = false;
    let mut escaped = false;
    json.chars()
        .filter(|&c| {
            if in_string {
                in_string = escaped || c != '"';
                escaped = !escaped && c == '\\';
                return true;
            }
            in_string = c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_json", detail)
}

fn wrong_field(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong_field", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(json: &str) -> String {
        let body = format!(r#"{{"topic":"t","data":{json}}}"#);
        parse(body.as_bytes()).unwrap().data
    }

    #[test]
    fn a_string_is_sent_as_it_is_and_another_value_as_compact_json() {
        assert_eq!(data(r#""a\nb\u0000\u2028""#), "a\nb\0\u{2028}");
        assert_eq!(data("null"), "null");
        assert_eq!(
            data("{ \"b\" : 1.50,\n \"a\" : \" \\\" } \" , \"c\": [ 1, true ] }"),
            r#"{"b":1.50,"a":" \" } ","c":[1,true]}"#
        );
        assert_eq!(data("12345678901234567890123"), "12345678901234567890123");
        assert_eq!(parse(br#"{"topic":"t"}"#).unwrap().data, "null");
        assert_eq!(parse(br#"{"topic":"t"}"#).unwrap().kind, "message");
    }

    #[test]
    fn what_is_no_json_is_400_and_what_is_no_event_422() {
        let long = format!(r#"{{"topic":"{}"}}"#, "x".repeat(65));
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("{\"topic\":\"t\"} x", 400),
            ("topic=t", 400),
            ("[]", 422),
            ("\"t\"", 422),
            ("{}", 422),
            (r#"{"topic":""}"#, 422),
            (r#"{"topic":7}"#, 422),
            (r#"{"topic":"a b"}"#, 422),
            (r#"{"topic":"ä"}"#, 422),
            (r#"{"topic":"t","type":"a\nb"}"#, 422),
            (r#"{"topic":"t","type":5}"#, 422),
            (r#"{"topic":"t","data":"\ud800"}"#, 422),
            (&long, 422),
        ] {
            let problem = parse(body.as_bytes()).expect_err(body);
            assert_eq!(problem.status.as_u16(), status, "{body}");
        }
        assert_eq!(parse(b"\xff").unwrap_err().status.as_u16(), 400);
    }
}
