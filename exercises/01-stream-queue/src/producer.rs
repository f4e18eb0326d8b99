// Stub 0381fd364e82d800: this file is yours to write. `cargo xtask reset stream-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Sending: one stream entry a message, many messages in one round trip, and no more than the
//! consumers can keep up with.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::Value;

use crate::connection::connect;
use crate::entry::Message;
use crate::error::Error;
use crate::options::SendOptions;

/// The fields of the entry that a message becomes: one for each top-level key, in the message's
/// order. A string is its text, without quotes; every other value (number, boolean, null, list,
/// object) is its JSON text without spaces.
///
/// # Errors
/// [`Error::EmptyMessage`] if the message has no keys.
pub fn fields(message: &Message) -> Result<Vec<(String, String)>, Error> {
    todo!("stage 1: a field for each key; strings as they are, every other value as JSON")
}

/// Sends messages to one stream.
///
/// A producer has one connection. When that is lost, the call it happens to fails with
/// [`Error::Redis`], and the next call connects again by itself. What the failed call was sending may
/// be in the stream or not, and is not sent a second time: that would make two entries of one
/// message. Whether to repeat it is for the caller to decide.
#[derive(Debug)]
pub struct Producer {
    options: SendOptions,
    /// `None` after the connection was lost.
    connection: Option<MultiplexedConnection>,
}

impl Producer {
    /// Connects to Redis. The stream need not exist: the first message creates it.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in.
    pub async fn connect(options: SendOptions) -> Result<Self, Error> {
        todo!("stage 1: connect to options.redis and keep the connection with the options")
    }

    /// Sends one message (`XADD stream * …`) and returns the id that Redis gave the entry.
    ///
    /// With `max_backlog` it first waits for room, as [`send_batch`](Self::send_batch) does.
    ///
    /// # Errors
    /// [`Error::EmptyMessage`] if the message has no fields (nothing is sent), [`Error::Connect`] if
    /// a lost connection could not be rebuilt (nothing is sent), [`Error::Redis`] if Redis refused
    /// the entry or the connection was lost before its id came back.
    pub async fn send(&mut self, message: &Message) -> Result<String, Error> {
        todo!("stage 1: XADD with the id `*`; the reply is the entry's id")
    }

    /// Sends many messages, one entry each, in the order given, and returns their ids in that order.
    ///
    /// The `XADD`s go out pipelined: many commands in one round trip (1,000 messages take no more
    /// than a few, 10,000 no more than some tens). An empty slice sends nothing.
    ///
    /// With `max_backlog` of N the [`backlog`](crate::backlog) never exceeds N through this call,
    /// also when several producers send at the same moment: counting and adding are one atomic step.
    /// While there is no room it waits, for as long as it takes, and goes on as soon as consumers
    /// have acknowledged. A batch larger than the room is sent in parts. N = 0 is treated as 1.
    ///
    /// # Errors
    /// [`Error::EmptyMessage`] if any message has no fields: then none of the batch is sent.
    /// [`Error::Connect`] and [`Error::Redis`] as for [`send`](Self::send); after `Error::Redis`
    /// some of the entries may be in the stream and others not.
    pub async fn send_batch(&mut self, messages: &[Message]) -> Result<Vec<String>, Error> {
        todo!("stage 1: check all messages, then one pipeline of XADDs")
    }

    /// Adds all entries, waiting whenever the backlog has reached `limit`.
    async fn wait_for_room(
        &mut self,
        entries: &[Vec<(String, String)>],
        limit: u64,
    ) -> Result<Vec<String>, Error> {
        todo!(
            "stage 6: in a loop, one script that counts the backlog and adds what there is room for"
        )
    }
}
