// Stub 0668642013ac7983: this file is yours to write. `cargo xtask reset stream-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! The worker: takes entries as fast as it has room for them, runs the handler, and settles each
//! entry in the end, whatever happens to it, to Redis or to the connection between them.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::consumer::Consumer;
use crate::entry::Entry;
use crate::error::Error;
use crate::options::WorkOptions;

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries whose handler succeeded and that were then acknowledged.
    pub handled: u64,
    /// Entries that this worker moved to the dead letters.
    pub dead_lettered: u64,
    /// Entries that are still pending for this consumer: unfinished at the stop deadline, or waiting
    /// for a retry. They are not lost: others take them over after `visibility`.
    pub left_pending: u64,
}

/// Works on the entries of a stream as one consumer of a group, until `stop`: reads them, runs
/// `handler` for each, and settles each one, whatever dies. Every entry that is delivered ends up
/// acknowledged or dead-lettered: never neither, never both.
///
/// The function grows with the stages. What it promises, stage by stage:
///
/// **2, consume.** It connects and creates the group itself ([`Consumer::create_group`]), so entries
/// sent before it started are handled too. An entry is acknowledged after its handler returned `Ok`,
/// never before, and only that entry: a failure of one says nothing about the others. An entry whose
/// handler failed stays pending. With nothing to do it waits in Redis (a blocking read) instead of
/// asking again and again: an idle worker sends fewer than 20 commands a second.
///
/// **3, share.** Never more than `options.concurrency` handlers run at once, and never more entries
/// than that are delivered to this consumer without being handled or failed: a read asks for as many
/// as there are free slots, so what this worker has no room for is left to others. A slow entry
/// occupies its own slot and holds up nothing else. Any number of workers share a group.
///
/// **4, survive.** At a start it first delivers again what is pending for its name from a former life
/// ([`Consumer::own_pending`]). Some times in each `visibility` it keeps everything it holds
/// ([`Consumer::keep`]), so that an entry whose handler is alive is not taken from it however long it
/// runs. And it takes over what others abandoned ([`Consumer::claim_abandoned`]), as slots are free,
/// until there is no more: a dead worker's entries are handled again within `visibility` plus one
/// scan, and a scan is due at least every `visibility / 2` (or every 100 ms, if that is longer).
/// A worker that was paused while another took its entry neither takes it back nor dead-letters it.
///
/// **5, give up well.** When a handler fails (returns `Err` or panics, reason `handler panicked: …`)
/// for the entry's delivery number n, and n is below `options.max_deliveries`, the entry is delivered
/// again after at least [`retry_delay`](crate::retry_delay)`(options, n)`. That is a redelivery by the
/// broker: its count grows by one, and `Entry::deliveries` is that count, so that it survives any
/// restart. While it waits the entry occupies no slot, stays pending for this consumer, and is kept.
/// When n has reached `options.max_deliveries` the entry is dead-lettered with the handler's last
/// error as the reason ([`Consumer::dead_letter`]). The handler is started at most `max_deliveries`
/// times for an entry: one that was delivered so often and comes back all the same, because its
/// worker died each time, is dead-lettered without running the handler again. What cannot be decoded
/// ([`RawEntry::decode`](crate::RawEntry::decode)) is dead-lettered at once, without the handler.
///
/// **6, stay bounded.** While it acknowledges entries it [trims](crate::trim()) the stream now and
/// then: not at each entry, and no later than some seconds after.
///
/// **7, stop.** When `stop` is cancelled it reads, claims and retries no more. What is in flight, and
/// what the read under way then still brings, is finished and settled. Entries that wait for a retry
/// are not waited for: they stay pending, for others. Then the consumer leaves its group
/// ([`Consumer::leave`], so only if nothing is pending for it), and `work` returns. It returns as
/// soon as that is done, and `options.stop_deadline` after the stop in any case (up to a second later
/// if Redis does not answer): handlers that still run are dropped, and their entries stay pending for
/// others. A read that is under way is waited for, not cancelled.
///
/// **8, one effect.** A connection that is lost later than at the start is rebuilt, with growing
/// pauses, for ever; the worker never gives up and never panics over it. Handlers run on meanwhile,
/// and what they decided is told to Redis afterwards. What Redis delivered in a reply that never came
/// is found and handled too, without restarting the worker. Nothing is sent on the connection that
/// blocks while it blocks.
///
/// **9, go fast.** Entries are read many at a time, as slots allow, and acknowledged many at a time:
/// 10,000 quick entries at a concurrency of 100 take some hundreds of round trips, not tens of
/// thousands. A single entry in a quiet stream is acknowledged within milliseconds all the same.
///
/// # Errors
/// Only at the start: [`Error::Connect`] if Redis cannot be reached or does not let us in,
/// [`Error::Redis`] if the group cannot be created, because the key is not a stream, for example.
pub async fn work<F, Fut>(
    options: WorkOptions,
    handler: F,
    stop: CancellationToken,
) -> Result<Summary, Error>
where
    F: Fn(Entry) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    todo!("stage 2: create the group; read, run the handler, acknowledge what succeeded; stop")
}
