//! A client that does not read, and one that is gone: what hyper does, and what it does not.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use futures::stream;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::feed::Feed;

const SIZE: usize = 16 * 1024;

// ANCHOR: hub
#[derive(Clone)]
struct Hub {
    /// How many frames were taken out of a queue, to be written.
    taken: Arc<AtomicUsize>,
    /// The sending end of each new client's queue.
    clients: mpsc::UnboundedSender<mpsc::Sender<Bytes>>,
    /// Told when the body of an answer is dropped.
    dropped: mpsc::UnboundedSender<()>,
}

/// Lives in the body of an answer.
struct Frames {
    frames: mpsc::Receiver<Bytes>,
    hub: Hub,
}

impl Drop for Frames {
    fn drop(&mut self) {
        let _ = self.hub.dropped.send(());
    }
}

async fn open(State(hub): State<Hub>) -> Body {
    let (queue, frames) = mpsc::channel(64);
    let _ = hub.clients.send(queue);
    let frames = Frames { frames, hub };
    Body::from_stream(stream::unfold(frames, async |mut body| {
        let frame = body.frames.recv().await?;
        body.hub.taken.fetch_add(1, Ordering::Relaxed);
        Some((Ok::<_, Infallible>(frame), body))
    }))
}
// ANCHOR_END: hub

/// Small buffers in the kernel, so that little is needed to fill them.
async fn serve_small(app: Router) -> anyhow::Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(16 * 1024)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener: TcpListener = socket.listen(16)?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

async fn ask_small(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    let mut client = socket.connect(address).await?;
    client.write_all(b"GET /events HTTP/1.0\r\n\r\n").await?;
    Ok(client)
}

pub async fn run() -> anyhow::Result<()> {
    let (clients, mut arrived) = mpsc::unbounded_channel();
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let taken = Arc::new(AtomicUsize::new(0));
    let hub = Hub { taken: Arc::clone(&taken), clients, dropped };
    let app = Router::new().route("/events", get(open)).with_state(hub);
    let address = serve_small(app).await?;

    // ANCHOR: gone
    let feed = Feed::open(address, "").await?;
    let queue = arrived.recv().await;
    drop(feed);
    // Nothing is published. The body is dropped all the same.
    println!("gone, and noticed: {}", drops.recv().await.is_some());
    if let Some(queue) = queue {
        queue.closed().await;
        println!("its queue is closed: {}", queue.is_closed());
    }
    // ANCHOR_END: gone

    // ANCHOR: stalled
    let stalled = ask_small(address).await?;
    let Some(queue) = arrived.recv().await else { return Ok(()) };
    let frame = Bytes::from(vec![b'x'; SIZE]);
    let mut accepted = 0;
    // Until the queue has been full for a while.
    let full = loop {
        match timeout(Duration::from_millis(200), queue.send(frame.clone())).await {
            Ok(Ok(())) => accepted += 1,
            Ok(Err(_)) => break false,
            Err(_) => break true,
        }
    };
    let taken = taken.load(Ordering::Relaxed);
    println!("full: {full}, waiting in the queue: {}", accepted - taken);
    println!("taken for the connection, 1 to 99: {}", (1..100).contains(&taken));
    // The server decides to let this client go. It ends the stream.
    drop(queue);
    let ended = timeout(Duration::from_millis(100), drops.recv()).await;
    println!("the body is dropped: {}", ended.is_ok());
    drop(stalled);
    println!("when the client goes: {}", drops.recv().await.is_some());
    // ANCHOR_END: stalled
    Ok(())
}
