//! The shortest servers: what the libraries cost by themselves.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use axum::serve::ListenerExt as _;
use chat_server::{CancellationToken, Options, serve};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// The chat server, without a limit on the rate.
pub async fn chat() -> anyhow::Result<SocketAddr> {
    let options = Options {
        rate: 0,
        ..Options::default()
    };
    let (listener, address) = listen().await?;
    tokio::spawn(serve(listener, options, CancellationToken::new()));
    Ok(address)
}

/// An echo on axum.
pub async fn axum_echo() -> anyhow::Result<SocketAddr> {
    async fn echo(mut socket: WebSocket) {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }
    let upgrade = async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo);
    on_axum(Router::new().route("/echo", any(upgrade))).await
}

/// An echo on tokio-tungstenite.
pub async fn tungstenite_echo() -> anyhow::Result<SocketAddr> {
    let (listener, address) = listen().await?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// One room on axum: whatever anybody sends goes to everybody.
pub async fn axum_room() -> anyhow::Result<SocketAddr> {
    let (room, _) = broadcast::channel::<Utf8Bytes>(1_024);
    let upgrade = async move |upgrade: WebSocketUpgrade| {
        let (said, mut heard) = (room.clone(), room.subscribe());
        upgrade.on_upgrade(async move |mut socket| {
            loop {
                tokio::select! {
                    Some(Ok(message)) = socket.recv() => if let Message::Text(text) = message {
                        let _ = said.send(text);
                    },
                    Ok(text) = heard.recv() => {
                        if socket.send(Message::Text(text)).await.is_err() {
                            return;
                        }
                    }
                    else => return,
                }
            }
        })
    };
    on_axum(Router::new().route("/ws", any(upgrade))).await
}

async fn on_axum(routes: Router) -> anyhow::Result<SocketAddr> {
    let (listener, address) = listen().await?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

async fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
