//! Who is still there? A peer that answers pings, and one that only keeps its connection open.

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::sockets::{connect, serve};

const BEAT: Duration = Duration::from_millis(150);

type Told = mpsc::UnboundedSender<String>;

// ANCHOR: writes
async fn only_writes(mut socket: WebSocket, told: Told) {
    let mut written = 0;
    for _ in 0..100 {
        if socket.send(Message::Ping("?".into())).await.is_ok() {
            written += 1;
        }
    }
    let _ = told.send(format!("pings that were sent without an error: {written}"));
}
// ANCHOR_END: writes

// ANCHOR: beats
async fn beats(mut socket: WebSocket, told: Told) {
    let mut beat = interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard_at = Instant::now();
    let mut pongs = 0;
    while pongs < 3 {
        tokio::select! {
            biased;
            received = socket.recv() => match received {
                // Whatever it was, it came from somebody who lives.
                Some(Ok(message)) => {
                    heard_at = Instant::now();
                    pongs += u32::from(matches!(message, Message::Pong(_)));
                }
                Some(Err(_)) | None => break,
            },
            () = sleep_until(heard_at + 2 * BEAT) => break,
            _ = beat.tick() => {
                if socket.send(Message::Ping("?".into())).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = told.send(format!("ended after {pongs} pongs"));
}
// ANCHOR_END: beats

pub async fn run() -> anyhow::Result<()> {
    let (told, mut hears) = mpsc::unbounded_channel();
    let writes = told.clone();
    let app = Router::new()
        .route(
            "/writes",
            any(async move |request: WebSocketUpgrade| {
                request.on_upgrade(|socket| only_writes(socket, writes))
            }),
        )
        .route(
            "/beats",
            any(async move |request: WebSocketUpgrade| {
                request.on_upgrade(|socket| beats(socket, told))
            }),
        );
    let address = serve(app).await?;

    // ANCHOR: run
    // This client never reads, so it never answers. Its connection is in perfect order.
    let silent = connect(address, "/writes").await?;
    println!("{}", hears.recv().await.unwrap_or_default());
    drop(silent);

    let silent = connect(address, "/beats").await?;
    println!("silent: {}", hears.recv().await.unwrap_or_default());
    drop(silent);

    // This one has nothing to say. It reads, and so its library answers pings.
    let mut quiet = connect(address, "/beats").await?;
    tokio::spawn(async move { while let Some(Ok(_)) = quiet.next().await {} });
    println!("quiet: {}", hears.recv().await.unwrap_or_default());
    // ANCHOR_END: run

    // ANCHOR: ticks
    let mut plain = tokio::time::interval(Duration::from_secs(3600));
    let at_once = tokio::time::timeout(Duration::from_secs(60), plain.tick()).await;
    println!("a new interval ticks at once: {}", at_once.is_ok());
    // ANCHOR_END: ticks
    Ok(())
}
