//! Several nodes, one chat: what happens is written into one log in Redis, and every node does what
//! the log says, its own clients' doings included. So all see everything once and in the same order.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
// solution only
use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::AtomicBool;
// end solution only

use redis::Script;
use tokio::sync::RwLock;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::frames::{ErrorCode, ErrorFrame, Message, ServerFrame};
use crate::history::Kept;
use crate::hub::Hub;
use crate::options::Options;
// solution only
use crate::store::Log;
// end solution only
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
    // stub stage 8: Script::new("…"): XADD PREFIX:room:ROOM NUMBER-0, and XADD PREFIX:log
    Script::new(
        "
local prefix, node, room, from = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local stream, said = prefix .. ':room:' .. room, prefix .. ':said'
if redis.call('HGET', prefix .. ':members:' .. room, from) ~= node
  or not redis.call('ZSCORE', prefix .. ':nodes', node) then
  return redis.error_reply('DEADNODE this node was taken for dead')
end
if redis.call('HGET', said, from) == ARGV[7] then return 0 end
local seq = 1
local info = redis.pcall('XINFO', 'STREAM', stream)
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then seq = string.match(info[i + 1], '^%d+') + 1 end
end
local fields = {'room', room, 'seq', seq, 'from', from, 'text', ARGV[5], 'at', ARGV[6], 'node', node}
redis.call('XADD', stream, 'MAXLEN', ARGV[8], seq .. '-0', unpack(fields, 3))
redis.call('EXPIRE', stream, ARGV[9])
redis.call('XADD', prefix .. ':log', 'MAXLEN', '~', '10000', '*', 'type', 'message', unpack(fields))
redis.call('HSET', said, from, ARGV[7])
return seq",
    )
    // end stub
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
    // solution only
    /// Redis may not know what it should of this node's clients.
    owes: AtomicBool,
    /// Cancelled when the node has left.
    gone: CancellationToken,
    // end solution only
}

impl Cluster {
    /// Joins the nodes that share the Redis at `url` and `options.prefix`: takes note of where the log
    /// ends, and begins a lease.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in, and what else its functions
    /// fail with, as it is: no error of the store has a password in it.
    pub async fn connect(url: &str, options: &Options) -> Result<Self, Error> {
        // stub stage 8: Store::connect, the end of the log, register
        let store = Store::connect(url, &options.prefix).await?;
        let (start, _) = store.ends(&[]).await?;
        store.register().await?;
        Ok(Cluster {
            store,
            start,
            history: options.history.to_string(),
            said: AtomicU64::new(0),
            changes: RwLock::new(()),
            owes: AtomicBool::new(false),
            gone: CancellationToken::new(),
        })
        // end stub
    }

    /// Starts what runs in the background until `over`: [`follow_the_log`](Self::follow_the_log) and
    /// [`keep_alive`](Self::keep_alive).
    pub fn start(self: &Arc<Self>, hub: &Arc<Hub>, over: CancellationToken) {
        // stub stage 8: spawn both
        let (cluster, follower, stop) = (Arc::clone(self), Arc::clone(hub), over.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(cluster.follow_the_log(&follower))
                .await
        });
        let (cluster, keeper) = (Arc::clone(self), Arc::clone(hub));
        tokio::spawn(async move { over.run_until_cancelled(cluster.keep_alive(&keeper)).await });
        // end stub
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
        // stub stage 8: open the log, read after the position, apply, move the position; again
        let mut position = self.start.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let before = position.clone();
            let Err(error) = self.follow(hub, &mut position).await else {
                continue;
            };
            if position != before {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(%error, "lost the log, opening it again");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // end stub
    }

