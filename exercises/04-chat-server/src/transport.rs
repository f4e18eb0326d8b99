//! TCP below HTTP and WebSocket: small packets at once, a bounded buffer in the kernel, and an end
//! that does not swallow the last frame.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// What the kernel may hold for one client that does not read. Left to itself it takes megabytes.
const SEND_BUFFER: usize = 128 * 1024;

/// How long a connection that we ended may still take to end on the other side.
const LINGER: Duration = Duration::from_secs(1);

/// A listener whose connections are [`Connection`]s.
pub struct Accepting {
    listener: TcpListener,
    lingering: TaskTracker,
}

impl Accepting {
    /// Accepts on `listener`. Connections that linger are tracked by `lingering`.
    pub fn new(listener: TcpListener, lingering: TaskTracker) -> Self {
        Accepting {
            listener,
            lingering,
        }
    }
}

impl Listener for Accepting {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // axum's own way to accept, which waits a while when the process has no descriptor left.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let tuned = stream
            .set_nodelay(true)
            .and_then(|()| socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER));
        if let Err(error) = tuned {
            tracing::debug!(%error, %peer, "could not tune a connection");
        }
        let connection = Connection {
            stream: Some(stream),
            lingering: self.lingering.clone(),
        };
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A TCP connection that lingers when it is dropped: it says that nothing more comes, and throws away
/// what the client had under way. A system that closes a connection with unread bytes resets it, and
/// the client then may never see what was sent last: the Close frame that says what it did wrong.
pub struct Connection {
    /// `None` only while it is dropped.
    stream: Option<TcpStream>,
    lingering: TaskTracker,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            let linger = async move {
                let _ = stream.shutdown().await;
                let mut unread = [0; 4096];
                let drain = async { while stream.read(&mut unread).await.is_ok_and(|n| n > 0) {} };
                let _ = timeout(LINGER, drain).await;
            };
            self.lingering.spawn_on(linger, &runtime);
        }
    }
}

impl Connection {
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.stream.as_mut().map(Pin::new).ok_or_else(gone)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
