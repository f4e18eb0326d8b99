//! One client that does not read, among others that do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{
    CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade,
};
use axum::routing::any;
use futures::StreamExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::sockets::{Client, heard};

/// Together far more than the buffers of a connection hold.
const MESSAGES: usize = 400;
const SIZE: usize = 16 * 1024;

// ANCHOR: sequential
async fn to_all(sockets: &mut [WebSocket], text: &Utf8Bytes) {
    for socket in sockets {
        let _ = socket.send(Message::Text(text.clone())).await;
    }
}
// ANCHOR_END: sequential

// ANCHOR: queue
/// The one way to a client. Its two ends are the room's and the writer's.
struct Outbox {
    queue: mpsc::Sender<Utf8Bytes>,
    too_slow: Arc<Notify>,
}

impl Outbox {
    /// Never waits. `false`: this client is out.
    fn push(&self, text: &Utf8Bytes) -> bool {
        let fits = self.queue.try_send(text.clone()).is_ok();
        if !fits {
            self.too_slow.notify_one();
        }
        fits
    }
}
// ANCHOR_END: queue

// ANCHOR: writer
async fn writer(
    mut socket: WebSocket,
    mut messages: mpsc::Receiver<Utf8Bytes>,
    too_slow: Arc<Notify>,
) {
    let writing = async {
        while let Some(text) = messages.recv().await {
            if socket.send(Message::Text(text)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = writing => return,
        () = too_slow.notified() => {}
    }
    // Perhaps it reads again. It gets the frame that was being written, and then this.
    let close = CloseFrame { code: 1013, reason: "too slow".into() };
    let goodbye = async {
        if socket.send(Message::Close(Some(close))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(Duration::from_secs(5), goodbye).await;
}
// ANCHOR_END: writer

type Sockets = mpsc::UnboundedSender<WebSocket>;

async fn upgrade(
    State(sockets): State<Sockets>,
    request: WebSocketUpgrade,
) -> axum::response::Response {
    request.on_upgrade(async move |socket| drop(sockets.send(socket)))
}

/// Connections with small buffers in the kernel, so that little is needed to fill them.
async fn serve_small(app: Router) -> anyhow::Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(16 * 1024)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener: TcpListener = socket.listen(16)?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

async fn connect_small(address: SocketAddr) -> anyhow::Result<Client> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    let socket: TcpStream = socket.connect(address).await?;
    Ok(tokio_tungstenite::client_async(format!("ws://{address}/"), socket).await?.0)
}

/// A client that reads everything. It says how much that was when it has heard from all.
fn reads(mut client: Client) -> (tokio::task::JoinHandle<()>, Arc<Mutex<usize>>) {
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    let task = tokio::spawn(async move {
        while let Some(Ok(message)) = client.next().await {
            if message.is_text() {
                let mut count =
                    counter.lock().unwrap_or_else(PoisonError::into_inner);
                *count += 1;
                if *count == MESSAGES {
                    break;
                }
            }
        }
    });
    (task, count)
}

pub async fn run() -> anyhow::Result<()> {
    let (sockets, mut arrived) = mpsc::unbounded_channel();
    let app = Router::new().route("/", any(upgrade)).with_state(sockets);
    let address = serve_small(app).await?;
    let text = Utf8Bytes::from("x".repeat(SIZE));

    // ANCHOR: delayed
    // The first one does not read. The second one does.
    let stalled = connect_small(address).await?;
    let mut sockets: Vec<WebSocket> = arrived.recv().await.into_iter().collect();
    let (task, count) = reads(connect_small(address).await?);
    sockets.extend(arrived.recv().await);
    let everything = async {
        for _ in 0..MESSAGES {
            to_all(&mut sockets, &text).await;
        }
    };
    let done = timeout(Duration::from_millis(200), everything).await.is_ok();
    println!("one after the other: sent to all: {done}");
    let heard_all =
        *count.lock().unwrap_or_else(PoisonError::into_inner) == MESSAGES;
    println!("the one who reads has all: {heard_all}");
    // ANCHOR_END: delayed
    task.abort();
    drop((stalled, sockets));

    // ANCHOR: unbounded
    let stalled = connect_small(address).await?;
    let (queue, mut messages) = mpsc::unbounded_channel::<Utf8Bytes>();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let socket = arrived.recv().await;
    let writing = tokio::spawn(async move {
        let Some(mut socket) = socket else { return };
        while let Some(text) = messages.recv().await {
            let _ = socket.send(Message::Text(text)).await;
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    for _ in 0..MESSAGES {
        queue.send(text.clone())?;
        tokio::task::yield_now().await;
    }
    let waiting = MESSAGES - written.load(Ordering::Relaxed);
    println!(
        "unbounded: {MESSAGES} accepted, more than 300 wait: {}",
        waiting > 300
    );
    // ANCHOR_END: unbounded
    writing.abort();
    drop(stalled);

    // ANCHOR: once
    let copy = text.clone();
    println!("a clone has the same bytes: {}", copy.as_ptr() == text.as_ptr());
    // ANCHOR_END: once

    // ANCHOR: bounded
    let mut stalled = connect_small(address).await?;
    let socket_of_stalled = arrived.recv().await;
    let (task, count) = reads(connect_small(address).await?);
    let socket_of_reader = arrived.recv().await;
    let mut outboxes = Vec::new();
    for socket in [socket_of_stalled, socket_of_reader].into_iter().flatten() {
        let (queue, messages) = mpsc::channel(64);
        let too_slow = Arc::new(Notify::new());
        tokio::spawn(writer(socket, messages, Arc::clone(&too_slow)));
        outboxes.push(Outbox { queue, too_slow });
    }
    for _ in 0..MESSAGES {
        outboxes.retain(|outbox| outbox.push(&text));
        // The room's pace: here, that of the client that reads.
        while outboxes.last().is_some_and(|o| o.queue.capacity() < 32) {
            tokio::task::yield_now().await;
        }
    }
    println!("with queues: {} of 2 still in", outboxes.len());
    task.await?;
    println!(
        "who reads has {}",
        count.lock().unwrap_or_else(PoisonError::into_inner)
    );
    // Now the stalled one reads again.
    let mut whole = 0;
    let last = loop {
        match heard(&mut stalled).await {
            text if text.len() == SIZE => whole += 1,
            other => break other,
        }
    };
    println!("who did not: fewer than all: {}, then {last}", whole < MESSAGES);
    // ANCHOR_END: bounded
    Ok(())
}
