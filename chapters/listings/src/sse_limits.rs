//! Counting streams exactly, and saying no in a way that a browser understands.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::feed::Feed;
use crate::sockets::serve;

// ANCHOR: open
async fn open(State(places): State<Arc<Semaphore>>) -> Response {
    match places.try_acquire_owned() {
        Ok(place) => Body::from_stream(frames(place)).into_response(),
        Err(_) => {
            let later = [(header::RETRY_AFTER, "2")];
            (StatusCode::SERVICE_UNAVAILABLE, later).into_response()
        }
    }
}

/// The place is given back when the body is dropped, whatever the reason.
fn frames(
    place: OwnedSemaphorePermit,
) -> impl futures::Stream<Item = Result<&'static str, Infallible>> {
    let hello = stream::once(async { Ok("retry: 2000\n\n") });
    hello.chain(stream::pending()).map(move |frame| {
        let _held = &place;
        frame
    })
}
// ANCHOR_END: open

pub async fn run() -> anyhow::Result<()> {
    // ANCHOR: racy
    let clients = AtomicUsize::new(0);
    let asks = (0..10).map(|_| async {
        let there = clients.load(Ordering::SeqCst);
        // Anything that waits: a question to Redis, say.
        tokio::task::yield_now().await;
        if there < 3 {
            clients.fetch_add(1, Ordering::SeqCst);
        }
    });
    join_all(asks).await;
    println!("look, then count: {} of at most 3", clients.into_inner());
    // ANCHOR_END: racy

    // ANCHOR: places
    let places = Arc::new(Semaphore::new(3));
    let app =
        Router::new().route("/events", get(open)).with_state(Arc::clone(&places));
    let address = serve(app).await?;
    let feeds = join_all((0..10).map(|_| Feed::open(address, ""))).await;
    let mut feeds: Vec<Feed> = feeds.into_iter().collect::<Result<_, _>>()?;
    let open = |feed: &Feed| feed.head[0].contains("200");
    println!("of ten at once, {} are in", feeds.iter().filter(|f| open(f)).count());
    let refused = feeds.iter().find(|feed| !open(feed));
    println!("the others: {:?}", refused.map(|feed| &feed.head[..2]));
    // One leaves, and there is a place again as soon as the server has noticed.
    if let Some(leaves) = feeds.iter().position(open) {
        drop(feeds.remove(leaves));
    }
    let _free = places.acquire().await?;
    println!("a place is free again");
    // ANCHOR_END: places
    Ok(())
}