    /// Says every [`RENEW`] that this node lives; the same call buries nodes that do not. If this
    /// node was buried itself, or if Redis was away, it [comes back](Self::come_back).
    async fn keep_alive(&self, hub: &Hub) {
        // stub stage 8: renew; come back if that says so
        loop {
            tokio::select! {
                () = sleep(RENEW) => {}
                () = self.gone.cancelled() => return,
            }
            let alive = match self.store.renew().await {
                Ok(true) if !self.owes.load(Ordering::Relaxed) => continue,
                Ok(_) => self.come_back(hub).await,
                Err(error) => Err(error),
            };
            if let Err(error) = alive {
                self.owes.store(true, Ordering::Relaxed);
                tracing::warn!(%error, "cannot say that this node lives");
            }
        }
        // end stub
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
        // stub stage 8: register; claim and join for all; compare with `seats`
        let _alone = self.changes.write().await;
        // It may be dropped at any await, with the session that called it.
        self.owes.store(true, Ordering::Relaxed);
        self.store.register().await?;
        for (name, rooms) in hub.present() {
            if !self.store.claim(&name).await? {
                hub.expel(&name);
                continue;
            }
            for room in rooms.iter().filter(|room| hub.is_member(&name, room)) {
                self.store.join(&name, room).await?;
            }
        }
        // Looked at again: who has gone meanwhile is not ours any more.
        let mut ours = HashSet::new();
        for (name, rooms) in hub.present() {
            ours.insert((String::new(), name.to_string()));
            ours.extend(rooms.into_iter().map(|room| (room, name.to_string())));
        }
        for seat in self.store.seats().await? {
            match seat {
                seat if ours.contains(&seat) => {}
                (room, name) if room.is_empty() => self.store.release(&name, &[]).await?,
                (room, name) => drop(self.store.leave(&name, &room).await?),
            }
        }
        self.owes.store(false, Ordering::Relaxed);
        Ok(())
        // end stub
    }

