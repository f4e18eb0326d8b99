// Stub f25e9880c15f8ba1: this file is yours to write. `cargo xtask reset stream-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! One consumer of a group: reading what is new, acknowledging what is done, leaving.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::connection::{connect, connect_for_blocking};
use crate::entry::{RawEntry, parse_read};
use crate::error::Error;
use crate::options::WorkOptions;

/// One named member of a consumer group.
///
/// Clones share its two connections: one for commands, and one for blocking reads only, because
/// whatever is sent on a connection that blocks waits until it is done. When either is lost, the
/// calls that use it fail from then on, and one connects a new consumer under the same name.
#[derive(Clone)]
pub struct Consumer {
    pub(crate) options: Arc<WorkOptions>,
    pub(crate) commands: MultiplexedConnection,
    pub(crate) reads: MultiplexedConnection,
}

impl Consumer {
    /// Connects twice to `options.redis`, as the consumer `options.consumer` of `options.group`.
    /// Creates nothing on Redis.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in.
    pub async fn connect(options: &WorkOptions) -> Result<Self, Error> {
        todo!("stage 2: one connection for commands, one for blocking reads")
    }

    /// Creates the group, and the stream too if there is none, so that the group gets every entry
    /// from the beginning, those included that were sent before it existed
    /// (`XGROUP CREATE … 0 MKSTREAM`).
    ///
    /// A group that exists already stays as it is, with its progress and its pending entries.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the key is not a stream.
    pub async fn create_group(&self) -> Result<(), Error> {
        todo!("stage 2: XGROUP CREATE from \"0\" with MKSTREAM; BUSYGROUP is fine")
    }

    /// Reads up to `max` entries that no consumer of the group was given before, oldest first, each
    /// with one delivery (`XREADGROUP … COUNT max BLOCK wait STREAMS stream >`).
    ///
    /// Returns as soon as there is at least one, and with none after `wait`; a `wait` of zero does
    /// not wait at all. What it returns is pending for this consumer until it is acknowledged.
    ///
    /// Only this call uses the blocking connection, one call at a time. Do not drop its future before
    /// it is ready: the read goes on in Redis, and an entry that comes then is pending for this
    /// consumer without anyone having seen it.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost, or if no reply has come a while (some seconds)
    /// after `wait`; [`Error::UnexpectedReply`] if it is not what `XREADGROUP` returns.
    pub async fn read(&self, max: usize, wait: Duration) -> Result<Vec<RawEntry>, Error> {
        todo!("stage 2: XREADGROUP for new entries (\">\") on the blocking connection")
    }

    /// Tells the group that these entries are done (`XACK`, all ids in one command) and returns how
    /// many of them were pending in the group. No ids are no command.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost.
    pub async fn acknowledge(&self, ids: &[String]) -> Result<u64, Error> {
        todo!("stage 2: one XACK for all ids; XACK without ids is an error")
    }

    /// Removes this consumer from the group, unless entries are pending for it: removing those would
    /// lose them. Looking and removing are one atomic step. Returns whether the consumer is gone,
    /// which it is too if it was never there.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the group does not exist.
    pub async fn leave(&self) -> Result<bool, Error> {
        todo!("stage 7: one script: XPENDING of this consumer, then XGROUP DELCONSUMER")
    }
}
