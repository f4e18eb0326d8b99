//! A server that says everything back, and a client that talks to it.

// ANCHOR: all
use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::{connect_async, tungstenite};

pub async fn run() -> anyhow::Result<()> {
    // An HTTP request comes in. The answer is 101, and then `echo` has the connection.
    let upgrade = async |request: WebSocketUpgrade| request.on_upgrade(echo);
    let app = Router::new().route("/echo", any(upgrade));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/echo", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });

    let (mut client, response) = connect_async(url).await?;
    println!("{}", response.status());
    client.send(tungstenite::Message::text("hello")).await?;
    if let Some(message) = client.next().await {
        println!("heard {}", message?);
    }
    client.close(None).await?;
    while let Some(message) = client.next().await {
        println!("the server closes too: {}", message?.is_close());
    }
    Ok(())
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let data = matches!(message, Message::Text(_) | Message::Binary(_));
        if data && socket.send(message).await.is_err() {
            break;
        }
    }
}
// ANCHOR_END: all
