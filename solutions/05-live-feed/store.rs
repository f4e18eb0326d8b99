//! The feed's events in a stream of Redis: they outlive every node, and all nodes have the same.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::connect::{connect, connect_for_blocking};
use crate::entry::{FINISHED, Meaning, RawEntry, parse_range, parse_read};
use crate::error::{Error, Refused};
use crate::event::{Id, NewEvent};
use crate::history::Kept;
use crate::hub::Hub;
use crate::options::Options;

// solution only
#[path = "store/reader.rs"]
mod reader;

use std::sync::{LazyLock, Mutex, PoisonError, RwLock};

use redis::Script;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::reader::Place;
// end solution only

/// A node's side of the stream `options.stream`.
///
/// An event is an entry with the fields `topic`, `type` and `data`. Whatever any client of Redis adds
/// to the stream with `topic` and `data` is an event too ([`RawEntry::meaning`]); an entry that is no
/// event, or cannot be framed, is passed over with a warning.
///
/// One reader follows the stream, on a connection of its own, however many clients a node has. What it
/// reads goes to the hub, also what this node has published itself: so there is one order, the
/// stream's, on every node.
///
/// Redis is 7.0 or later.
pub(crate) struct Store {
    // solution only
    url: String,
    stream: String,
    /// The set of the topics that are finished.
    finished: String,
    /// How many entries of the stream are kept.
    limit: usize,
    hub: Arc<Hub>,
    /// None while Redis is away.
    commands: RwLock<Option<Commands>>,
    /// Where the reader begins; it takes this with it.
    place: Mutex<Option<Place>>,
    /// How far the reader has come.
    reached: watch::Sender<Id>,
    // end solution only
}

// solution only
/// How long somebody waits for the reader at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// Adds an event, unless its topic is finished: then nil. One step, so that nothing of a topic comes
/// behind its end.
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return false end
         return redis.call('XADD', KEYS[1], '*', 'topic', ARGV[1], 'type', ARGV[2], 'data', ARGV[3])",
    )
});

/// Finishes a topic, unless it is finished already: then nil. The entry tells the others, in order.
static FINISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return false end
         return redis.call('XADD', KEYS[1], '*', 'topic', ARGV[1], ARGV[2], '1')",
    )
});

/// A connection for commands, and how to say that it is broken.
#[derive(Clone)]
struct Commands {
    connection: MultiplexedConnection,
    broken: CancellationToken,
}
// end solution only

impl Store {
    /// Connects, loads what the stream holds (the newest `options.history` entries of it) into the
    /// hub ([`Hub::replace`]), and remembers the place behind it, from where to
    /// [follow](Self::follow). What is older is trimmed from the stream.
    ///
    /// **8.** The topics that are finished are those in the set. An entry that ends a topic says at
    /// which place, and is not asked here.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in, [`Error::Redis`] if the
    /// key is not a stream.
    pub async fn open(url: &str, options: &Options, hub: Arc<Hub>) -> Result<Self, Error> {
        // stub stage 7: connect, XREVRANGE the newest, put them into the hub in their order
        let (reached, _) = watch::channel(Id::ZERO);
        let store = Store {
            url: url.to_owned(),
            stream: options.stream.clone(),
            finished: format!("{}:finished", options.stream),
            limit: options.history.max(1),
            hub,
            commands: RwLock::new(None),
            place: Mutex::new(None),
            reached,
        };
        let place = store.begin().await?;
        *store.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        Ok(store)
        // end stub
    }

    /// Publishes an event: adds it to the stream (`XADD`) and returns the id that Redis gave it. By
    /// then this node's hub has it too: it waits until the reader has come to the id. If the reader
    /// does not come there within some seconds, the id is returned all the same. The event is in the
    /// stream, and whoever is told otherwise publishes it twice.
    ///
    /// It does not wait for a Redis that is away, and never tries twice: that could make two events of
    /// one.
    ///
    /// # Errors
    /// [`Refused::RedisAway`] if the event was not added, or if no answer came that says it was;
    /// [`Refused::TopicFinished`] if the topic is finished on any node (stage 8: asking and adding are
    /// one step).
    pub async fn publish(&self, event: NewEvent) -> Result<Id, Refused> {
        // stub stage 7: XADD, then wait until the reader has come to the id
        let mut call = PUBLISH.key(&self.stream);
        call.key(&self.finished)
            .arg(event.topic)
            .arg(event.kind)
            .arg(event.data);
        let added = self.run(&call).await?;
        let id = added.ok_or(Refused::TopicFinished)?;
        self.until_reached(id).await;
        Ok(id)
        // end stub
    }

