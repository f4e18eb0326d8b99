//! Reading and writing in one task, and in two halves.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

type Heard = mpsc::UnboundedSender<String>;

fn news() -> Message {
    Message::Text("x".repeat(64 * 1024).into())
}

// ANCHOR: one
async fn in_one_task(mut socket: WebSocket, heard: Heard) {
    loop {
        tokio::select! {
            biased;
            Some(Ok(Message::Text(text))) = socket.recv() => {
                let _ = heard.send(text.to_string());
            }
            // There is always something to send. While this waits, nobody reads.
            () = std::future::ready(()) => {
                if socket.send(news()).await.is_err() {
                    return;
                }
            }
        }
    }
}
// ANCHOR_END: one

// ANCHOR: halves
async fn in_halves(socket: WebSocket, heard: Heard) {
    let (mut write, mut read) = socket.split();
    let writing = async { while write.send(news()).await.is_ok() {} };
    let reading = async {
        while let Some(Ok(message)) = read.next().await {
            if let Message::Text(text) = message {
                let _ = heard.send(text.to_string());
            }
        }
    };
    // Either end is the end of both.
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}
// ANCHOR_END: halves

async fn one(State(heard): State<Heard>, request: WebSocketUpgrade) -> Response {
    request.on_upgrade(|socket| in_one_task(socket, heard))
}

async fn halves(State(heard): State<Heard>, request: WebSocketUpgrade) -> Response {
    request.on_upgrade(|socket| in_halves(socket, heard))
}

pub async fn run() -> anyhow::Result<()> {
    let (heard, mut hears) = mpsc::unbounded_channel();
    let app = Router::new()
        .route("/one", any(one))
        .route("/halves", any(halves))
        .with_state(heard);
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(16 * 1024)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener: TcpListener = socket.listen(16)?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    // ANCHOR: run
    // A client that talks, and does not read what it is sent.
    for path in ["/one", "/halves"] {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(16 * 1024)?;
        let socket = socket.connect(address).await?;
        let url = format!("ws://{address}{path}");
        let (mut client, _) = tokio_tungstenite::client_async(url, socket).await?;
        // By now its buffers are full.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send(tungstenite::Message::text("I leave")).await?;
        // No use in waiting long for what does not come.
        let patience = if path == "/one" { 200 } else { 10_000 };
        let heard = timeout(Duration::from_millis(patience), hears.recv()).await;
        println!("{path}: heard {:?}", heard.ok().flatten());
    }
    // ANCHOR_END: run
    Ok(())
}
