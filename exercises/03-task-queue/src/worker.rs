// Stub 5fc29ad267dc8c52: this file is yours to write. `cargo xtask reset task-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Working: takes tasks from the queues, runs them side by side, and goes on after whatever is lost.

use tokio_util::sync::CancellationToken;

use crate::context::Handlers;
use crate::error::Error;
use crate::options::Work;
use crate::report::Worked;

/// Works tasks until `stop`, and returns what became of them.
///
/// Takes from the queues `NAME.high` and `NAME`, each on a channel of its own, and runs up to
/// `concurrency` attempts side by side. The prefetch is the `concurrency`, and twice that for `NAME.high`:
/// a place that gets free goes to a task of high priority if there is one, and the next of them has to be
/// at hand for that. Messages of any other client are worked too. For each delivery:
///
/// - The attempt is begun in Redis, in one step that counts it; state `running`. A task that has ended is
///   not begun, and neither is the copy of one that runs or that another message carries on.
/// - The handler runs. What it says of its progress can be seen within a second. A panic is a failure
///   that is tried again. When its task is cancelled, or given to another worker, it is dropped within a
///   second, and told so by [`Context::is_cancelled`](crate::Context::is_cancelled).
/// - Success: the result is stored, state `succeeded`; then the message is acknowledged.
/// - Failure with attempts left: a delay is drawn from [`Retry::choices`](crate::Retry::choices), and a
///   copy of the message, with the header `x-attempts`, is published to the
///   [queue of that delay](crate::declare_wait) and confirmed; state `queued`, with the error; then the
///   message is acknowledged.
/// - Failure for good, because it is permanent or that was the last attempt: state `failed`, with the
///   reason; then the body is published to `NAME.dead` with the headers `x-reason` (text) and
///   `x-attempts` (an integer), and confirmed; then the message is acknowledged.
/// - An attempt whose worker is killed counts. The message comes again, and is run again; after the last
///   attempt it is given up as above. A delivery that has not begun counts for nothing.
/// - A message may come again while its attempt still runs, because no more than the connection was lost.
///   It may begin another attempt, if one is left; it is better to let the first come to its end.
/// - What is no task, or of a kind that has no handler, is dead-lettered at once, without an attempt.
/// - A deadline that has passed before it begins, that passes while it runs, or that will have passed
///   before the next attempt, is a failure for good.
///
/// Whatever becomes of an attempt that is not the latest has no effect on the status. While Redis or RabbitMQ is away
/// outcomes are kept until they are stored; nothing is acknowledged before. The connection and its
/// channels are opened again, and the topology is declared again.
///
/// At `stop` nothing is begun any more: deliveries that have not begun go back to their queue at once
/// (`basic.nack` with requeue). What runs is waited for, for the `grace` at most. What still runs then is
/// dropped and goes back too.
///
/// # Errors
/// At the start, at once, as [`Submitter::start`](crate::Submitter::start). None later.
pub async fn work(
    options: Work,
    handlers: Handlers,
    stop: CancellationToken,
) -> Result<Worked, Error> {
    todo!(
        "stage 3: connect, consume with a prefetch, run each delivery in a task, acknowledge (stage 8: again and again; stage 9: until the end)"
    )
}
