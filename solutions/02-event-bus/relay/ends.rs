// solution only
//! Both ends of a relay: the outbox that it empties, and the log that it fills.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;

use crate::connection::{connect, connect_for_blocking};
use crate::entry::{RawEntry, parse_read};
use crate::error::Error;
use crate::options::Relay;

/// How long one read waits for the next entry.
const WAIT: Duration = Duration::from_secs(1);
/// How much later its reply may come before its connection counts as lost.
const GRACE: Duration = Duration::from_secs(5);

pub struct Ends {
    options: Relay,
    /// For reads only: whatever is sent on it while it blocks waits as long.
    reads: MultiplexedConnection,
    outbox: MultiplexedConnection,
    log: MultiplexedConnection,
}

impl Ends {
    pub async fn connect(options: &Relay) -> Result<Ends, Error> {
        let mut reads = connect_for_blocking(&options.redis).await?;
        reads.set_response_timeout(WAIT + GRACE);
        let outbox = connect(&options.redis).await?;
        let log = match &options.log_redis {
            Some(url) => connect(url).await?,
            None => outbox.clone(),
        };
        Ok(Ends {
            options: options.clone(),
            reads,
            outbox,
            log,
        })
    }

    /// The oldest entries of the outbox. None if none came for a while.
    pub async fn oldest(&self) -> Result<Vec<RawEntry>, Error> {
        let reply = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(self.options.batch.clamp(1, i64::MAX as usize))
            .arg("BLOCK")
            .arg(WAIT.as_millis() as u64)
            .arg("STREAMS")
            .arg(self.options.outbox())
            .arg("0")
            .query_async(&mut self.reads.clone())
            .await?;
        parse_read(reply)
    }

    /// Appends to the log those entries that are not there yet, and says how many.
    pub async fn append(&self, entries: &[RawEntry]) -> Result<u64, Error> {
        if entries.is_empty() {
            return Ok(0);
        }
        let mut call = APPEND.key(&self.options.log);
        call.key(self.options.relayed());
        for entry in entries {
            call.arg(&entry.id).arg(entry.fields.len() * 2);
            call.arg(&entry.fields);
        }
        Ok(call.invoke_async(&mut self.log.clone()).await?)
    }

    /// Removes from the outbox what is in the log.
    pub async fn remove(&self, entries: &[RawEntry]) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = entries.iter().map(|entry| &entry.id).collect();
        Ok(redis::cmd("XDEL")
            .arg(self.options.outbox())
            .arg(&ids)
            .query_async(&mut self.outbox.clone())
            .await?)
    }
}

/// KEYS: log, the key with the last id. ARGV: for each entry its id, the number of its names and
/// values, and these.
///
/// Ids are compared part by part, as numbers without leading zeros: the longer one is greater. Lua's
/// own numbers are not exact for all of them.
static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local function above(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local function behind(id, other)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  local other_ms, other_number = string.match(other, '(%d+)-(%d+)')
  if ms ~= other_ms then return above(ms, other_ms) end
  return above(number, other_number)
end
local last = redis.call('GET', KEYS[2]) or '0-0'
local at, appended = 1, 0
while at <= #ARGV do
  local id, length = ARGV[at], ARGV[at + 1]
  if behind(id, last) then
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 2, at + 1 + length))
    last = id
    appended = appended + 1
  end
  at = at + 2 + length
end
if appended > 0 then redis.call('SET', KEYS[2], last) end
return appended",
    )
});
// end solution only
