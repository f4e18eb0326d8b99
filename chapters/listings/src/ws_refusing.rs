//! Saying no: before the upgrade, after it, and how often.

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{
    CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade,
};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures::SinkExt;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

// In this crate it goes by another name than the client's.
use ::tungstenite as axums;
use axums::error::ProtocolError;

use crate::sockets::{connect, heard, serve};

fn close(code: u16) -> Message {
    Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }))
}

// ANCHOR: doors
async fn before(_request: WebSocketUpgrade) -> Response {
    StatusCode::UNAUTHORIZED.into_response()
}

async fn after(request: WebSocketUpgrade) -> Response {
    request.on_upgrade(async |mut socket: WebSocket| {
        let _ = socket.send(close(1008)).await;
    })
}
// ANCHOR_END: doors

// ANCHOR: limits
async fn limited(request: WebSocketUpgrade) -> Response {
    request.max_message_size(10).on_upgrade(answer_errors)
}

async fn half_limited(request: WebSocketUpgrade) -> Response {
    request.max_frame_size(10).on_upgrade(answer_errors)
}

async fn answer_errors(mut socket: WebSocket) {
    while let Some(received) = socket.recv().await {
        let answer = match received {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => message,
            Ok(_) => continue,
            Err(error) => {
                let words = error.to_string();
                let Some(code) = code_for(error) else { return };
                println!("server: {words}");
                close(code)
            }
        };
        let _ = socket.send(answer).await;
    }
}
// ANCHOR_END: limits

// ANCHOR: codes
/// The close code that fits an error, or none when there is nobody left to tell.
fn code_for(error: axum::Error) -> Option<u16> {
    // axum 0.8's WebSocket is tungstenite 0.29's. The same type of 0.30 is another type.
    let cause = error.into_inner().downcast::<axums::Error>().ok()?;
    match *cause {
        axums::Error::Capacity(_) => Some(1009),
        axums::Error::Utf8(_) => Some(1007),
        axums::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        axums::Error::Protocol(_) => Some(1002),
        _ => None,
    }
}
// ANCHOR_END: codes

async fn silent(request: WebSocketUpgrade) -> Response {
    request.max_message_size(10).on_upgrade(async |mut socket: WebSocket| {
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

// ANCHOR: bucket
/// `rate` a second in the long run, and `burst` at once.
struct Bucket {
    rate: f64,
    burst: f64,
    left: f64,
    at: Duration,
}

impl Bucket {
    fn allows(&mut self, now: Duration) -> bool {
        let gained = (now - self.at).as_secs_f64() * self.rate;
        self.left = (self.left + gained).min(self.burst);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}
// ANCHOR_END: bucket

pub async fn run() -> anyhow::Result<()> {
    let app = Router::new()
        .route("/before", any(before))
        .route("/after", any(after))
        .route("/limited", any(limited))
        .route("/half", any(half_limited))
        .route("/silent", any(silent));
    let address = serve(app).await?;

    // ANCHOR: refused
    match connect(address, "/before").await {
        Ok(_) => println!("before: open"),
        Err(error) => println!("before: {error}"),
    }
    match connect(address, "/after").await {
        Ok(mut client) => {
            println!("after: open, then {}", heard(&mut client).await)
        }
        Err(error) => println!("after: {error}"),
    }
    // ANCHOR_END: refused

    let mut clients = Vec::new();

    // ANCHOR: sizes
    for path in ["/half", "/limited"] {
        let mut client = connect(address, path).await?;
        // Three frames of 6 bytes are one message of 18.
        for (kind, last) in
            [(Data::Text, false), (Data::Continue, false), (Data::Continue, true)]
        {
            let frame = Frame::message("sixsix", OpCode::Data(kind), last);
            client.send(tungstenite::Message::Frame(frame)).await?;
        }
        println!("{path}: {}", heard(&mut client).await);
        clients.push(client);
    }
    // ANCHOR_END: sizes

    // ANCHOR: utf8
    let mut client = connect(address, "/limited").await?;
    let bytes: &[u8] = b"caf\xe9";
    let frame = Frame::message(bytes, OpCode::Data(Data::Text), true);
    client.send(tungstenite::Message::Frame(frame)).await?;
    println!("latin-1: {}", heard(&mut client).await);
    clients.push(client);

    let mut client = connect(address, "/silent").await?;
    client.send(tungstenite::Message::text("more than ten bytes")).await?;
    println!("nobody answers errors: {}", heard(&mut client).await);
    // ANCHOR_END: utf8

    // ANCHOR: rate
    let mut bucket =
        Bucket { rate: 2.0, burst: 4.0, left: 4.0, at: Duration::ZERO };
    let mut allowed = |at| (0..10).filter(|_| bucket.allows(at)).count();
    println!("ten at once: {} pass", allowed(Duration::ZERO));
    println!("ten a second later: {} pass", allowed(Duration::from_secs(1)));
    println!("ten an hour later: {} pass", allowed(Duration::from_secs(3600)));
    // ANCHOR_END: rate
    Ok(())
}
