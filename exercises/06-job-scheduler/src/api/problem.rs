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
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// Which problem: the title and the status say all there is to say.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// The place in the body that is wrong, as a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            pointer: None,
        }
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// The header `Allow` says which methods there are.
    pub fn wrong_method() -> Problem {
        let detail = "this address has other methods";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let status = match &error {
            Error::BadJob { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Duplicate(..) | Error::Wrong { .. } => StatusCode::CONFLICT,
            Error::NotFound(..) => StatusCode::NOT_FOUND,
            Error::BadRecord { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => {
                warn!("{error}");
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        let mut problem = Problem::new(status, error.to_string());
        if let Error::BadJob { place, .. } = error {
            problem.pointer = Some(place);
        }
        problem
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
