//! Sending: one stream entry a message, many messages in one round trip, and no more than the
//! consumers can keep up with.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::Value;

use crate::connection::connect;
use crate::entry::Message;
use crate::error::Error;
use crate::options::SendOptions;
// solution only
use crate::trim::{BACKLOG, GROUPS};
// end solution only

/// The fields of the entry that a message becomes: one for each top-level key, in the message's
/// order. A string is its text, without quotes; every other value (number, boolean, null, list,
/// object) is its JSON text without spaces.
///
/// # Errors
/// [`Error::EmptyMessage`] if the message has no keys.
pub fn fields(message: &Message) -> Result<Vec<(String, String)>, Error> {
    // stub stage 1: a field for each key; strings as they are, every other value as JSON
    if message.is_empty() {
        return Err(Error::EmptyMessage);
    }
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Ok(message
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect())
    // end stub
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
        // stub stage 1: connect to options.redis and keep the connection with the options
        let connection = Some(connect(&options.redis).await?);
        Ok(Producer {
            options,
            connection,
        })
        // end stub
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
        // stub stage 1: XADD with the id `*`; the reply is the entry's id
        let mut ids = self.send_batch(std::slice::from_ref(message)).await?;
        ids.pop()
            .ok_or_else(|| Error::UnexpectedReply("XADD returned no id".into()))
        // end stub
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
        // stub stage 1: check all messages, then one pipeline of XADDs
        let entries = messages.iter().map(fields).collect::<Result<Vec<_>, _>>()?;
        let sent = match self.options.max_backlog {
            None => self.add(&entries).await,
            Some(limit) => self.wait_for_room(&entries, limit.max(1)).await,
        };
        if matches!(&sent, Err(error) if error.is_connection()) {
            self.connection = None;
        }
        sent
        // end stub
    }

    /// Adds all entries, waiting whenever the backlog has reached `limit`.
    async fn wait_for_room(
        &mut self,
        entries: &[Vec<(String, String)>],
        limit: u64,
    ) -> Result<Vec<String>, Error> {
        // stub stage 6: in a loop, one script that counts the backlog and adds what there is room for
        let script = redis::Script::new(&format!("{GROUPS}{BACKLOG}{ADD_IF_ROOM}"));
        let stream = self.options.stream.clone();
        let connection = self.connection().await?;
        let mut ids: Vec<String> = Vec::with_capacity(entries.len());
        let mut pause = SHORTEST_PAUSE;
        // While there is no room one message is enough to ask with.
        let mut most = PIPELINE;
        while ids.len() < entries.len() {
            let mut call = script.key(&stream);
            call.arg(limit);
            for entry in entries[ids.len()..].iter().take(most) {
                call.arg(entry.len()).arg(entry);
            }
            let added: Vec<String> = call.invoke_async(connection).await?;
            if added.is_empty() {
                most = 1;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            } else {
                most = PIPELINE;
                pause = SHORTEST_PAUSE;
                ids.extend(added);
            }
        }
        Ok(ids)
        // end stub
    }

    // solution only
    /// Adds all entries, pipelined.
    async fn add(&mut self, entries: &[Vec<(String, String)>]) -> Result<Vec<String>, Error> {
        let stream = self.options.stream.clone();
        let connection = self.connection().await?;
        let mut ids = Vec::with_capacity(entries.len());
        for part in entries.chunks(PIPELINE) {
            let mut pipeline = redis::pipe();
            for entry in part {
                pipeline.cmd("XADD").arg(&stream).arg("*").arg(entry);
            }
            let added: Vec<String> = pipeline.query_async(connection).await?;
            ids.extend(added);
        }
        Ok(ids)
    }

    /// The connection, rebuilt if it was lost.
    async fn connection(&mut self) -> Result<&mut MultiplexedConnection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.options.redis).await?,
        };
        Ok(self.connection.insert(connection))
    }
    // end solution only
}

// solution only
/// How many entries go out in one round trip: enough that the trip hardly counts, few enough that
/// neither side has to hold a huge batch of commands or replies.
const PIPELINE: usize = 1_000;

/// How soon, and at the latest when, a producer that waits for room looks again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Adds entries while there is room for them and returns the ids of those added.
/// KEYS: stream. ARGV: limit, then for each entry the number of its fields, names and values.
const ADD_IF_ROOM: &str = "
local room = tonumber(ARGV[1]) - backlog(KEYS[1])
local ids, next = {}, 2
while room > 0 and ARGV[next] do
  local last = next + 2 * tonumber(ARGV[next])
  ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', unpack(ARGV, next + 1, last))
  next, room = last + 1, room - 1
end
return ids";
// end solution only
