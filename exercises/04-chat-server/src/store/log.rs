//! The log: what happened in all rooms, in the order in which it happened.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamReadReply};
use redis::{FromRedisValue as _, Value};

use crate::error::Error;
use crate::frames::Message;

/// How long a read waits for something to happen.
const WAIT: Duration = Duration::from_secs(1);

/// How much longer its answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client has become a member. The room's last message has the number `seq`.
    Joined {
        room: String,
        name: String,
        seq: u64,
    },
    /// A client is no member any more.
    Left { room: String, name: String },
    /// A member said something.
    Said(Message),
}

/// A connection that reads the log, and nothing else: it blocks.
pub struct Log {
    connection: MultiplexedConnection,
    key: String,
}

impl Log {
    /// Entries of one read at most.
    pub const PAGE: usize = 200;

    pub(super) fn new(mut connection: MultiplexedConnection, key: String) -> Self {
        connection.set_response_timeout(WAIT + PATIENCE);
        Log { connection, key }
    }

    /// What comes after the entry with the id `after`, with the ids, in order, [`PAGE`](Self::PAGE)
    /// entries at most. It waits up to a second for something to come. An entry that is none of ours is
    /// `None`. If entries after `after` were cut off the log, it begins with what is left, and does not
    /// say so: ask [`has_forgotten`](Self::has_forgotten).
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost.
    pub async fn read(&mut self, after: &str) -> Result<Vec<(String, Option<Event>)>, Error> {
        let reply: Option<StreamReadReply> = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(Self::PAGE)
            .arg("BLOCK")
            .arg(WAIT.as_millis() as u64)
            .arg("STREAMS")
            .arg(&self.key)
            .arg(after)
            .query_async(&mut self.connection)
            .await?;
        let streams = reply.into_iter().flat_map(|reply| reply.keys);
        let entries = streams.flat_map(|stream| stream.ids);
        Ok(entries
            .map(|entry| {
                let event = event(&entry);
                (entry.id, event)
            })
            .collect())
    }

    /// Whether entries after `position` may have been cut off the log before they were read.
    ///
    /// Ask it after the first read on a new connection, and after a read that brought a full
    /// [`PAGE`](Self::PAGE), each time with the position from before that read. That is enough: the log
    /// is far longer than a page, so a full one waits for every node that fell behind it, also for one
    /// that was paused (`SIGSTOP`, a laptop that slept) and whose connection is still there.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost.
    pub async fn has_forgotten(&mut self, position: &str) -> Result<bool, Error> {
        let first: redis::streams::StreamRangeReply = redis::cmd("XRANGE")
            .arg(&self.key)
            .arg(&["-", "+", "COUNT", "1"])
            .query_async(&mut self.connection)
            .await?;
        let Some(first) = first.ids.first() else {
            return Ok(false);
        };
        // A log that was never cut begins with all there was, however late that is.
        let info: HashMap<String, Value> = redis::cmd("XINFO")
            .arg(&["STREAM", &self.key])
            .query_async(&mut self.connection)
            .await?;
        let number = |field| {
            let value = info.get(field).cloned()?;
            u64::from_redis_value(value).ok()
        };
        let was_cut = number("entries-added") > number("length");
        Ok(was_cut && parts(&first.id) > parts(position))
    }
}

/// An id as two numbers, by which ids are ordered.
fn parts(id: &str) -> (u64, u64) {
    let (time, count) = id.split_once('-').unwrap_or((id, "0"));
    let number = |text: &str| text.parse().unwrap_or_default();
    (number(time), number(count))
}

fn event(entry: &StreamId) -> Option<Event> {
    let room: String = entry.get("room")?;
    match entry.get::<String>("type")?.as_str() {
        "joined" => Some(Event::Joined {
            name: entry.get("name")?,
            seq: entry.get("seq")?,
            room,
        }),
        "left" => Some(Event::Left {
            name: entry.get("name")?,
            room,
        }),
        "message" => message(entry, &room).map(Event::Said),
        _ => None,
    }
}

/// The message in an entry of the log or of a room.
pub fn message(entry: &StreamId, room: &str) -> Option<Message> {
    Some(Message {
        room: room.to_owned(),
        from: entry.get("from")?,
        text: entry.get("text")?,
        seq: entry.get("seq")?,
        at: entry.get("at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn ids_are_ordered_as_numbers() {
        assert!(parts("9-5") < parts("10-0"));
        assert!(parts("10-9") < parts("10-10"));
    }
}
