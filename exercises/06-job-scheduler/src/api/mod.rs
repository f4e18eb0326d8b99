//! The HTTP API and the status page: what comes in, checked, and handed to the modules that know.

mod page;
mod posted;
mod problem;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::lease::Lease;
use crate::store::Store;
use crate::time::now;
use problem::Problem;

/// How long connections that are open at a stop have to end.
const GOODBYE: Duration = Duration::from_secs(2);
/// The most jobs in one answer.
const MOST_JOBS: usize = 1000;
/// How many of its last runs are shown with a job.
const RUNS: usize = 20;

pub(crate) struct Desk {
    store: Store,
    lease: Lease,
    stop: CancellationToken,
}

type Name = Result<Path<String>, PathRejection>;

/// Answers requests until the stop.
///
/// # Errors
/// Those of the socket.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    lease: Lease,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let desk = Arc::new(Desk {
        store,
        lease,
        stop: stop.clone(),
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
        served = serving => served,
        () = overdue => Ok(()),
    }
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/jobs", post(add).get(jobs))
        .route("/jobs/{name}", get(job).delete(delete))
        .route("/jobs/{name}/pause", post(pause))
        .route("/jobs/{name}/resume", post(resume))
        .route("/workflows", post(begin))
        .route("/workflows/{name}", get(workflow))
        .route("/leader", get(leader))
        .route("/healthz", get(health))
        .route("/", get(page::html))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/status", get(page::status))
        .fallback(|| async { Problem::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .with_state(desk)
}

async fn add(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let new = posted::job(&posted::body(request).await?)?;
    let job = desk.store.add(&new, now()).await?;
    let location = format!("/jobs/{}", new.name);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(job),
    )
        .into_response())
}

#[derive(Deserialize)]
struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

async fn jobs(
    State(desk): State<Arc<Desk>>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(page) = page.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = page.limit.unwrap_or(100).min(MOST_JOBS);
    let jobs = desk.store.jobs(page.after.as_deref(), limit).await?;
    let next = jobs.last().filter(|_| jobs.len() == limit);
    let next = next.map(|last| last.job.name.clone());
    Ok(Json(json!({"jobs": jobs, "next": next})).into_response())
}

async fn job(State(desk): State<Arc<Desk>>, name: Name) -> Result<Response, Problem> {
    let name = known(name)?;
    let job = desk.store.job(&name).await?;
    let job = job.ok_or_else(|| Error::NotFound("job", name.clone()))?;
    let mut shown = json!(job);
    shown["runs"] = json!(desk.store.history(&name, RUNS).await?);
    Ok(Json(shown).into_response())
}

async fn pause(State(desk): State<Arc<Desk>>, name: Name) -> Result<Response, Problem> {
    Ok(Json(desk.store.pause(&known(name)?).await?).into_response())
}

async fn resume(State(desk): State<Arc<Desk>>, name: Name) -> Result<Response, Problem> {
    Ok(Json(desk.store.resume(&known(name)?, now()).await?).into_response())
}

async fn delete(State(desk): State<Arc<Desk>>, name: Name) -> Result<Response, Problem> {
    desk.store.delete(&known(name)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn begin(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Problem> {
    let new = posted::workflow(&posted::body(request).await?)?;
    let workflow = desk.store.begin(&new, now()).await?;
    let location = format!("/workflows/{}", new.name);
    Ok((
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(workflow),
    )
        .into_response())
}

async fn workflow(State(desk): State<Arc<Desk>>, name: Name) -> Result<Response, Problem> {
    let name = known(name)?;
    let workflow = desk.store.workflow(&name).await?;
    let workflow = workflow.ok_or(Error::NotFound("workflow", name))?;
    Ok(Json(workflow).into_response())
}

/// `{"node","token"}`, both null while nobody leads.
async fn leader(State(desk): State<Arc<Desk>>) -> Result<Json<Value>, Problem> {
    Ok(Json(desk.leader().await?))
}

async fn health(State(desk): State<Arc<Desk>>) -> Result<Json<Value>, Problem> {
    desk.leader().await?;
    Ok(Json(json!({"redis": "up"})))
}

impl Desk {
    async fn leader(&self) -> Result<Value, Error> {
        let term = self.lease.holder().await?;
        Ok(match term {
            Some(term) => json!({"node": term.node, "token": term.token}),
            None => json!({"node": null, "token": null}),
        })
    }
}

/// What cannot be read is the name of nothing.
fn known(name: Name) -> Result<String, Problem> {
    let Ok(Path(name)) = name else {
        return Err(Problem::not_found("there is nothing of this name"));
    };
    Ok(name)
}
