//! Comments that keep a quiet stream alive, and the headers that go with it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use futures::stream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::feed::{Feed, events};
use crate::sockets::serve;

const BEAT: Duration = Duration::from_millis(50);

type Events = Arc<Mutex<Option<mpsc::Receiver<u64>>>>;

// ANCHOR: beat
/// The next frame, or a comment if there is none for a while.
async fn next(events: &mut mpsc::Receiver<u64>) -> Option<String> {
    match timeout(BEAT, events.recv()).await {
        Ok(Some(id)) => Some(format!("id: {id}\ndata: event {id}\n\n")),
        Ok(None) => None,
        Err(_quiet) => Some(":\n\n".to_owned()),
    }
}
// ANCHOR_END: beat

// ANCHOR: headers
async fn open(State(events): State<Events>) -> impl IntoResponse {
    let headers = [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
    ];
    let events = events.lock().unwrap_or_else(PoisonError::into_inner).take();
    let frames = stream::unfold(events, async |events| {
        let mut events = events?;
        let frame = next(&mut events).await?;
        Some((Ok::<_, Infallible>(frame), Some(events)))
    });
    (headers, Body::from_stream(frames))
}
// ANCHOR_END: headers

pub async fn run() -> anyhow::Result<()> {
    // ANCHOR: run
    let (publisher, queue) = mpsc::channel(16);
    let queue: Events = Arc::new(Mutex::new(Some(queue)));
    let address =
        serve(Router::new().route("/events", get(open)).with_state(queue)).await?;
    publisher.send(1).await?;
    let mut feed = Feed::open(address, "").await?;
    println!("{}", feed.head.join("\n"));
    let mut lines = Vec::new();
    // Nothing is published until there was a comment. Then a second event, and the end.
    while !lines.iter().any(|line| line == ":") {
        lines.extend(feed.line().await);
    }
    publisher.send(2).await?;
    drop(publisher);
    while let Some(line) = feed.line().await {
        lines.push(line);
    }
    let found = events(&(lines.join("\n") + "\n")).len();
    lines.retain(|line| !line.is_empty());
    // On a slow machine there may have been more comments than one.
    lines.dedup();
    println!("{}", lines.join(" / "));
    println!("events: {found}");
    // ANCHOR_END: run

    // ANCHOR: as_data
    let with_comments = "id: 1\ndata: a\n\n:\n\n:\n\n";
    let with_events = "id: 1\ndata: a\n\ndata: beat\n\nid: x\ndata: beat\n\n";
    println!("comments: {} event", events(with_comments).len());
    let wrong = events(with_events);
    let last = wrong.last().map(|event| event.last_id.as_str());
    println!("data: {} events, and the client resumes from {last:?}", wrong.len());
    // ANCHOR_END: as_data
    Ok(())
}
