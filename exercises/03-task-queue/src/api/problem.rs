//! Errors as RFC 9457 has them: `application/problem+json`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::warn;

use crate::error::Error;

/// After how many seconds a client may try again while a broker is away.
const RETRY_AFTER: u16 = 2;

/// What is wrong, for a program and for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Which problem: the title and the status say all there is to say.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The problem in general.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// This problem.
    detail: String,
    /// Places in the body that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Wrong>,
}

/// A place in a body that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Wrong {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// A body that is JSON and no task.
    pub fn no_task(errors: Vec<Wrong>) -> Problem {
        let all: Vec<_> = errors.iter().map(|wrong| wrong.detail.as_str()).collect();
        let detail = format!("the body is no task: {}", all.join("; "));
        Problem {
            errors,
            ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// The header `Allow` says which methods there are.
    pub fn wrong_method() -> Problem {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this address has other methods",
        )
    }

    /// A fault of ours.
    pub fn broken() -> Problem {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this should not have happened; the task may or may not be accepted",
        )
    }

    /// Nothing can be accepted now.
    pub fn unavailable(error: Error) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let status = match &error {
            Error::BadTask(_) | Error::BadKey | Error::KeyReused => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Ended(_) => StatusCode::CONFLICT,
            Error::BadStatus { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            // Whatever else it is, the task is not accepted now, and may be later.
            _ => {
                warn!("{error}");
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Problem::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or_default();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER.into());
        }
        response
    }
}