    /// Takes a name on all nodes. `false` if it is taken.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn claim(&self, hub: &Hub, name: &str) -> Result<bool, Error> {
        // stub stage 8: Store::claim; if this node was taken for dead, it comes back first
        self.change(hub, || self.store.claim(name)).await
        // end stub
    }

    /// Takes a client that is gone out of these rooms and frees its name, on all nodes; if Redis is
    /// away, as soon as it is back.
    ///
    /// The name stays taken on this node until this returns: who claimed it earlier would lose it to
    /// this. When it failed, the name has to be free here before the node [comes
    /// back](Self::come_back): that claims again every name which is still [present](Hub::present).
    pub async fn release(&self, hub: &Hub, name: &str, rooms: &[String]) {
        // stub stage 8: Store::release
        // An error is made good when this node comes back.
        let _ = self.change(hub, || self.store.release(name, rooms)).await;
        // end stub
    }

    /// Has the log say that a client joined. `false` if Redis knew it as a member already: then the log
    /// says nothing now, but it may say what an earlier try did ([`Store::join`]). So wait for the entry
    /// in both cases, and not for ever. If it does not come, out and in again: then it does.
    ///
    /// # Errors
    /// `unavailable` if Redis is away.
    pub async fn join(&self, hub: &Hub, name: &str, room: &str) -> Result<bool, ErrorFrame> {
        // stub stage 8: Store::join; if this node was taken for dead, it comes back first
        let joined = self.change(hub, || self.store.join(name, room)).await;
        joined.map_err(unavailable)
        // end stub
    }

    /// Has the log say that a client left. `false` if Redis did not know it as a member: then the log
    /// says nothing now, but it may say what an earlier try did, as for [`join`](Self::join). If the
    /// entry does not come, the others were told long ago, and the client can go.
    ///
    /// # Errors
    /// `unavailable` if Redis is away.
    pub async fn leave(&self, hub: &Hub, name: &str, room: &str) -> Result<bool, ErrorFrame> {
        // stub stage 8: Store::leave
        let left = self.change(hub, || self.store.leave(name, room)).await;
        left.map_err(unavailable)
        // end stub
    }

    /// Has the log say what a member says, once, with the next number of the room.
    ///
    /// # Errors
    /// `unavailable` if Redis is away: the message was not accepted. Only if the connection was lost
    /// while Redis was doing it, and did not come back at once, it may have been accepted all the same.
    pub async fn say(&self, hub: &Hub, message: &Message) -> Result<(), ErrorFrame> {
        // stub stage 8: run SAY with a token that no other message of this node has
        let token = self.said.fetch_add(1, Ordering::Relaxed).to_string();
        let lifetime = ROOM_LIFETIME.to_string();
        let arguments = [
            message.room.as_str(),
            &message.from,
            &message.text,
            &message.at,
            &token,
            &self.history,
            &lifetime,
        ];
        let said = self.change(hub, || self.store.run::<u64>(&SAY, &arguments));
        said.await.map(drop).map_err(unavailable)
        // end stub
    }

    /// The names of a room's members on all nodes, sorted.
    ///
    /// # Errors
    /// `unavailable` if Redis is away.
    pub async fn members(&self, room: &str) -> Result<Vec<String>, ErrorFrame> {
        // stub stage 8: Store::members
        self.store.members(room).await.map_err(unavailable)
        // end stub
    }

    /// Messages of a room with numbers above `after` and up to `last`, the oldest first, `most` at most.
    /// While Redis is away it waits.
    pub async fn kept(&self, room: &str, after: u64, last: u64, most: usize) -> Vec<Kept> {
        // stub stage 8: Store::kept, encoded; again after a pause if that fails
        let messages = loop {
            match self.store.kept(room, after, last, most).await {
                Ok(messages) => break messages,
                Err(_) => sleep(LONGEST_PAUSE).await,
            }
        };
        let kept = messages.iter().map(|message| Kept {
            seq: message.seq,
            frame: ServerFrame::Message(message).encode(),
        });
        kept.collect()
        // end stub
    }

    /// This node stops, and everything of it is to be gone from Redis. If Redis is away, the lease ends
    /// it.
    pub async fn leave_for_good(&self) {
        // stub stage 9: Store::unregister, and no lease after that
        self.gone.cancel();
        if let Err(error) = self.store.unregister().await {
            tracing::warn!(%error, "cannot take leave; the others will notice");
        }
        // end stub
    }

    // solution only
    /// Follows the log until that fails.
    async fn follow(&self, hub: &Arc<Hub>, position: &mut String) -> Result<(), Error> {
        let mut log = self.store.open_log().await?;
        // Whether what comes next may not be what follows.
        let mut unsure = true;
        loop {
            let entries = log.read(position).await?;
            unsure |= entries.len() >= Log::PAGE;
            if unsure && log.has_forgotten(position).await? {
                let rooms = hub.occupied();
                let (end, numbers) = self.store.ends(&rooms).await?;
                *position = end;
                for (room, number) in rooms.iter().zip(numbers) {
                    hub.catch_up(room, number);
                }
                continue;
            }
            unsure = false;
            for (id, event) in entries {
                if let Some(event) = event {
                    hub.apply(&event);
                }
                *position = id;
            }
        }
    }

    /// Makes a change in Redis. If this node turns out to be taken for dead, it comes back and tries
    /// again.
    async fn change<T, F>(&self, hub: &Hub, change: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut done = self.with_others(change()).await;
        if matches!(&done, Err(error) if error.is_dead_node()) {
            done = match self.come_back(hub).await {
                Ok(()) => self.with_others(change()).await,
                Err(error) => Err(error),
            };
        }
        if done.is_err() {
            self.owes.store(true, Ordering::Relaxed);
        }
        done
    }

    async fn with_others<T>(&self, change: impl Future<Output = T>) -> T {
        let _shared = self.changes.read().await;
        change.await
    }
    // end solution only
}

fn unavailable(error: Error) -> ErrorFrame {
    tracing::debug!(%error, "Redis did not do it");
    ErrorFrame::new(
        ErrorCode::Unavailable,
        "the server has lost its Redis; try again",
    )
}
