// Stub 064e809b0f4fbc02: this file is yours to write. `cargo xtask reset stream-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! What a crash leaves behind: entries that were delivered and never acknowledged.

use std::sync::LazyLock;

use redis::Script;

use crate::consumer::Consumer;
use crate::entry::{RawEntry, parse_entries};
use crate::error::Error;

impl Consumer {
    /// The entries that are pending for this consumer, with an id greater than `after` (`"0"` for
    /// all), oldest first, at most `max`. Each is delivered once more by this call: the broker's
    /// count of its deliveries grows by one, its idle time starts again, and
    /// [`RawEntry::deliveries`] is the new count.
    ///
    /// For a consumer that starts again under its old name: what it was given before it died. The
    /// last id returned is the `after` of the next page. An entry that was deleted from the stream
    /// meanwhile is no longer pending after this call, and not returned, so a page may be shorter
    /// than `max` before the end: the end is an empty page.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the group does not exist.
    pub async fn own_pending(&self, after: &str, max: usize) -> Result<Vec<RawEntry>, Error> {
        todo!("stage 4: XREADGROUP from `after` delivers again; the counts are in XPENDING")
    }

    /// Takes over entries of other consumers that have been idle for at least `options.visibility`,
    /// oldest first, at most `max`: their consumer is dead, or has not kept them. From then on they
    /// are pending for this consumer.
    ///
    /// Each is delivered once more by this call, counted by the broker;
    /// [`RawEntry::deliveries`] is the new count. Called again and again it gets all there are,
    /// however many: an empty list means that there are none. This consumer's own entries are left
    /// alone however idle they are. Of two consumers that call it at once, one gets the entry.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the group does not exist.
    pub async fn claim_abandoned(&self, max: usize) -> Result<Vec<RawEntry>, Error> {
        todo!("stage 4: page through XPENDING … IDLE, leave out our own, XCLAIM the others")
    }

    /// Says that this consumer is alive and still at work on these entries: their idle time starts
    /// again, their count of deliveries stays as it is.
    ///
    /// Only what is still pending for this consumer is touched. An entry that another consumer has
    /// taken meanwhile stays with that one, and one that was acknowledged stays acknowledged:
    /// looking and resetting are one atomic step. No ids are no command.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the group does not exist.
    pub async fn keep(&self, ids: &[String]) -> Result<(), Error> {
        todo!("stage 4: one script: what is still ours gets XCLAIM … JUSTID")
    }
}
