//! The scripts. Redis runs each as a whole, and nothing else meanwhile.

use std::sync::LazyLock;

use redis::Script;

/// What the scripts have in common. ARGV: prefix, node, and then the script's own.
const COMMON: &str = "
local prefix, node = ARGV[1], ARGV[2]
local function key(kind, name)
  return prefix .. ':' .. kind .. (name and ':' .. name or '')
end
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
-- For all nodes, in order. It is cut at some ten thousand entries.
local function tell(...)
  redis.call('XADD', key('log'), 'MAXLEN', '~', '10000', '*', ...)
end
-- A field of XINFO STREAM, or nil if there is no such stream.
local function info(stream, field)
  local reply = redis.pcall('XINFO', 'STREAM', stream)
  if reply.err then return nil end
  for i = 1, #reply, 2 do
    if reply[i] == field then return reply[i + 1] end
  end
end
-- The number of a room's last message: the first half of the last id of its stream.
local function last(room)
  local id = info(key('room', room), 'last-generated-id')
  return id and tonumber(string.match(id, '^%d+')) or 0
end
local function leave(name, room, owner)
  if redis.call('HGET', key('members', room), name) ~= owner then return 0 end
  redis.call('HDEL', key('members', room), name)
  redis.call('SREM', key('node', owner), room .. ':' .. name)
  tell('type', 'left', 'room', room, 'name', name, 'node', node)
  return 1
end
local function release(name, owner)
  redis.call('SREM', key('node', owner), ':' .. name)
  if redis.call('HGET', key('names'), name) ~= owner then return end
  redis.call('HDEL', key('names'), name)
  redis.call('HDEL', key('said'), name)
end
-- Takes away everything that a node has.
local function bury(owner)
  for _, seat in ipairs(redis.call('SMEMBERS', key('node', owner))) do
    local room, name = string.match(seat, '^([^:]*):(.*)$')
    if room == '' then release(name, owner) else leave(name, room, owner) end
  end
  redis.call('DEL', key('node', owner))
  redis.call('ZREM', key('nodes'), owner)
end
local function alive()
  return redis.call('ZSCORE', key('nodes'), node)
end
local function renew()
  redis.call('ZADD', key('nodes'), now() + 3000, node)
end
local DEAD = redis.error_reply('DEADNODE this node was taken for dead')
";

fn script(body: &str) -> Script {
    Script::new(&format!("{COMMON}{body}"))
}

pub static REGISTER: LazyLock<Script> = LazyLock::new(|| script("renew() return 1"));

pub static RENEW: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
if not alive() then return 0 end
renew()
for _, other in ipairs(redis.call('ZRANGEBYSCORE', key('nodes'), '-inf', now())) do
  bury(other)
end
return 1",
    )
});

pub static UNREGISTER: LazyLock<Script> = LazyLock::new(|| script("bury(node) return 1"));

/// ARGV: name.
pub static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
if not alive() then return DEAD end
local name = ARGV[3]
local owner = redis.call('HGET', key('names'), name)
if owner and owner ~= node then
  local ends = redis.call('ZSCORE', key('nodes'), owner)
  if ends and tonumber(ends) > now() then return 0 end
  bury(owner)
end
redis.call('HSET', key('names'), name, node)
redis.call('SADD', key('node', node), ':' .. name)
return 1",
    )
});

/// ARGV: name, rooms.
pub static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local name = ARGV[3]
for i = 4, #ARGV do leave(name, ARGV[i], node) end
release(name, node)
return 1",
    )
});

/// ARGV: name, room.
pub static JOIN: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local name, room = ARGV[3], ARGV[4]
if not alive() or redis.call('HGET', key('names'), name) ~= node then return DEAD end
if redis.call('HGET', key('members', room), name) == node then return 0 end
redis.call('HSET', key('members', room), name, node)
redis.call('SADD', key('node', node), room .. ':' .. name)
tell('type', 'joined', 'room', room, 'name', name, 'seq', last(room), 'node', node)
return 1",
    )
});

/// ARGV: name, room.
pub static LEAVE: LazyLock<Script> =
    LazyLock::new(|| script("return leave(ARGV[3], ARGV[4], node)"));

pub static SEATS: LazyLock<Script> =
    LazyLock::new(|| script("return redis.call('SMEMBERS', key('node', node))"));

/// ARGV: room.
pub static MEMBERS: LazyLock<Script> =
    LazyLock::new(|| script("return redis.call('HKEYS', key('members', ARGV[3]))"));

/// ARGV: rooms.
pub static ENDS: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local numbers = {}
for i = 3, #ARGV do numbers[#numbers + 1] = last(ARGV[i]) end
return {info(key('log'), 'last-generated-id') or '0-0', numbers}",
    )
});
