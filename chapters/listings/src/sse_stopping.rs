//! A shutdown that never ends, and one that does.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use futures::stream::{self, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::feed::Feed;

#[derive(Clone)]
struct Node {
    live: broadcast::Sender<u64>,
    stop: CancellationToken,
}

// ANCHOR: open
async fn open(State(node): State<Node>) -> Body {
    let hello =
        stream::once(async { Ok::<_, Infallible>("retry: 2000\n\n".to_owned()) });
    let state = (node.live.subscribe(), node.stop);
    let events = stream::unfold(state, async |(mut live, stop)| {
        let id = tokio::select! {
            // What was published before the stop comes first.
            biased;
            id = live.recv() => id.ok()?,
            () = stop.cancelled() => return None,
        };
        Some((Ok(format!("id: {id}\ndata: event {id}\n\n")), (live, stop)))
    });
    Body::from_stream(hello.chain(events))
}
// ANCHOR_END: open

pub async fn run() -> anyhow::Result<()> {
    let (live, _keep) = broadcast::channel(16);
    let node = Node { live, stop: CancellationToken::new() };
    let app = Router::new().route("/events", get(open)).with_state(node.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let closed = CancellationToken::new();
    let server = axum::serve(listener, app)
        .with_graceful_shutdown(closed.clone().cancelled_owned());
    let mut server = tokio::spawn(server.into_future());

    // ANCHOR: stop
    let mut feed = Feed::open(address, "").await?;
    closed.cancel();
    let ended = timeout(Duration::from_millis(200), &mut server).await;
    println!("axum's graceful shutdown ended: {}", ended.is_ok());

    node.live.send(1)?;
    node.live.send(2)?;
    node.stop.cancel();
    while let Some(event) = feed.event().await {
        println!("{}", event.data);
    }
    println!("the stream has ended");
    server.await??;
    println!("and so has the server");
    // ANCHOR_END: stop
    Ok(())
}
