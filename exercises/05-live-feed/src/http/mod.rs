//! The routes: what comes in over HTTP, checked, and handed to the modules that know.

mod page;
mod posted;
mod reply;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};

use crate::access;
use crate::connections::Connection;
use crate::feed::{Feed, HubStats};
use crate::stream::{self, Ask};
use reply::Problem;

/// Everything that a node answers.
pub(crate) fn router(feed: Arc<Feed>) -> Router {
    Router::new()
        .route("/events", get(events).post(publish))
        .route("/topics/{topic}", delete(finish))
        .route("/stats", get(stats))
        .route("/healthz", get(|| async { "ok" }))
        .merge(page::routes())
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .with_state(feed)
}

/// What may stand behind the `?`.
#[derive(Deserialize)]
struct Parameters {
    topic: Option<String>,
    last_event_id: Option<String>,
    token: Option<String>,
}

type Asked = Result<Query<Parameters>, QueryRejection>;

async fn events(
    State(feed): State<Arc<Feed>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    parameters: Asked,
) -> Result<Response, Problem> {
    let parameters = admit(&feed, &headers, parameters)?;
    if let Some(topic) = &parameters.topic {
        posted::check_name("topic", topic)?;
    }
    let ask = Ask {
        topic: parameters.topic,
        last_event_id: parameters.last_event_id,
        headers,
        connection,
    };
    Ok(stream::open(&feed, ask).await?)
}

/// The answer to an event that was accepted.
#[derive(Serialize)]
struct Accepted {
    id: String,
}

async fn publish(
    State(feed): State<Arc<Feed>>,
    headers: HeaderMap,
    parameters: Asked,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    admit(&feed, &headers, parameters)?;
    let event = posted::read(&headers, request.into_body()).await?;
    let id = match &feed.store {
        Some(store) => store.publish(event).await?,
        None => feed.hub.publish(event)?,
    };
    feed.published.fetch_add(1, Ordering::Relaxed);
    let id = id.to_string();
    Ok((StatusCode::CREATED, Json(Accepted { id })))
}

async fn finish(
    State(feed): State<Arc<Feed>>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    parameters: Asked,
) -> Result<StatusCode, Problem> {
    admit(&feed, &headers, parameters)?;
    posted::check_name("topic", &topic)?;
    match &feed.store {
        Some(store) => store.finish(&topic).await?,
        None => feed.hub.finish(&topic),
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What `GET /stats` answers.
#[derive(Serialize)]
struct Stats {
    published: u64,
    #[serde(flatten)]
    hub: HubStats,
}

async fn stats(
    State(feed): State<Arc<Feed>>,
    headers: HeaderMap,
    parameters: Asked,
) -> Result<impl IntoResponse, Problem> {
    admit(&feed, &headers, parameters)?;
    let published = feed.published.load(Ordering::Relaxed);
    let hub = feed.hub.stats();
    Ok((
        [("cache-control", "no-store")],
        Json(Stats { published, hub }),
    ))
}

/// Lets a request in, if it shows the token that is asked for.
fn admit(feed: &Feed, headers: &HeaderMap, parameters: Asked) -> Result<Parameters, Problem> {
    let parameters = parameters.map(|Query(parameters)| parameters);
    if let Some(token) = &feed.options.token {
        let shown = parameters.as_ref().ok().and_then(|it| it.token.as_deref());
        if !access::authorized(token, headers, shown) {
            return Err(Problem::unauthorized());
        }
    }
    parameters.map_err(|error| Problem::bad_query(&error))
}
