//! The HTTP API: what comes in, checked, and handed to the modules that know.

mod posted;
mod problem;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::FutureExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::status::Status;
use crate::store::Store;
use crate::submitter::Submitter;
use crate::task::is_id;
use problem::Problem;

/// The description of this API, for programs and for those who write them.
const OPENAPI: &str = include_str!("openapi.json");
/// How long connections that are open at a stop have to end.
const GOODBYE: Duration = Duration::from_secs(10);

/// What the API takes.
#[derive(Debug, Clone)]
pub struct Api {
    /// The largest body that is read, in bytes. A mebibyte unless told otherwise.
    pub max_body: usize,
}

impl Default for Api {
    fn default() -> Api {
        Api {
            max_body: 1024 * 1024,
        }
    }
}

struct Desk {
    submitter: Submitter,
    store: Store,
    options: Api,
}

/// Answers requests until the stop, and then those that have come in.
///
/// # Errors
/// Those of the socket.
pub async fn serve(
    listener: TcpListener,
    submitter: Submitter,
    store: Store,
    options: Api,
    stop: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    let desk = Arc::new(Desk {
        submitter: submitter.clone(),
        store,
        options,
    });
    let stopped = stop.clone();
    let serving = axum::serve(listener, router(desk))
        .with_graceful_shutdown(async move { stopped.cancelled().await });
    // A client that keeps its connection open and sends nothing is no reason to stay.
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(GOODBYE).await;
    };
    tokio::select! {
        served = serving => served?,
        () = overdue => {}
    }
    submitter.stop().await;
    Ok(address)
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/tasks", post(submit))
        .route("/tasks/{id}", get(status).delete(cancel))
        .route("/healthz", get(health))
        .route("/openapi.json", get(openapi))
        .fallback(|| async { Problem::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .layer(from_fn(sheltered))
        .with_state(desk)
}

/// A panic is a fault of ours, and no reason to hang up on the client.
async fn sheltered(request: Request, next: Next) -> Response {
    let answering = AssertUnwindSafe(next.run(request)).catch_unwind();
    let broken = |_| Problem::broken().into_response();
    answering.await.unwrap_or_else(broken)
}

async fn submit(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let key = posted::key(request.headers())?;
    let mut task = posted::read(request, desk.options.max_body).await?;
    task.key = key;
    // In a task of its own: a client that hangs up in the middle changes nothing, and neither does a panic.
    let submitter = desk.submitter.clone();
    let status = tokio::spawn(async move { submitter.submit(task).await });
    let status = status.await.map_err(|_| Problem::broken())??;
    let location = format!("/tasks/{}", status.id);
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        shown(&status),
    )
        .into_response())
}

async fn status(
    State(desk): State<Arc<Desk>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = id(path)?;
    let known = desk.store.get(&id).await?;
    let status = known.ok_or(Error::NotFound(id))?;
    Ok(shown(&status).into_response())
}

async fn cancel(
    State(desk): State<Arc<Desk>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let status = desk.store.cancel(&id(path)?).await?;
    Ok(shown(&status).into_response())
}

/// What cannot be an id is none of a task.
fn id(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Ok(Path(id)) = path else {
        return Err(Problem::not_found("there is no such task"));
    };
    match is_id(&id) {
        true => Ok(id),
        false => Err(Error::NotFound(id).into()),
    }
}

async fn health(State(desk): State<Arc<Desk>>) -> Result<Response, Problem> {
    desk.submitter.ready().await.map_err(Problem::unavailable)?;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(json!({"status": "ok"}))).into_response())
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

/// A status is never the same for long.
fn shown(status: &Status) -> (HeaderMap, Json<Status>) {
    let mut headers = HeaderMap::new();
    let never: (HeaderName, HeaderValue) =
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(never.0, never.1);
    (headers, Json(status.clone()))
}
