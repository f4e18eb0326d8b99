//! Answers that say what is wrong: JSON `{"code","detail"}`, for programs and for people.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::Refused;

/// Seconds after which a client may come again.
const RETRY_AFTER: &str = "1";

/// An answer other than a success.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: String,
}

#[derive(Serialize)]
struct Body {
    code: &'static str,
    detail: String,
}

impl Problem {
    /// An answer with a status, a code for programs and a sentence for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Problem {
            status,
            code,
            detail,
        }
    }

    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
    }

    pub fn wrong_method() -> Self {
        let detail = "this resource does not answer that method; see the header allow";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", detail)
    }

    pub fn unauthorized() -> Self {
        let detail = "show the token: `authorization: Bearer TOKEN`, or `?token=TOKEN`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub fn bad_query(error: &QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_query", error.body_text())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let unavailable = |code, detail| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        match refused {
            Refused::TopicFinished => Self::new(
                StatusCode::CONFLICT,
                "topic_finished",
                "the topic is finished",
            ),
            Refused::NothingLeft => Self::new(StatusCode::NO_CONTENT, "finished", ""),
            Refused::TooManyClients => {
                unavailable("too_many_clients", "as many streams are open as may be")
            }
            Refused::Stopping => unavailable("stopping", "this node is stopping"),
            Refused::RedisAway => unavailable("redis_away", "Redis cannot be reached at present"),
            Refused::Frame(error) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "wrong_field",
                error.to_string(),
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NO_CONTENT {
            return self.status.into_response();
        }
        let mut response = (
            self.status,
            [(header::CACHE_CONTROL, "no-store")],
            Json(Body {
                code: self.code,
                detail: self.detail,
            }),
        )
            .into_response();
        let extra = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, RETRY_AFTER)),
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            let headers = response.headers_mut();
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
