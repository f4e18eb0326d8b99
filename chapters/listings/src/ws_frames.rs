//! What goes over the wire, byte by byte. No WebSocket library on the client's side.

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::sockets::serve;

pub async fn run() -> anyhow::Result<()> {
    let upgrade = async |request: WebSocketUpgrade| request.on_upgrade(echo);
    let address =
        serve(Router::new().route("/echo", any(upgrade))).await?.to_string();

    // ANCHOR: upgrade
    let mut socket = BufReader::new(TcpStream::connect(&address).await?);
    let request = "GET /echo HTTP/1.1\r\nHost: example\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).await?;
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await?;
        match line.trim_end() {
            "" => break,
            date if date.starts_with("date:") => {}
            line => println!("{line}"),
        }
    }
    // ANCHOR_END: upgrade

    // ANCHOR: fragments
    // A text message in two frames, and a ping between them.
    socket.write_all(&masked(0x01, b"Hel")).await?;
    socket.write_all(&masked(0x89, b"?")).await?;
    socket.write_all(&masked(0x80, b"lo")).await?;
    println!("{}", frame(&mut socket).await?);
    println!("{}", frame(&mut socket).await?);
    // A close with code 4001, in two bytes, high one first.
    socket.write_all(&masked(0x88, &4001_u16.to_be_bytes())).await?;
    println!("{}", frame(&mut socket).await?);
    println!("then {} bytes", socket.read(&mut [0; 1]).await?);
    // ANCHOR_END: fragments
    Ok(())
}

// ANCHOR: bytes
/// One short frame as a client sends it: the first byte, a bit that says "masked" and the length,
/// the mask, and the payload with the mask laid over it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut bytes = vec![first, 0x80 | payload.len() as u8];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, m)| byte ^ m));
    bytes
}

/// One short frame as a server sends it, in hexadecimal.
async fn frame(socket: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut bytes = vec![0; 2];
    socket.read_exact(&mut bytes).await?;
    bytes.resize(2 + usize::from(bytes[1]), 0);
    socket.read_exact(&mut bytes[2..]).await?;
    let bytes: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    Ok(bytes.join(" "))
}
// ANCHOR_END: bytes

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let data = matches!(message, Message::Text(_) | Message::Binary(_));
        if data && socket.send(message).await.is_err() {
            break;
        }
    }
}
