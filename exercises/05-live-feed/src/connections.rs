//! The TCP connections of a node: accepted, served, let go and cut off.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after a connection could not be accepted, because no more files may be open, say.
const PAUSE: Duration = Duration::from_millis(100);

/// All connections of a node, each served by a task of its own. When this is dropped they are cut off.
pub(crate) struct Connections {
    router: Router,
    tasks: JoinSet<()>,
    finish: CancellationToken,
}

impl Connections {
    /// None yet. Each will be answered by `router`.
    pub fn new(router: Router) -> Self {
        Connections {
            router,
            tasks: JoinSet::new(),
            finish: CancellationToken::new(),
        }
    }

    /// Waits for a client to connect, and begins to serve it. The call may be dropped while it waits.
    pub async fn accept(&mut self, listener: &TcpListener) {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, finish) = (self.router.clone(), self.finish.clone());
                self.tasks.spawn(serve_one(stream, router, finish));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Lets every connection end: one that is idle now, another after the answer it is at. An answer
    /// that never ends is waited for; an event stream has to be ended by whoever feeds it.
    pub fn finish(&self) {
        self.finish.cancel();
    }

    /// Waits until all connections have ended.
    pub async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Cuts off what is still connected, and returns how many that were.
    pub async fn cut_off(&mut self) -> u64 {
        self.tasks.abort_all();
        let mut count = 0;
        while let Some(ended) = self.tasks.join_next().await {
            count += u64::from(ended.is_err_and(|error| error.is_cancelled()));
        }
        count
    }
}

/// The connection that a request came on.
#[derive(Clone, Default)]
pub(crate) struct Connection {
    close: CancellationToken,
}

impl Connection {
    /// Closes the connection at once, whatever is still to be written to it. To end a body is not
    /// enough for a client that does not read: the end stands behind everything else and is never
    /// reached. The call does not wait and may be made from anywhere.
    pub fn close(&self) {
        self.close.cancel();
    }
}

async fn serve_one(stream: TcpStream, router: Router, finish: CancellationToken) {
    // An event is small and must not wait for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let connection = Connection::default();
    let answer = TowerToHyperService::new(router);
    let service = {
        let connection = connection.clone();
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            answer.call(request)
        })
    };
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = connection.close.cancelled() => return,
        () = finish.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served => ended,
                () = connection.close.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
