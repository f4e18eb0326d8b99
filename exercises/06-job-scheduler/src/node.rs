// Stub 91936201504cf92f: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! A node: one of many that may lead, and all of which deal with replies.

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::options::NodeOptions;
use crate::report::NodeReport;

/// Runs a node until `stop`, and returns what it did.
///
/// **Standing by**, it tries to [acquire](crate::Lease::acquire) the lease once in each `check`: so another
/// node leads within the lease and one check after a leader died, and within one check after it has stopped.
///
/// **Leading**, it renews the lease some times in each `lease`, whatever else keeps it busy. It ends its term
/// at the latest a whole `lease` after it *began* the last renewal that succeeded, by its own clock, and at once
/// when it hears that the lease is another's: then it stands by again. In its term it
///
/// - [takes over](crate::Store::take_over) what is open, once, at the beginning;
/// - claims what is [due](crate::Store::due), a page at a time, as the [plan](crate::plan) says, with the
///   misfire policy of each job;
/// - publishes the [open](crate::Store::open) runs, a page at a time, and says so
///   [afterwards](crate::Store::published); a run that no queue took is tried again after a pause;
/// - looks again as soon as the next is due, and within one check in any case: a job that was just added may
///   be the next.
///
/// **In any case** it takes the replies from [`P.replies`](crate::Names::replies), [deals](crate::Store::answer)
/// with each, and acknowledges it then. A failed attempt is made again after the [pause](crate::Retry::pause)
/// for it. What is no reply is thrown away.
///
/// While RabbitMQ or Redis is away it tries again; a connection that was lost is opened again. A leader who
/// cannot publish still claims and renews.
///
/// At `stop` it begins nothing more, [gives the lease up](crate::Lease::release), and returns.
///
/// # Errors
/// At the start, at once: [`Error::Redis`], [`Error::Amqp`], [`Error::Declared`], and [`Error::BadJob`] with the
/// place `/id` if the id is no name. None later.
pub async fn run(options: NodeOptions, stop: CancellationToken) -> Result<NodeReport, Error> {
    todo!("stage 3: claim, publish and take replies until the stop (stage 4: only with the lease)")
}
