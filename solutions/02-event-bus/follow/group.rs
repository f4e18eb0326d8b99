// solution only
//! The consumer group of a follower, with one consumer of the same name.

use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Script};

use crate::connection::{connect, connect_for_blocking};
use crate::entry::{RawEntry, parse_read};
use crate::error::Error;
use crate::options::Follow;

/// How long one read waits for a new entry.
const WAIT: Duration = Duration::from_secs(1);
/// How much later its reply may come before its connection counts as lost.
const GRACE: Duration = Duration::from_secs(5);

pub struct Group {
    log: String,
    group: String,
    dead: String,
    commands: MultiplexedConnection,
    /// For reads only: whatever is sent on it while it blocks waits as long.
    reads: MultiplexedConnection,
}

impl Group {
    /// Connects twice. Creates nothing.
    pub async fn connect(options: &Follow) -> Result<Group, Error> {
        let mut reads = connect_for_blocking(&options.redis).await?;
        reads.set_response_timeout(WAIT + GRACE);
        Ok(Group {
            log: options.log.clone(),
            group: options.group.clone(),
            dead: options.dead_stream(),
            commands: connect(&options.redis).await?,
            reads,
        })
    }

    /// Makes sure that there is a group: it may be gone, too, with a Redis that lost its data.
    pub async fn create(&self) -> Result<(), Error> {
        let created = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(&self.log)
            .arg(&self.group)
            .arg("0")
            .arg("MKSTREAM")
            .query_async::<()>(&mut self.commands.clone())
            .await;
        match created {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Gives up what is pending, and goes on with what lies behind an id.
    pub async fn begin_behind(&self, id: &str) -> Result<(), Error> {
        let mut call = BEGIN.key(&self.log);
        call.arg(&self.group).arg(id);
        Ok(call.invoke_async(&mut self.commands.clone()).await?)
    }

    /// What was delivered and is not acknowledged, oldest first, at most `max`.
    pub async fn pending(&self, max: usize) -> Result<Vec<RawEntry>, Error> {
        let reply = self
            .read(max)
            .arg("STREAMS")
            .arg(&self.log)
            .arg("0")
            .query_async(&mut self.reads.clone())
            .await?;
        parse_read(reply)
    }

    /// Waits a while for new entries. Those that come are pending from then on.
    pub async fn wait_for_new(&self, max: usize) -> Result<(), Error> {
        Ok(self
            .read(max)
            .arg("BLOCK")
            .arg(WAIT.as_millis() as u64)
            .arg("STREAMS")
            .arg(&self.log)
            .arg(">")
            .query_async(&mut self.reads.clone())
            .await?)
    }

    fn read(&self, max: usize) -> Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.group).arg(&self.group);
        command.arg("COUNT").arg(max.clamp(1, i64::MAX as usize));
        command
    }

    /// Tells that an entry is done.
    pub async fn acknowledge(&self, id: &str) -> Result<(), Error> {
        Ok(redis::cmd("XACK")
            .arg(&self.log)
            .arg(&self.group)
            .arg(id)
            .query_async(&mut self.commands.clone())
            .await?)
    }

    /// Moves an entry to the dead letters, unless that was done before.
    pub async fn set_aside(&self, entry: &RawEntry, reason: &str) -> Result<(), Error> {
        let mut call = SET_ASIDE.key(&self.log);
        call.key(&self.dead)
            .arg(&self.group)
            .arg(&entry.id)
            .arg(&entry.fields)
            .arg(&[("_id", entry.id.as_str()), ("_reason", reason)]);
        Ok(call.invoke_async(&mut self.commands.clone()).await?)
    }
}

/// KEYS: log. ARGV: group, id.
static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
repeat
  local page = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 500)
  for _, pending in ipairs(page) do
    redis.call('XACK', KEYS[1], ARGV[1], pending[1])
  end
until #page == 0
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[2])",
    )
});

/// KEYS: log, dead letters. ARGV: group, id, then names and values.
static SET_ASIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
if not redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)[1] then return end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])",
    )
});
// end solution only
