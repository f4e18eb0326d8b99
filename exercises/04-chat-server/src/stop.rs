// Stub 36a11df928a71120: this file is yours to write. `cargo xtask reset chat-server` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Ending well: everybody is told, nobody is waited for for ever.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::{Server, Summary};

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
    /// Messages that were accepted from them.
    pub messages: AtomicU64,
    /// Sessions that ended by themselves after the node began to stop.
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

    /// Runs a session to its end, or until everything has to end at once: then it is dropped where it
    /// stands. While it runs, [`finish`] waits for it.
    pub async fn run(&self, session: impl Future<Output = ()>) {
        todo!("stage 9: hold a token of `running`; count how it ended")
    }
}

/// Ends a node after `server.stop` was cancelled. Every session sees that by itself (in `session`),
/// leaves its rooms and says goodbye with 1001. This waits for them, makes sure that the node is
/// missed by nobody in Redis, and returns what the node did.
///
/// It returns as soon as all that is done, and after `options.stop_deadline` in any case: sessions
/// that still run then, because their client does not read its goodbye, are dropped.
pub async fn finish(server: &Server) -> Summary {
    todo!("stage 9: wait for `running`, at most so long, then cancel `over`")
}
