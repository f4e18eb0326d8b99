//! How a client is refused before its connection becomes a WebSocket: by an HTTP answer.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a client is not let in. As an answer it has the body `{"code","detail"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
}

impl Refusal {
    /// 400: there is no name, or it is not one.
    pub const BAD_NAME: Refusal = Refusal {
        status: StatusCode::BAD_REQUEST,
        code: "bad_name",
        detail: "give ?name=, 1 to 32 letters, digits, '-', '_' or '.'",
    };
    /// 401: the token is missing or not the one of this name.
    pub const UNAUTHORIZED: Refusal = Refusal {
        status: StatusCode::UNAUTHORIZED,
        code: "unauthorized",
        detail: "give ?token=, the token of this name",
    };
    /// 403: pages of this origin may not connect.
    pub const FORBIDDEN_ORIGIN: Refusal = Refusal {
        status: StatusCode::FORBIDDEN,
        code: "forbidden_origin",
        detail: "pages of this origin may not connect here",
    };
    /// 409: somebody is here under this name.
    pub const NAME_TAKEN: Refusal = Refusal {
        status: StatusCode::CONFLICT,
        code: "name_taken",
        detail: "somebody is connected under this name",
    };
    /// 503: the name cannot be claimed, because Redis is away.
    pub const UNAVAILABLE: Refusal = Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "unavailable",
        detail: "the server has lost its Redis; try again",
    };
    /// 503: this node is stopping.
    pub const STOPPING: Refusal = Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "unavailable",
        detail: "this server is stopping; try again",
    };
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = header::HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}
