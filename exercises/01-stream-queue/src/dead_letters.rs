// Stub 2638b72f4a4582de: this file is yours to write. `cargo xtask reset stream-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

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
    todo!("stage 5: first_retry doubled for each failure, jitter upwards, capped, no overflow")
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
        todo!("stage 5: one script: is it pending for us? XADD to S:dead, XACK")
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
        todo!("stage 5: connect, and remember both streams")
    }

    /// The dead letters, oldest first, at most `max`. None is no error.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or `S:dead` is not a stream.
    pub async fn list(&mut self, max: usize) -> Result<Vec<DeadEntry>, Error> {
        todo!("stage 5: XRANGE; the last three fields are ours, those before are the entry's")
    }

    /// Puts a dead letter back into the stream as a new entry, with its own fields only, byte for
    /// byte and in their order, and removes it from the dead letters, in one atomic step. Returns the
    /// new entry's id, or `None` if there is no such dead letter (any more).
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost, or `id` is not an entry id.
    pub async fn retry(&mut self, id: &str) -> Result<Option<String>, Error> {
        todo!("stage 5: one script: XRANGE of this id, XADD without the last three fields, XDEL")
    }

    /// Removes a dead letter for good (`XDEL`). Returns whether it was there.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost, or `id` is not an entry id.
    pub async fn drop(&mut self, id: &str) -> Result<bool, Error> {
        todo!("stage 5: XDEL from the dead letters")
    }
}
