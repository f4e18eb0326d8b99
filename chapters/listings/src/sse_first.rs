//! A stream of three frames, and what a client gets.

// ANCHOR: all
use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn events() -> impl IntoResponse {
    let frames = [
        "retry: 2000\n\n",
        "id: 1\nevent: price\ndata: 12.50\n\n",
        "id: 2\nevent: price\ndata: 12.75\n\n",
    ];
    // This stream ends after three frames. One of a real feed goes on.
    let frames = stream::iter(frames.map(Ok::<_, Infallible>));
    let headers =
        [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(frames))
}

pub async fn run() -> anyhow::Result<()> {
    let app = Router::new().route("/events", get(events));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut client = TcpStream::connect(listener.local_addr()?).await?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    client.write_all(b"GET /events HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    for line in answer.lines().filter(|line| !line.starts_with("date:")) {
        println!("{line}");
    }
    Ok(())
}
// ANCHOR_END: all
