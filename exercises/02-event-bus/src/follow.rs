// Stub e99988c95c8a166a: this file is yours to write. `cargo xtask reset event-bus` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Following a log: each event of it is handled, in order, whatever dies.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::entry::Stored;
use crate::error::{BoxError, Error};
use crate::options::Follow;
use crate::report::Followed;

/// Calls `handler` for each event of a log that matches the pattern, one after the other, in the
/// order of the log, until `stop`. Redis keeps the place, in the consumer group `options.group`, so
/// that a follower that comes back under the same group goes on where it was. One process at a time
/// follows under a group.
///
/// **Where it begins.** A group that is new begins at the beginning of the log, which need not exist
/// yet (`XGROUP CREATE log group 0 MKSTREAM`). One that exists goes on where it was: first with what
/// was delivered to it and not acknowledged, all of it, in order, and then with what it has not seen.
/// With `options.from` the group is set to that place at the start, before anything is read, and
/// whatever is pending from before is given up. The one consumer of the group has the group's name.
///
/// **What it does with an entry.** After the handler has returned `Ok`, and never before, the entry
/// is acknowledged (`XACK`), and then comes the next one. If the handler returns an error or panics,
/// it is called again for the same event after `options.retry_delay`, which doubles with each further
/// failure, up to ten seconds; nothing overtakes it meanwhile. After `options.attempts` calls the
/// entry is set aside: its fields as they were, then `_id` and `_reason`, go into the stream
/// `L:dead:GROUP`, and it is acknowledged, both in one atomic step. An entry that is no event (without
/// the fields `name`, `data` and `at`, or with data that is no JSON) is set aside at once. One that
/// does not match is acknowledged without a call.
///
/// **What it survives.** A lost connection is rebuilt, with growing pauses up to five seconds, for
/// ever. Nothing is skipped by it, and an event that was handled while Redis was away is acknowledged
/// afterwards, and not handled again. When the process dies, at most the one event whose handler was
/// under way, or had just ended, is handled again.
///
/// **How it ends.** After `stop` a handler call under way is finished and settled, the wait for new
/// events or for the next attempt is not: it returns within a second of that, and without Redis too.
/// What it had been given and has not handled stays pending, and comes first the next time.
///
/// It waits in Redis, not by asking again and again (`XREADGROUP … BLOCK`), on a connection that
/// nothing else uses.
///
/// # Errors
/// Only at the start: [`Error::BadPattern`], [`Error::BadStart`]; [`Error::Connect`] if Redis cannot
/// be reached or does not let us in; [`Error::Redis`] if the group cannot be created, because the key
/// is not a stream, for example.
pub async fn follow<F, Fut>(
    options: Follow,
    handler: F,
    stop: CancellationToken,
) -> Result<Followed, Error>
where
    F: Fn(Stored) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    todo!(
        "stage 7: create the group; own pending entries first, then new ones; handle, acknowledge"
    )
}
