//! Giving up well: growing delays between attempts, and a place for what never succeeded.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;
use serde::Serialize;

use crate::connection::connect;
use crate::consumer::Consumer;
use crate::entry::{RawEntry, parse_entries};
use crate::error::Error;
use crate::options::WorkOptions;

/// How long to wait before the next attempt at an entry that has been delivered `deliveries` times
/// and failed each time.
///
/// At least `first_retry * 2^(deliveries - 1)`: it doubles with each failure. On top comes a random
/// part of up to half of that, so that entries which failed together do not come back together.
/// Never more than `longest_retry`, however large `deliveries` is; 0 is treated as 1.
pub fn retry_delay(options: &WorkOptions, deliveries: u64) -> Duration {
    // stub stage 5: first_retry doubled for each failure, jitter upwards, capped, no overflow
    let doublings = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX);
    let least = options
        .first_retry
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(options.longest_retry);
    let jitter = least.mul_f64(rand::random_range(0.0..=0.5));
    least.saturating_add(jitter).min(options.longest_retry)
    // end stub
}

impl Consumer {
    /// Gives an entry up: moves it to the stream's dead letters (`S:dead`) and acknowledges it, in
    /// one atomic step, so that it is never in both places and never in none.
    ///
    /// The dead letter has the entry's own fields, byte for byte and in their order, and after them
    /// `_id` (its id in the stream), `_deliveries` (`entry.deliveries`) and `_reason`.
    ///
    /// Returns false, and changes nothing, if the entry is not pending for this consumer any more:
    /// then it was acknowledged, or another consumer has it now and decides about it.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost (call again: it moves the entry once in any case).
    pub async fn dead_letter(&self, entry: &RawEntry, reason: &str) -> Result<bool, Error> {
        // stub stage 5: one script: is it pending for us? XADD to S:dead, XACK
        let mut call = DEAD_LETTER.key(&self.options.stream);
        call.key(self.options.dead_stream())
            .arg(&self.options.group)
            .arg(&self.options.consumer)
            .arg(&entry.id)
            .arg(&entry.fields)
            .arg(&[("_id", entry.id.as_str())])
            .arg(&[("_deliveries", entry.deliveries)])
            .arg(&[("_reason", reason)]);
        Ok(call.invoke_async(&mut self.commands.clone()).await?)
        // end stub
    }
}

/// An entry that was given up. Serializes as one line of `stream-queue dead list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadEntry {
    /// Its id among the dead letters, which [`DeadLetters::retry`] and [`DeadLetters::drop`] take.
    pub id: String,
    /// The id it had in the stream (`_id`).
    pub original_id: String,
    /// How often it was delivered (`_deliveries`).
    pub deliveries: u64,
    /// Why it was given up (`_reason`).
    pub reason: String,
    /// Its own fields, without the three above. Bytes that are not text are replaced by `�`.
    pub fields: BTreeMap<String, String>,
}

/// The dead letters of one stream: look at them, try them again, drop them.
#[derive(Debug)]
pub struct DeadLetters {
    stream: String,
    dead: String,
    connection: MultiplexedConnection,
}

impl DeadLetters {
    /// Connects to look after the dead letters of `stream` (not those of `stream:dead`).
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in.
    pub async fn connect(redis: &str, stream: &str) -> Result<Self, Error> {
        // stub stage 5: connect, and remember both streams
        Ok(DeadLetters {
            stream: stream.to_owned(),
            dead: format!("{stream}:dead"),
            connection: connect(redis).await?,
        })
        // end stub
    }

    /// The dead letters, oldest first, at most `max`. None is no error.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or `S:dead` is not a stream.
    pub async fn list(&mut self, max: usize) -> Result<Vec<DeadEntry>, Error> {
        // stub stage 5: XRANGE; the last three fields are ours, those before are the entry's
        let reply = redis::cmd("XRANGE")
            .arg(&self.dead)
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(max.min(i64::MAX as usize))
            .query_async(&mut self.connection)
            .await?;
        Ok(parse_entries(reply, 0)?
            .into_iter()
            .map(dead_entry)
            .collect())
        // end stub
    }

    /// Puts a dead letter back into the stream as a new entry, with its own fields only, byte for
    /// byte and in their order, and removes it from the dead letters, in one atomic step. Returns the
    /// new entry's id, or `None` if there is no such dead letter (any more).
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost, or `id` is not an entry id.
    pub async fn retry(&mut self, id: &str) -> Result<Option<String>, Error> {
        // stub stage 5: one script: XRANGE of this id, XADD without the last three fields, XDEL
        let mut call = RETRY.key(&self.stream);
        call.key(&self.dead).arg(id);
        Ok(call.invoke_async(&mut self.connection).await?)
        // end stub
    }

    /// Removes a dead letter for good (`XDEL`). Returns whether it was there.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost, or `id` is not an entry id.
    pub async fn drop(&mut self, id: &str) -> Result<bool, Error> {
        // stub stage 5: XDEL from the dead letters
        Ok(redis::cmd("XDEL")
            .arg(&self.dead)
            .arg(id)
            .query_async(&mut self.connection)
            .await?)
        // end stub
    }
}

// solution only
/// KEYS: stream, dead letters. ARGV: group, consumer, id, then names and values.
static DEAD_LETTER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local id = ARGV[3]
if not redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])[1] then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 4))
redis.call('XACK', KEYS[1], ARGV[1], id)
return 1",
    )
});

/// KEYS: stream, dead letters. ARGV: id of the dead letter.
static RETRY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local dead = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not dead then return false end
local id = redis.call('XADD', KEYS[1], '*', unpack(dead[2], 1, #dead[2] - 6))
redis.call('XDEL', KEYS[2], dead[1])
return id",
    )
});

fn dead_entry(mut entry: RawEntry) -> DeadEntry {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    // The entry's own fields may have the same names, so ours are told by their place.
    let mut ours = entry
        .fields
        .split_off(entry.fields.len().saturating_sub(3))
        .into_iter()
        .map(|(_, value)| text(value));
    DeadEntry {
        id: entry.id,
        original_id: ours.next().unwrap_or_default(),
        deliveries: ours.next().and_then(|n| n.parse().ok()).unwrap_or_default(),
        reason: ours.next().unwrap_or_default(),
        fields: entry
            .fields
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
    }
}
// end solution only
