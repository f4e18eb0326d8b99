//! Ending well: everybody is told, nobody is waited for for ever.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::server::{Server, Summary};

/// How long sessions that are cut may take to be gone.
const LAST_STEPS: Duration = Duration::from_millis(200);

/// The sessions that are running, and what is counted for the [`Summary`].
#[derive(Debug)]
pub struct Sessions {
    /// One token for each session that runs.
    running: TaskTracker,
    /// Cancelled when the node begins to stop.
    stop: CancellationToken,
    /// Cancelled when everything has to end at once.
    over: CancellationToken,
    /// Sessions of `/ws` so far.
    pub clients: AtomicU64,
    /// Each `say` of them that was accepted. Other frames do not count.
    pub messages: AtomicU64,
    /// Sessions that ended by themselves after the node began to stop, whoever closed first.
    told_goodbye: AtomicU64,
    /// Sessions that were cut.
    cut: AtomicU64,
}

impl Sessions {
    /// None yet. `over` is cancelled when the node is gone, stopped or not.
    pub fn new(stop: CancellationToken, over: CancellationToken) -> Self {
        Sessions {
            running: TaskTracker::new(),
            stop,
            over,
            clients: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            told_goodbye: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        }
    }

    /// What [`finish`] waits for, until it is dropped. A session holds one from before its connection
    /// becomes a WebSocket, and from before it was asked whether the node stops: then no stop can miss
    /// a session that is just beginning. It holds it until [`run`](Self::run) has counted it.
    pub fn token(&self) -> TaskTrackerToken {
        // stub stage 9: a token of `running`
        self.running.token()
        // end stub
    }

    /// Runs a session, which holds a [token](Self::token), to its end, or until everything has to end
    /// at once: then it is dropped where it stands.
    pub async fn run(&self, session: impl Future<Output = ()>) {
        // stub stage 9: wait for the session or for `over`; count how it ended
        let ended = tokio::select! {
            biased;
            () = self.over.cancelled() => &self.cut,
            () = session => &self.told_goodbye,
        };
        if self.stop.is_cancelled() {
            ended.fetch_add(1, Ordering::Relaxed);
        }
        // end stub
    }
}

/// Ends a node after `server.stop` was cancelled. Every session sees that by itself (in `session`),
/// leaves its rooms, gives its name back and says goodbye with 1001. This waits for them, has the node
/// [leave the cluster](crate::hub::Hub::leave_the_cluster), and returns what the node did.
///
/// It returns as soon as all that is done, and after `options.stop_deadline` in any case: sessions
/// that still run then, because their client does not read its goodbye, are dropped, and get some
/// milliseconds for that. A session that is dropped before it has given its name back may still do so
/// in that time. The node does not leave the cluster then: what it still has in Redis is free when its
/// lease runs out.
pub async fn finish(server: &Server) -> Summary {
    // stub stage 9: wait for `running`, at most so long, then cancel `over`
    let sessions = &server.sessions;
    let all_gone = async {
        sessions.running.close();
        sessions.running.wait().await;
        server.hub.leave_the_cluster().await;
    };
    if timeout(server.options.stop_deadline, all_gone)
        .await
        .is_err()
    {
        sessions.over.cancel();
        let _ = timeout(LAST_STEPS, sessions.running.wait()).await;
    }
    Summary {
        clients: sessions.clients.load(Ordering::Relaxed),
        messages: sessions.messages.load(Ordering::Relaxed),
        told_goodbye: sessions.told_goodbye.load(Ordering::Relaxed),
        cut: sessions.cut.load(Ordering::Relaxed),
    }
    // end stub
}
