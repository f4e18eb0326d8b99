// Stub d8175da5f23e9d6a: this file is yours to write. `cargo xtask reset chat-server` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Who is here, who is in which room, and how what is said gets to everybody else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::frames::{ErrorCode, ErrorFrame, Message, ServerFrame, now};
use crate::history::{Kept, Replay, replay};
use crate::options::Options;
use crate::outbox::Outbox;
use crate::refusal::Refusal;
use crate::socket::Goodbye;
use crate::store::Event;

/// A client that is connected, as others see it.
#[derive(Debug, Clone)]
pub struct Client {
    pub name: Arc<str>,
    /// What is to be sent to it.
    pub outbox: Outbox,
}

/// Everybody on this node, and the way to those on others.
///
/// All connections share one hub. What it knows is yours to design; whatever lock you put around it,
/// hold it for moments, and never while you wait.
#[derive(Debug)]
pub struct Hub {
    options: Arc<Options>,
    /// The other nodes, if there is a Redis to meet them in.
    cluster: Option<Arc<Cluster>>,
}

impl Hub {
    /// A hub in which nobody is. With `options.redis` it connects, and works in the background until
    /// `over` is cancelled.
    ///
    /// # Errors
    /// Those of [`Cluster::connect`].
    pub async fn start(options: Arc<Options>, over: CancellationToken) -> Result<Arc<Self>, Error> {
        let cluster = match &options.redis {
            Some(url) => Some(Arc::new(Cluster::connect(url, &options).await?)),
            None => None,
        };
        let hub = Arc::new(Hub {
            options,
            cluster,
            // Nobody is here, in no room.
        });
        if let Some(cluster) = &hub.cluster {
            cluster.start(&hub, over);
        }
        Ok(hub)
    }

    /// Takes a name for a client that connects. It is taken until [`disconnect`](Self::disconnect),
    /// which whoever claimed it has to see to, also if no session comes of it. Of two that claim the
    /// same name at the same moment one gets it.
    ///
    /// # Errors
    /// [`Refusal::NAME_TAKEN`] if somebody is here under this name, on any node (stage 8).
    /// [`Refusal::UNAVAILABLE`] if Redis is away and the name cannot be claimed (stage 8).
    pub async fn claim(&self, name: &str) -> Result<(), Refusal> {
        todo!("stage 2: look and take it in one step, or two clients get it")
    }

    /// The client that claimed its name is a session now: from here on it can be
    /// [expelled](Self::expel), in a room or not, until it [disconnects](Self::disconnect).
    pub fn enter(&self, client: &Client) {
        todo!("stage 8: keep its outbox by its name")
    }

    /// A client is gone, however that came: it leaves every room it is in, the others there are told
    /// `left` once, and its name is free.
    ///
    /// **Stage 8:** its rooms here it leaves at once; its name is taken on this node until Redis has
    /// [released](Cluster::release) it, or could not.
    pub async fn disconnect(&self, name: &str) {
        todo!("stage 2: take it out of everything, tell the others")
    }

    /// Makes a client a member of a room. Every member is told `joined`, the new one included: for it
    /// that is the answer.
    ///
    /// **Stage 3:** a member that joins again gets `joined` for an answer, alone: the others are not
    /// told.
    ///
    /// **Stage 7:** `joined` carries the number of the room's last message. With `since` the client
    /// is then sent what is kept after that number, in order, and what is said from then on
    /// ([`replay`](crate::history::replay)), whether it was a member before or not. If `since` is
    /// above the last number, the numbers have begun anew: then it gets the error `gap` first, with the
    /// number 1 if nothing was said, and everything that is kept. Without `since` it gets what is said from then on.
    ///
    /// For a member that joins again that means: what its queue holds stays there, before the new
    /// `joined`, and what of it is above `since` is sent once more behind it. So behind each `joined`
    /// of its own a client finds every number above `since` once, whatever came before.
    ///
    /// **Stage 8:** it returns when the client is in: what it asks next comes after that. A member that
    /// joins again is answered by this node, at once: nothing changes for anybody else, so the log is
    /// not told, and Redis may even be away.
    ///
    /// # Errors
    /// `too_many_rooms` (stage 4) if it is in [`MOST_ROOMS`](crate::guard::MOST_ROOMS) others, and
    /// `unavailable` (stage 8) if Redis is away and it is no member yet.
    pub async fn join(
        self: &Arc<Self>,
        client: &Client,
        room: &str,
        since: Option<u64>,
    ) -> Result<(), ErrorFrame> {
        todo!("stage 2: add it to the members, tell all of them")
    }

