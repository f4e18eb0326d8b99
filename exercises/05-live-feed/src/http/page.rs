//! The dashboard: one page, a style and a script, all from this binary.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::feed::Feed;

/// What the page may do: load its own files, and talk to its own server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/`, `/page.js` and `/page.css`.
pub fn routes() -> Router<Arc<Feed>> {
    let page = || {
        file(
            "text/html; charset=utf-8",
            include_str!("../page/index.html"),
        )
    };
    let script = || {
        file(
            "text/javascript; charset=utf-8",
            include_str!("../page/page.js"),
        )
    };
    let style = || file("text/css; charset=utf-8", include_str!("../page/page.css"));
    Router::new()
        .route("/", get(async move || page()))
        .route("/page.js", get(async move || script()))
        .route("/page.css", get(async move || style()))
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The address may carry a token.
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
