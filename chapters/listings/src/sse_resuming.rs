//! A client that is cut off after every single event, while others are published.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use futures::stream;
use tokio::sync::broadcast;

use crate::feed::Feed;
use crate::sockets::serve;

// ANCHOR: log
struct Log {
    kept: Mutex<Vec<u64>>,
    live: broadcast::Sender<u64>,
}

impl Log {
    /// The id, the place in the log and the place on the air: one step.
    fn publish(&self) -> u64 {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let id = kept.len() as u64 + 1;
        kept.push(id);
        let _ = self.live.send(id);
        id
    }

    fn after(&self, id: u64) -> Vec<u64> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().copied().filter(|other| *other > id).collect()
    }
}
// ANCHOR_END: log

fn log() -> Arc<Log> {
    let log = Log { kept: Mutex::default(), live: broadcast::channel(1024).0 };
    Arc::new(log)
}

// ANCHOR: open
async fn open(State(log): State<Arc<Log>>, headers: HeaderMap) -> Body {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last: Option<u64> = last.and_then(|id| id.parse().ok());
    // First the ear, then the book. What comes from now on is in `live`, perhaps in both.
    let live = log.live.subscribe();
    let missed = last.map(|last| log.after(last)).unwrap_or_default();
    let seen = missed.last().copied().or(last).unwrap_or_default();
    let state = (missed.into_iter(), live, seen);
    Body::from_stream(stream::unfold(
        state,
        async |(mut missed, mut live, seen)| {
            let id = match missed.next() {
                Some(id) => id,
                None => loop {
                    let id = live.recv().await.ok()?;
                    if id > seen {
                        break id;
                    }
                },
            };
            let frame = format!("id: {id}\ndata: event {id}\n\n");
            Some((Ok::<_, Infallible>(frame), (missed, live, seen)))
        },
    ))
}
// ANCHOR_END: open

pub async fn run() -> anyhow::Result<()> {
    // ANCHOR: orders
    let air = |mut live: broadcast::Receiver<u64>| {
        std::iter::from_fn(move || live.try_recv().ok()).collect::<Vec<_>>()
    };
    let both = |first: Vec<u64>, then: Vec<u64>| [first, then].concat();

    let one = log();
    one.publish();
    let missed = one.after(0);
    one.publish();
    let live = one.live.subscribe();
    one.publish();
    println!("replay, then subscribe: {:?}", both(missed, air(live)));

    let other = log();
    other.publish();
    let live = other.live.subscribe();
    other.publish();
    let missed = other.after(0);
    other.publish();
    println!("subscribe, then replay: {:?}", both(missed, air(live)));
    // ANCHOR_END: orders

    // ANCHOR: cuts
    let log = log();
    let app = Router::new().route("/events", get(open)).with_state(log.clone());
    let address = serve(app).await?;
    log.publish();
    let publisher = tokio::spawn(async move {
        while log.publish() < 100 {
            tokio::task::yield_now().await;
        }
    });
    let mut seen = vec![1];
    let mut connections = 0;
    while seen.last() != Some(&100) {
        let last = format!("Last-Event-ID: {}\r\n", seen[seen.len() - 1]);
        let mut feed = Feed::open(address, &last).await?;
        connections += 1;
        if let Some(event) = feed.event().await {
            seen.push(event.last_id.parse()?);
        }
        // And cut.
    }
    publisher.await?;
    let every_one_once = seen.iter().copied().eq(1..=100);
    println!("{connections} connections, every event once: {every_one_once}");
    // ANCHOR_END: cuts
    Ok(())
}
