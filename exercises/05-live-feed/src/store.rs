// Stub cb16b576d7303c91: this file is yours to write. `cargo xtask reset live-feed` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

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
pub(crate) struct Store {}

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
        todo!("stage 7: connect, XREVRANGE the newest, put them into the hub in their order")
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
        todo!("stage 7: XADD, then wait until the reader has come to the id")
    }

    /// Finishes a topic on all nodes: each sees it in order, behind the events that were published
    /// before. It outlives restarts, and the entries of the stream. When it returns this node's hub
    /// knows, as with [`publish`](Self::publish). Finished twice is finished: then nothing is added,
    /// and nothing waited for.
    ///
    /// # Errors
    /// [`Refused::RedisAway`].
    pub async fn finish(&self, topic: &str) -> Result<(), Refused> {
        todo!("stage 8: in one script remember it in a set, and add an entry that says so")
    }

    /// Returns when this node has everything that is in the stream at the time of the call.
    ///
    /// # Errors
    /// [`Refused::RedisAway`] if nobody can tell, within some seconds.
    pub async fn catch_up(&self) -> Result<(), Refused> {
        todo!("stage 7: the newest id of the stream (XREVRANGE + - COUNT 1); wait for the reader")
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
        todo!("stage 7: XREAD BLOCK in a loop, around it a loop that connects again")
    }
}
