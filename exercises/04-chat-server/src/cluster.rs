// Stub d1846f31a5182c3d: this file is yours to write. `cargo xtask reset chat-server` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Several nodes, one chat: what happens is written into one log in Redis, and every node does what
//! the log says, its own clients' doings included. So all see everything once and in the same order.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Script;
use tokio::sync::RwLock;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::frames::{ErrorCode, ErrorFrame, Message, ServerFrame};
use crate::history::Kept;
use crate::hub::Hub;
use crate::options::Options;
use crate::store::Store;

/// How often a node says that it lives. Its lease is three times as long.
const RENEW: Duration = Duration::from_secs(1);

/// The pauses before a node looks for a lost Redis again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a room is kept in which nothing is said, in seconds.
const ROOM_LIFETIME: u64 = 7 * 24 * 60 * 60;

/// Accepts a message: gives it the next number of its room, keeps it there and forgets what is beyond
/// the history, and tells all nodes. All that is one script, so no two messages get the same number,
/// and none is kept that nobody is told of.
///
/// It only does so if `node` lives and has `from` as a member of `room` (else: `DEADNODE`), and if it
/// has not seen this `token` before: then it was tried again, because its reply was lost.
///
/// ARGV: prefix, node, room, from, text, at, token, history, lifetime of a room.
static SAY: LazyLock<Script> = LazyLock::new(|| {
    todo!("stage 8: Script::new(\"…\"): XADD PREFIX:room:ROOM NUMBER-0, and XADD PREFIX:log")
});

/// This node's part in the cluster.
#[derive(Debug)]
pub struct Cluster {
    store: Store,
    /// Where the log ended when this node came.
    start: String,
    /// Messages kept for each room.
    history: String,
    /// What makes each message of this node one of its own. It may begin at 0 on every node: Redis
    /// forgets a client's last token when its name is freed, so no two nodes' tokens are ever compared.
    said: AtomicU64,
    /// Changes share it; coming back to life has it alone.
    changes: RwLock<()>,
}

impl Cluster {
    /// Joins the nodes that share the Redis at `url` and `options.prefix`: takes note of where the log
    /// ends, and begins a lease.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in, and what else its functions
    /// fail with, as it is: no error of the store has a password in it.
    pub async fn connect(url: &str, options: &Options) -> Result<Self, Error> {
        todo!("stage 8: Store::connect, the end of the log, register")
    }

    /// Starts what runs in the background until `over`: [`follow_the_log`](Self::follow_the_log) and
    /// [`keep_alive`](Self::keep_alive).
    pub fn start(self: &Arc<Self>, hub: &Arc<Hub>, over: CancellationToken) {
        todo!("stage 8: spawn both")
    }

    /// Does what the log says ([`Hub::apply`]), entry by entry, from `start` on and for ever.
    ///
    /// When the connection is lost it is opened again, with growing pauses, and reading goes on after
    /// the last entry that was done: nothing is done twice, nothing is left out. If the log was cut
    /// beyond that entry, the node goes to its end, and the members of its rooms [catch
    /// up](Hub::catch_up) from the history. That happens to a node that was away for very long, and to
    /// one whose process was paused: its connection is still there when it goes on. See
    /// [`Log::has_forgotten`](crate::store::Log::has_forgotten) for when to ask.
    async fn follow_the_log(&self, hub: &Arc<Hub>) {
        todo!("stage 8: open the log, read after the position, apply, move the position; again")
    }

    /// Says every [`RENEW`] that this node lives; the same call buries nodes that do not. If this
    /// node was buried itself, or if Redis was away, it [comes back](Self::come_back).
    async fn keep_alive(&self, hub: &Hub) {
        todo!("stage 8: renew; come back if that says so")
    }

    /// Makes Redis know again what is true here: begins a lease, claims the name of every client and
    /// joins its rooms; who lost its name meanwhile is [expelled](Hub::expel). What Redis knows of
    /// this node and is not true any more is taken back. A room that a client is only on its way into
    /// or out of is not joined, and not taken back either: the join or leave itself sees to that.
    ///
    /// While it runs no other change is made by this node (`changes`). It may be dropped midway: with
    /// the session whose change it is part of, which it may even expel itself. So remember that there
    /// is something to make good before it begins, and forget that only at its end.
    ///
    /// # Errors
    /// Redis is away: then it is still to be done.
    async fn come_back(&self, hub: &Hub) -> Result<(), Error> {
        todo!("stage 8: register; claim and join for all; compare with `seats`")
    }

    /// Takes a name on all nodes. `false` if it is taken.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn claim(&self, hub: &Hub, name: &str) -> Result<bool, Error> {
        todo!("stage 8: Store::claim; if this node was taken for dead, it comes back first")
    }

    /// Takes a client that is gone out of these rooms and frees its name, on all nodes; if Redis is
    /// away, as soon as it is back.
    ///
    /// The name stays taken on this node until this returns: who claimed it earlier would lose it to
    /// this. When it failed, the name has to be free here before the node [comes
    /// back](Self::come_back): that claims again every name which is still [present](Hub::present).
    pub async fn release(&self, hub: &Hub, name: &str, rooms: &[String]) {
        todo!("stage 8: Store::release")
    }

    /// Has the log say that a client joined. `false` if Redis knew it as a member already: then the log
    /// says nothing now, but it may say what an earlier try did ([`Store::join`]). So wait for the entry
    /// in both cases, and not for ever. If it does not come, out and in again: then it does.
    ///
    /// # Errors
    /// `unavailable` if Redis is away.
    pub async fn join(&self, hub: &Hub, name: &str, room: &str) -> Result<bool, ErrorFrame> {
        todo!("stage 8: Store::join; if this node was taken for dead, it comes back first")
    }

    /// Has the log say that a client left. `false` if Redis did not know it as a member: then the log
    /// says nothing now, but it may say what an earlier try did, as for [`join`](Self::join). If the
    /// entry does not come, the others were told long ago, and the client can go.
    ///
    /// # Errors
    /// `unavailable` if Redis is away.
    pub async fn leave(&self, hub: &Hub, name: &str, room: &str) -> Result<bool, ErrorFrame> {
        todo!("stage 8: Store::leave")
    }

    /// Has the log say what a member says, once, with the next number of the room.
    ///
    /// # Errors
    /// `unavailable` if Redis is away: the message was not accepted. Only if the connection was lost
    /// while Redis was doing it, and did not come back at once, it may have been accepted all the same.
    pub async fn say(&self, hub: &Hub, message: &Message) -> Result<(), ErrorFrame> {
        todo!("stage 8: run SAY with a token that no other message of this node has")
    }

    /// The names of a room's members on all nodes, sorted.
    ///
    /// # Errors
    /// `unavailable` if Redis is away.
    pub async fn members(&self, room: &str) -> Result<Vec<String>, ErrorFrame> {
        todo!("stage 8: Store::members")
    }

    /// Messages of a room with numbers above `after` and up to `last`, the oldest first, `most` at most.
    /// While Redis is away it waits.
    pub async fn kept(&self, room: &str, after: u64, last: u64, most: usize) -> Vec<Kept> {
        todo!("stage 8: Store::kept, encoded; again after a pause if that fails")
    }

    /// This node stops, and everything of it is to be gone from Redis. If Redis is away, the lease ends
    /// it.
    pub async fn leave_for_good(&self) {
        todo!("stage 9: Store::unregister, and no lease after that")
    }
}

fn unavailable(error: Error) -> ErrorFrame {
    tracing::debug!(%error, "Redis did not do it");
    ErrorFrame::new(
        ErrorCode::Unavailable,
        "the server has lost its Redis; try again",
    )
}
