//! Bounded streams: how far behind the consumers are, and removing what all of them are done with.

use redis::Script;
use redis::aio::MultiplexedConnection;

use crate::error::Error;

/// Removes from the stream what every one of its groups has acknowledged, and returns how many
/// entries went.
///
/// An entry that some group has not been given yet, or has pending, is never removed, and neither is
/// any entry behind it; so one slow group keeps the stream long. Of what could go up to 200 entries
/// may stay, because Redis trims whole blocks for less. A stream without a group loses nothing: its
/// consumers may come yet. A stream that does not exist is no error (0).
///
/// Looking at the groups and removing are one atomic step, so an entry that is delivered, or a group
/// that is created, at the same moment loses nothing either. (`XINFO GROUPS`, `XPENDING`,
/// `XTRIM … MINID` in one script.)
///
/// # Errors
/// [`Error::Redis`] if the connection is lost or the key is not a stream.
pub async fn trim(connection: &mut MultiplexedConnection, stream: &str) -> Result<u64, Error> {
    // stub stage 6: in one script, the oldest id that any group still needs, then XTRIM MINID
    let script = Script::new(&format!("{GROUPS}{TRIM}"));
    Ok(script.key(stream).invoke_async(connection).await?)
    // end stub
}

/// How many entries of the stream wait for the slowest of its groups: those it has pending and those
/// not delivered to it yet.
///
/// A stream without a group counts all its entries, one that does not exist none. It holds whatever
/// happened to the stream before: trimmed, entries deleted, groups created late.
///
/// # Errors
/// [`Error::Redis`] if the connection is lost or the key is not a stream.
pub async fn backlog(connection: &mut MultiplexedConnection, stream: &str) -> Result<u64, Error> {
    // stub stage 6: the largest pending + lag of XINFO GROUPS; count yourself once entries were deleted
    let script = Script::new(&format!("{GROUPS}{BACKLOG}return backlog(KEYS[1])"));
    Ok(script.key(stream).invoke_async(connection).await?)
    // end stub
}

// solution only
/// Lua: `groups(stream)`, the rows of `XINFO GROUPS` as tables; none for a stream that is not there.
pub(crate) const GROUPS: &str = "
local function groups(stream)
  local rows = {}
  if redis.call('EXISTS', stream) == 0 then return rows end
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
    rows[#rows + 1] = group
  end
  return rows
end
";

/// The oldest entry that any group still needs is its oldest pending one, or else the last that was
/// delivered to it: keeping that one entry too saves computing the id after it.
const TRIM: &str = "
local function older(a, b)
  local a_ms, a_seq = a:match('(%d+)-(%d+)')
  local b_ms, b_seq = b:match('(%d+)-(%d+)')
  -- Digits are compared as text: Lua's numbers cannot hold 64 bits.
  if a_ms ~= b_ms then return #a_ms < #b_ms or (#a_ms == #b_ms and a_ms < b_ms) end
  return #a_seq < #b_seq or (#a_seq == #b_seq and a_seq < b_seq)
end
local oldest
for _, group in ipairs(groups(KEYS[1])) do
  local pending = redis.call('XPENDING', KEYS[1], group['name'])
  local needed = pending[2] or group['last-delivered-id']
  if not oldest or older(needed, oldest) then oldest = needed end
end
if not oldest then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', oldest)";

/// Lua: `backlog(stream)`. Once an entry was deleted with `XDEL`, Redis 7.0 may not know a group's lag
/// (nil), or be wrong about it. Then what was not delivered is counted, a page at a time.
pub(crate) const BACKLOG: &str = "
local function undelivered(stream, after)
  local count = 0
  while true do
    local page = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', 500)
    count = count + #page
    if #page < 500 then return count end
    after = page[#page][1]
  end
end
local function backlog(stream)
  local rows = groups(stream)
  if #rows == 0 then return redis.call('XLEN', stream) end
  local most, info = 0, redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do info[info[i]] = info[i + 1] end
  local nothing_deleted = info['max-deleted-entry-id'] == '0-0'
  for _, group in ipairs(rows) do
    local lag = nothing_deleted and group['lag'] or undelivered(stream, group['last-delivered-id'])
    most = math.max(most, group['pending'] + lag)
  end
  return most
end
";
// end solution only
