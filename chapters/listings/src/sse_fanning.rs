//! From one publisher to many streams, and who is counted in from when.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::feed::Feed;
use crate::sockets::serve;

type Live = broadcast::Sender<u64>;
type Frame = Result<String, Infallible>;

fn frame(id: u64) -> Frame {
    Ok(format!("id: {id}\ndata: event {id}\n\n"))
}

// ANCHOR: late
/// Subscribes when the body is read for the first time.
fn late(live: Live) -> impl Stream<Item = Frame> {
    let hello = stream::once(async { Ok("retry: 2000\n\n".to_owned()) });
    let events = stream::once(async move { live.subscribe() })
        .flat_map(|events| stream::unfold(events, next));
    hello.chain(events)
}

/// Subscribes when it is called, so before there is an answer.
fn early(live: Live) -> impl Stream<Item = Frame> {
    let events = live.subscribe();
    let hello = stream::once(async { Ok("retry: 2000\n\n".to_owned()) });
    hello.chain(stream::unfold(events, next))
}

async fn next(
    mut events: broadcast::Receiver<u64>,
) -> Option<(Frame, broadcast::Receiver<u64>)> {
    let id = events.recv().await.ok()?;
    Some((frame(id), events))
}
// ANCHOR_END: late

async fn open(State(live): State<Live>) -> impl IntoResponse {
    Body::from_stream(early(live))
}

pub async fn run() -> anyhow::Result<()> {
    // ANCHOR: from_when
    let (live, _keep) = broadcast::channel(16);
    let mut late = Box::pin(late(live.clone()));
    let mut early = Box::pin(early(live.clone()));
    // Both clients have the first bytes of their answer. To them, they are connected.
    let both = (late.next().await, early.next().await);
    println!("both begin with retry: {}", both.0 == both.1);
    live.send(1)?;
    // The server gets around to their bodies again.
    let heard = futures::poll!(late.next());
    live.send(2)?;
    println!(
        "late: 1 is there: {}, then {:?}",
        heard.is_ready(),
        late.next().await
    );
    println!("early: {:?}", early.next().await);
    // ANCHOR_END: from_when

    // ANCHOR: lag
    let (live, mut stops) = broadcast::channel(4);
    let (mut skips, mut notices) = (live.subscribe(), live.subscribe());
    for id in 1..=10 {
        live.send(id)?;
    }
    drop(live);
    let mut got = Vec::new();
    while let Ok(id) = stops.recv().await {
        got.push(id);
    }
    println!("while let Ok: {got:?}");

    let mut got = Vec::new();
    loop {
        match skips.recv().await {
            Ok(id) => got.push(id),
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => break,
        }
    }
    println!("continue at Lagged: {got:?}");
    println!("what recv says: {:?}", notices.recv().await);
    // ANCHOR_END: lag

    // ANCHOR: clients
    let (live, _keep) = broadcast::channel(16);
    let app = Router::new().route("/events", get(open)).with_state(live.clone());
    let address = serve(app).await?;
    let mut first = Feed::open(address, "").await?;
    live.send(1)?;
    let mut second = Feed::open(address, "").await?;
    live.send(2)?;
    for _ in 1..=2 {
        println!("first: {:?}", first.event().await.map(|event| event.data));
    }
    println!("second: {:?}", second.event().await.map(|event| event.data));
    // ANCHOR_END: clients
    Ok(())
}
