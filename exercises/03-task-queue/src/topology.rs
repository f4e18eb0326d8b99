// Stub 8921c8863f3a20f0: this file is yours to write. `cargo xtask reset task-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Exchanges and queues: what RabbitMQ has to have before anything can be submitted or worked.

use std::time::Duration;

use lapin::Channel;

use crate::error::Error;
use crate::names::Names;

/// Declares what tasks need, all of it durable:
///
/// - the topic exchanges `NAME` and `NAME.high`, the fanout exchange `NAME.dead`;
/// - the quorum queues `NAME` and `NAME.high`, each bound with `#` to the exchange of its name, with the
///   arguments `x-queue-type` `quorum`, `x-dead-letter-exchange` `NAME.dead`,
///   `x-dead-letter-strategy` `at-least-once` and `x-overflow` `reject-publish`, which that strategy needs;
/// - the quorum queue `NAME.dead`, bound to `NAME.dead`.
///
/// Declaring it again changes nothing. Nothing is deleted, whatever is there. In AMQP:
/// `exchange.declare`, `queue.declare`, `queue.bind`.
///
/// # Errors
/// [`Error::Declared`] if one of them is there with another type or other arguments; it names the one.
/// The channel is closed then, by RabbitMQ. [`Error::Away`] if the connection is lost, or the channel
/// was closed before.
pub async fn declare(channel: &Channel, names: &Names) -> Result<(), Error> {
    todo!("stage 1: three exchanges, three queues, three bindings")
}

/// Declares the queue in which a task waits for so long before it comes back to the queue `NAME`, and
/// returns its name, `NAME.retry.MS`.
///
/// A durable quorum queue whose messages all live equally long: `x-message-ttl` is the delay in
/// milliseconds, `x-dead-letter-exchange` is the default exchange, `""`, and `x-dead-letter-routing-key`
/// is `NAME`. `x-dead-letter-strategy` and `x-overflow` are as in [`declare`]: without them a
/// restart of RabbitMQ may lose what is on its way from here. One queue for each delay: in a queue with
/// different times to live the short ones wait behind the long ones.
///
/// # Errors
/// As [`declare`].
pub async fn declare_wait(
    channel: &Channel,
    names: &Names,
    delay: Duration,
) -> Result<String, Error> {
    todo!("stage 4: one queue with a time to live, that dead-letters into the work queue")
}
