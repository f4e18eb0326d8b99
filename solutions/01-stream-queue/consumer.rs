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
        // stub stage 2: one connection for commands, one for blocking reads
        Ok(Consumer {
            options: Arc::new(options.clone()),
            commands: connect(&options.redis).await?,
            reads: connect_for_blocking(&options.redis).await?,
        })
        // end stub
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
        // stub stage 2: XGROUP CREATE from "0" with MKSTREAM; BUSYGROUP is fine
        let created = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(&self.options.stream)
            .arg(&self.options.group)
            .arg("0")
            .arg("MKSTREAM")
            .query_async::<()>(&mut self.commands.clone())
            .await;
        match created {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            _ => Ok(()),
        }
        // end stub
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
        // stub stage 2: XREADGROUP for new entries (">") on the blocking connection
        if max == 0 {
            return Ok(Vec::new());
        }
        let max = max.min(i64::MAX as usize);
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.options.group);
        command.arg(&self.options.consumer).arg("COUNT").arg(max);
        if !wait.is_zero() {
            // Rounded up: BLOCK 0 would wait for ever.
            command
                .arg("BLOCK")
                .arg(wait.as_micros().div_ceil(1_000) as u64);
        }
        command.arg("STREAMS").arg(&self.options.stream).arg(">");
        let mut connection = self.reads.clone();
        connection.set_response_timeout(wait + READ_GRACE);
        let reply = command.query_async(&mut connection).await?;
        parse_read(reply, 1)
        // end stub
    }

    /// Tells the group that these entries are done (`XACK`, all ids in one command) and returns how
    /// many of them were pending in the group. No ids are no command.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost.
    pub async fn acknowledge(&self, ids: &[String]) -> Result<u64, Error> {
        // stub stage 2: one XACK for all ids; XACK without ids is an error
        if ids.is_empty() {
            return Ok(0);
        }
        Ok(redis::cmd("XACK")
            .arg(&self.options.stream)
            .arg(&self.options.group)
            .arg(ids)
            .query_async(&mut self.commands.clone())
            .await?)
        // end stub
    }

    /// Removes this consumer from the group, unless entries are pending for it: removing those would
    /// lose them. Looking and removing are one atomic step. Returns whether the consumer is gone,
    /// which it is too if it was never there.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the group does not exist.
    pub async fn leave(&self) -> Result<bool, Error> {
        // stub stage 7: one script: XPENDING of this consumer, then XGROUP DELCONSUMER
        Ok(redis::Script::new(LEAVE)
            .key(&self.options.stream)
            .arg(&self.options.group)
            .arg(&self.options.consumer)
            .invoke_async(&mut self.commands.clone())
            .await?)
        // end stub
    }
}

// solution only
/// How much later than asked for a blocking read may answer before its connection counts as lost.
const READ_GRACE: Duration = Duration::from_secs(5);

/// KEYS: stream. ARGV: group, consumer.
const LEAVE: &str = "
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if pending[1] then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1";
// end solution only