    /// Takes a client out of a room. Every member is told `left`, the one that leaves included: for it
    /// that is the answer, and the last it hears of the room.
    ///
    /// # Errors
    /// `not_a_member`, and `unavailable` (stage 8) if Redis is away.
    pub async fn leave(&self, client: &Client, room: &str) -> Result<(), ErrorFrame> {
        todo!("stage 3: take it out of the members, tell them and itself")
    }

    /// Sends what a client says to every other member of the room, and not to the client itself. All
    /// members get the messages of a room in the same order.
    ///
    /// **Stage 6:** the message is encoded once, however many members there are.
    ///
    /// **Stage 7:** it has the room's next number: 1, 2, 3 … without a gap. The room's last
    /// `options.history` messages are kept, also those that nobody but the sender was there to hear.
    ///
    /// **Stage 8:** Redis keeps them then, so a node without members in the room encodes nothing.
    ///
    /// # Errors
    /// `not_a_member`, and `unavailable` (stage 8) if Redis is away: then the message was not accepted.
    pub async fn say(&self, client: &Client, room: &str, text: String) -> Result<(), ErrorFrame> {
        todo!("stage 2: encode it once, put a copy into the outbox of every other member")
    }

    /// The names of a room's members, on all nodes, sorted.
    ///
    /// # Errors
    /// `not_a_member`, and `unavailable` (stage 8) if Redis is away.
    pub async fn who(&self, client: &Client, room: &str) -> Result<Vec<String>, ErrorFrame> {
        todo!("stage 3: only a member may ask")
    }

    /// The node is about to stop, and all its clients are gone: it says so to the others.
    pub async fn leave_the_cluster(&self) {
        todo!("stage 9: if there is a cluster, the node leaves it")
    }

    /// The last message that this replay has to reach: the last one of the room. Once the client has
    /// seen that, it is made a member that gets each message when it is said, in the same step; then
    /// there is no more, and there is none either if the replay is over.
    pub fn behind(&self, replay: &Replay) -> Option<u64> {
        todo!("stage 7: under the lock: compare `replay.seen` with the last number")
    }

    /// The next messages for a replay: some of those after `replay.seen`, in order. `None` if the
    /// connection has ended.
    ///
    /// **Stage 8:** in a cluster they come from Redis, and none of them has a number above `last`.
    pub async fn kept(&self, replay: &Replay, last: u64) -> Option<Vec<Kept>> {
        todo!("stage 7: History::after of that room")
    }

    /// Sends a client what comes next in its replay, as soon as there is
    /// [room](Outbox::has_room) for it, and takes note that it has seen it. `false`, without sending
    /// anything, if the replay is over: the client left, its connection ended, or another one began.
    ///
    /// Others may push between the two. Half a queue has room for that, but one of a frame or two has
    /// not: there look again, under the lock, before you push.
    pub async fn hand_over(&self, replay: &mut Replay, message: Kept) -> bool {
        todo!(
            "stage 7: wait for room; then under the lock see whether it is still wanted, and push"
        )
    }

    /// Does what the log of the cluster says next: tells the members of the room that are on this node.
    ///
    /// A client of this node that asked to join gets its answer here, and is a member from here on: so
    /// it gets every message that the log has after its `joined`, and none that it has before. The same
    /// for one that asked to leave. A sender does not get its own message here either.
    ///
    /// A member of this node that the log says has left, although it did not ask for that, stays one:
    /// this node was taken for dead, and [comes back](crate::cluster::Cluster). The other members here
    /// are told `left`, and `joined` when the log says that; it itself is told neither, and goes on
    /// getting messages. The same for a `joined` of a client that is a member here already.
    pub fn apply(self: &Arc<Self>, event: &Event) {
        todo!("stage 8: what `join`, `leave` and `say` do at once when there is no cluster")
    }

    /// The rooms with members on this node.
    pub fn occupied(&self) -> Vec<String> {
        todo!("stage 8: their names")
    }

    /// The last number in the room is `seq`, and this node was not told of all messages up to there:
    /// its members in the room get them from the history, without another `joined`.
    pub fn catch_up(self: &Arc<Self>, room: &str, seq: u64) {
        todo!("stage 8: a replay for each member, from the last number it was sent")
    }

    /// Every name that is taken by a client of this node, and the rooms it is in, or on its way into or
    /// out of.
    pub fn present(&self) -> Vec<(Arc<str>, Vec<String>)> {
        todo!("stage 8: a copy, so that nothing is locked while Redis is asked")
    }

    /// Ends the session of a client whose name belongs to somebody else by now, with
    /// [`Goodbye::NAME_TAKEN`].
    pub fn expel(&self, name: &str) {
        todo!("stage 8: close its outbox")
    }
}

/// The error for who asks about a room and is not in it.
pub fn not_a_member(room: &str) -> ErrorFrame {
    ErrorFrame::new(
        ErrorCode::NotAMember,
        format!("join this room first: {room}"),
    )
}
