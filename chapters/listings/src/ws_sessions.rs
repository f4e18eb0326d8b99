//! Three loops over a socket that look alike.

use axum::Router;
use axum::extract::ws::{
    CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade,
};
use axum::routing::any;
use futures::SinkExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;

use crate::sockets::{connect, heard, serve};

// ANCHOR: first_ping
async fn ends_at_a_ping(mut socket: WebSocket) {
    while let Some(Ok(Message::Text(text))) = socket.recv().await {
        if socket.send(Message::Text(text)).await.is_err() {
            break;
        }
    }
}
// ANCHOR_END: first_ping

// ANCHOR: at_close
async fn breaks_at_close(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Close(_) => break,
            _ => continue,
        }
    }
}

async fn reads_to_the_end(mut socket: WebSocket) {
    while let Some(Ok(_)) = socket.recv().await {}
}
// ANCHOR_END: at_close

// ANCHOR: we_close
async fn says_goodbye(mut socket: WebSocket) -> Vec<&'static str> {
    let close =
        CloseFrame { code: 1001, reason: Utf8Bytes::from_static("stopping") };
    let mut heard = Vec::new();
    if socket.send(Message::Close(Some(close))).await.is_ok() {
        // What the client had under way still comes, and at last its own Close.
        while let Some(Ok(message)) = socket.recv().await {
            heard.push(match message {
                Message::Close(_) => "close",
                _ => "data",
            });
        }
    }
    heard
}
// ANCHOR_END: we_close

pub async fn run() -> anyhow::Result<()> {
    let (told, mut hears) = mpsc::unbounded_channel();
    let app = Router::new()
        .route(
            "/ping",
            any(async |r: WebSocketUpgrade| r.on_upgrade(ends_at_a_ping)),
        )
        .route(
            "/break",
            any(async |r: WebSocketUpgrade| r.on_upgrade(breaks_at_close)),
        )
        .route(
            "/end",
            any(async |r: WebSocketUpgrade| r.on_upgrade(reads_to_the_end)),
        )
        .route(
            "/bye",
            any(async move |r: WebSocketUpgrade| {
                r.on_upgrade(async move |socket| {
                    drop(told.send(says_goodbye(socket).await));
                })
            }),
        );
    let address = serve(app).await?;

    // ANCHOR: ping
    let mut client = connect(address, "/ping").await?;
    client.send(tungstenite::Message::text("one")).await?;
    println!("{}", heard(&mut client).await);
    client.send(tungstenite::Message::Ping("?".into())).await?;
    println!("{}", heard(&mut client).await);
    // ANCHOR_END: ping

    // ANCHOR: close
    for path in ["/break", "/end"] {
        let mut client = connect(address, path).await?;
        client.close(None).await?;
        println!("{path}: {}", heard(&mut client).await);
    }
    // ANCHOR_END: close

    // ANCHOR: bye
    let mut client = connect(address, "/bye").await?;
    client.send(tungstenite::Message::text("one more")).await?;
    println!("client: {}", heard(&mut client).await);
    println!("client: {}", heard(&mut client).await);
    println!("server: {}", hears.recv().await.unwrap_or_default().join(", "));
    // ANCHOR_END: bye

    // ANCHOR: codes
    for code in [1000_u16, 1005, 1014, 3000, 4999, 5000] {
        let mut client = connect(address, "/end").await?;
        let frame = tungstenite::protocol::CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        client.close(Some(frame)).await?;
        println!("{code}: {}", heard(&mut client).await);
    }
    // ANCHOR_END: codes
    Ok(())
}
