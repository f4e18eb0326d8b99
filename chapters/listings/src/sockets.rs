//! What the listings about WebSocket share.

use std::net::SocketAddr;

use axum::Router;
use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

// ANCHOR: shared
/// Serves on a free port of this machine, for as long as the listing runs.
pub async fn serve(app: Router) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

pub type Client = WebSocketStream<TcpStream>;

/// A client that speaks tungstenite's WebSocket, not axum's.
pub async fn connect(address: SocketAddr, path: &str) -> anyhow::Result<Client> {
    let socket = TcpStream::connect(address).await?;
    let url = format!("ws://{address}{path}");
    Ok(tokio_tungstenite::client_async(url, socket).await?.0)
}

/// Waits for the next thing that a client hears, and puts it into words.
pub async fn heard(client: &mut Client) -> String {
    match client.next().await {
        Some(Ok(Message::Text(text))) => text.to_string(),
        Some(Ok(Message::Binary(bytes))) => format!("{} bytes", bytes.len()),
        Some(Ok(Message::Ping(_))) => "a ping".to_owned(),
        Some(Ok(Message::Pong(_))) => "a pong".to_owned(),
        Some(Ok(Message::Close(Some(close)))) => format!("close {}", close.code),
        Some(Ok(Message::Close(None))) => "close without a code".to_owned(),
        Some(Ok(Message::Frame(_))) => "a frame".to_owned(),
        Some(Err(Error::Protocol(_) | Error::Io(_))) => {
            "the connection broke off".to_owned()
        }
        Some(Err(error)) => error.to_string(),
        None => "the end".to_owned(),
    }
}
// ANCHOR_END: shared
