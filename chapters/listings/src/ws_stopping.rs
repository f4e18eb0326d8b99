//! What axum's graceful shutdown does for WebSockets, and what is left to do.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::sockets::{connect, heard};

// ANCHOR: node
#[derive(Clone, Default)]
struct Node {
    stop: CancellationToken,
    sessions: TaskTracker,
}

async fn enter(State(node): State<Node>, request: WebSocketUpgrade) -> Response {
    // Taken before the upgrade: from here on somebody waits for this session.
    let running = node.sessions.token();
    request.on_upgrade(async move |socket| {
        session(socket, node.stop).await;
        drop(running);
    })
}

async fn session(mut socket: WebSocket, stop: CancellationToken) {
    loop {
        tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            () = stop.cancelled() => break,
        }
    }
    let close = CloseFrame { code: 1001, reason: "stopping".into() };
    if socket.send(Message::Close(Some(close))).await.is_ok() {
        // Until the client has said goodbye too.
        while let Some(Ok(_)) = socket.recv().await {}
    }
}
// ANCHOR_END: node

pub async fn run() -> anyhow::Result<()> {
    let node = Node::default();
    let app = Router::new().route("/", any(enter)).with_state(node.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let closed = CancellationToken::new();
    let server = axum::serve(listener, app)
        .with_graceful_shutdown(closed.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());

    // ANCHOR: axum
    let mut reader = connect(address, "/").await?;
    let silent = connect(address, "/").await?;
    closed.cancel();
    server.await??;
    println!("axum has shut down; sessions: {}", node.sessions.len());
    // ANCHOR_END: axum

    // ANCHOR: stop
    node.stop.cancel();
    println!("who reads hears: {}", heard(&mut reader).await);
    println!("and answers: {}", heard(&mut reader).await);
    node.sessions.close();
    let deadline = Duration::from_millis(200);
    let all = tokio::time::timeout(deadline, node.sessions.wait()).await.is_ok();
    println!("all gone at the deadline: {all}; sessions: {}", node.sessions.len());
    // ANCHOR_END: stop
    drop(silent);
    Ok(())
}
