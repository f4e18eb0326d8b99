//! The status page, and the stream of events that it shows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use futures::Stream;
use serde_json::{Value, json};

use super::Desk;
use crate::error::Error;

/// How often the stream looks whether something has changed.
const LOOK: Duration = Duration::from_millis(500);
/// How many jobs the page shows.
const SHOWN: usize = 100;

pub(super) async fn html() -> Html<&'static str> {
    Html(include_str!("../page/index.html"))
}

pub(super) async fn script() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")];
    (kind, include_str!("../page/page.js")).into_response()
}

pub(super) async fn style() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    (kind, include_str!("../page/page.css")).into_response()
}

/// Server-Sent Events: an event `status` at once and whenever something has changed,
/// `{"leader":{"node","token"},"jobs":[…],"more"}`, and an event `away` while Redis is.
pub(super) async fn status(State(desk): State<Arc<Desk>>) -> Response {
    let events = Sse::new(changes(desk)).keep_alive(KeepAlive::default());
    ([("x-accel-buffering", "no")], events).into_response()
}

fn changes(desk: Arc<Desk>) -> impl Stream<Item = Result<Event, Infallible>> {
    let first = (desk, None);
    futures::stream::unfold(first, async |(desk, mut shown)| {
        loop {
            let seen = match overview(&desk).await {
                Ok(overview) => ("status", overview),
                Err(error) => ("away", json!({"detail": error.to_string()})),
            };
            if shown.as_ref() != Some(&seen) {
                let event = Event::default().event(seen.0).data(seen.1.to_string());
                shown = Some(seen);
                return Some((Ok(event), (desk, shown)));
            }
            let pause = tokio::time::sleep(LOOK);
            desk.stop.run_until_cancelled(pause).await?;
        }
    })
}

async fn overview(desk: &Desk) -> Result<Value, Error> {
    let jobs = desk.store.jobs(None, SHOWN + 1).await?;
    let is_more = jobs.len() > SHOWN;
    let mut shown = Vec::new();
    for job in jobs.into_iter().take(SHOWN) {
        let last = desk.store.history(&job.job.name, 1).await?;
        let mut job = json!(job);
        job["last"] = json!(last.first());
        shown.push(job);
    }
    Ok(json!({"leader": desk.leader().await?, "jobs": shown, "more": is_more}))
}