    /// Finishes a topic on all nodes: each sees it in order, behind the events that were published
    /// before. It outlives restarts, and the entries of the stream. When it returns this node's hub
    /// knows, as with [`publish`](Self::publish). Finished twice is finished: then nothing is added,
    /// and nothing waited for.
    ///
    /// # Errors
    /// [`Refused::RedisAway`].
    pub async fn finish(&self, topic: &str) -> Result<(), Refused> {
        // stub stage 8: in one script remember it in a set, and add an entry that says so
        let mut call = FINISH.key(&self.stream);
        call.key(&self.finished).arg(topic).arg(FINISHED);
        if let Some(id) = self.run(&call).await? {
            self.until_reached(id).await;
        }
        Ok(())
        // end stub
    }

    /// Returns when this node has everything that is in the stream at the time of the call.
    ///
    /// # Errors
    /// [`Refused::RedisAway`] if nobody can tell, within some seconds.
    pub async fn catch_up(&self) -> Result<(), Refused> {
        // stub stage 7: the newest id of the stream (XREVRANGE + - COUNT 1); wait for the reader
        let mut command = redis::cmd("XREVRANGE");
        command.arg(&self.stream).arg(&["+", "-", "COUNT", "1"]);
        let mut commands = self.commands()?;
        let reply = command.query_async(&mut commands.connection).await;
        let newest = reply.map_err(Error::from).and_then(parse_range);
        let newest = newest.map_err(|error| commands.failed(&error))?;
        match newest.first() {
            Some(entry) if !self.until_reached(entry.id).await => Err(Refused::RedisAway),
            _ => Ok(()),
        }
        // end stub
    }

    /// Follows the stream for ever, called once: a blocking read from its place on, each entry to the
    /// hub ([`Hub::deliver`]; from stage 8 on [`Hub::finish`]), and trimming: the stream keeps
    /// `options.history` entries, those that this node read last, and the hub no others
    /// ([`Hub::forget_before`]). Entries that are no events count in the stream, so the hub may keep
    /// fewer. What this node has not read yet is never trimmed by it, however fast others publish.
    ///
    /// **7.** When Redis is away it connects again, with growing pauses, for ever. Streams of clients
    /// stay open meanwhile. Then it reads on behind the last entry that it has: nothing is missing and
    /// nothing there twice. It also connects again when only a command has failed, and the reads go on.
    ///
    /// If its last entry is not in the stream any more (it was trimmed meanwhile, or Redis lost its
    /// data) nobody can say what is missing: then it begins anew ([`Hub::replace`]). It looks for that
    /// entry whenever it has connected, and also while it stays connected, for this node may have been
    /// held up while others trimmed (SIGSTOP, a suspended machine). A read of at most
    /// `options.history` entries that does not bring so many has skipped nothing: the stream still had
    /// all of them. One that is full may have: so it looks then, after the read and before anything of
    /// it is handed on.
    pub async fn follow(self: Arc<Self>) {
        // stub stage 7: XREAD BLOCK in a loop, around it a loop that connects again
        let place = self
            .place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(place) = place {
            reader::follow(&self, place).await;
        }
        // end stub
    }

    // solution only
    /// Runs a script that returns the id of an entry, or nil.
    async fn run(&self, call: &redis::ScriptInvocation<'_>) -> Result<Option<Id>, Refused> {
        let mut commands = self.commands()?;
        let reply = call.invoke_async::<Option<String>>(&mut commands.connection);
        let id = match reply.await {
            Ok(id) => id,
            Err(error) => return Err(commands.failed(&error.into())),
        };
        Ok(id.as_deref().and_then(Id::parse))
    }

    fn commands(&self) -> Result<Commands, Refused> {
        let commands = self.commands.read().unwrap_or_else(PoisonError::into_inner);
        commands.clone().ok_or(Refused::RedisAway)
    }

    fn set_commands(&self, commands: Option<Commands>) {
        *self
            .commands
            .write()
            .unwrap_or_else(PoisonError::into_inner) = commands;
    }

    /// Waits until the reader has come to this id. False if that takes too long.
    async fn until_reached(&self, id: Id) -> bool {
        let mut reached = self.reached.subscribe();
        let there = reached.wait_for(|reached| *reached >= id);
        matches!(timeout(PATIENCE, there).await, Ok(Ok(_)))
    }
    // end solution only
}

// solution only
impl Commands {
    /// Notes why a command failed, and has the connection rebuilt if that is the reason.
    fn failed(&self, error: &Error) -> Refused {
        tracing::warn!(%error, "Redis did not do what was asked of it");
        if error.is_connection() {
            self.broken.cancel();
        }
        Refused::RedisAway
    }
}
// end solution only
