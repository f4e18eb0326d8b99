//! Clients that do as little as possible.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub type Socket = WebSocketStream<TcpStream>;

/// Connects to a path, such as `/echo`.
pub async fn connect(address: SocketAddr, path: &str) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{address}{path}");
    let (socket, _) = tokio_tungstenite::client_async(url, stream)
        .await
        .with_context(|| format!("the handshake at {path}"))?;
    Ok(socket)
}

/// Connects to `/ws` and joins the room.
pub async fn join(address: SocketAddr, name: &str) -> anyhow::Result<Socket> {
    let mut socket = connect(address, &format!("/ws?name={name}")).await?;
    say(&mut socket, r#"{"type":"join","room":"tea"}"#).await?;
    while let Some(message) = socket.next().await {
        if message?
            .to_text()?
            .contains(&format!("\"name\":\"{name}\""))
        {
            return Ok(socket);
        }
    }
    anyhow::bail!("{name} was not let in")
}

/// Sends a text.
pub async fn say<S>(socket: &mut S, text: &str) -> anyhow::Result<()>
where
    S: Sink<Message, Error = tokio_tungstenite::tungstenite::Error> + Unpin,
{
    Ok(socket.send(Message::text(text)).await?)
}

/// What a member says, with a text of this length.
pub fn message(length: usize) -> String {
    format!(
        r#"{{"type":"say","room":"tea","text":"{}"}}"#,
        "x".repeat(length)
    )
}

/// Counts down until everybody has got something.
#[derive(Default)]
pub struct Countdown {
    left: AtomicUsize,
    done: Notify,
}

impl Countdown {
    pub fn set(&self, left: usize) {
        self.left.store(left, Ordering::Release);
    }

    pub fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    pub async fn done(&self) {
        self.done.notified().await;
    }
}

/// Reads for ever, and counts each message that is longer than any announcement of a join.
pub fn read<S>(mut socket: S, heard: impl Fn() + Send + 'static)
where
    S: Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>>
        + Send
        + Unpin
        + 'static,
{
    tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && message.len() > ANNOUNCEMENT {
                heard();
            }
        }
    });
}

/// Messages of a measurement are longer than this, and everything else is shorter.
pub const ANNOUNCEMENT: usize = 120;

/// Members who count what they hear.
pub fn listen(sockets: Vec<Socket>) -> Arc<Countdown> {
    let countdown = Arc::new(Countdown::default());
    for socket in sockets {
        let countdown = Arc::clone(&countdown);
        read(socket, move || countdown.one_less());
    }
    countdown
}
