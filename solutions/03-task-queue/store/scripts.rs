//! The scripts. `KEYS[1]` is the task's hash, or the key's; `KEYS[2]` is the stream of what is done.

use std::sync::LazyLock;

use redis::Script;

/// What several scripts need: the state and the attempts, and the way a task ends.
macro_rules! script {
    ($body:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                "local state = redis.call('HGET', KEYS[1], 'state')
                local attempts = tonumber(redis.call('HGET', KEYS[1], 'attempts') or '0')
                local ended = state == 'succeeded' or state == 'failed' or state == 'cancelled'
                local function finish(id, state, keep)
                    redis.call('HSET', KEYS[1], 'state', state)
                    redis.call('PEXPIRE', KEYS[1], keep)
                    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'id', id, 'state', state)
                end\n",
                $body
            ))
        })
    };
}

/// ARGV: kind.
pub(super) static CREATE: LazyLock<Script> = script!(
    "if state then return 0 end
    redis.call('HSET', KEYS[1], 'kind', ARGV[1], 'state', 'queued', 'attempts', 0, 'progress', 0)
    return 1"
);

/// ARGV: id, kind, attempts before this copy, redelivered, most attempts, now, deadline or 0, keep, asker.
pub(super) static BEGIN: LazyLock<Script> = script!(
    "local id, kind, copy, redelivered = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
    -- The same delivery asks again, because it has not heard the answer: it gets the same.
    local again = redis.call('HGET', KEYS[1], 'asker') == ARGV[9]
    local function fail(reason)
        redis.call('HSET', KEYS[1], 'kind', kind, 'attempts', attempts, 'error', reason, 'asker', ARGV[9])
        redis.call('HSETNX', KEYS[1], 'progress', 0)
        finish(id, 'failed', ARGV[8])
        return {'bury', attempts, reason}
    end
    if state == 'running' and again then return {'run', attempts, ''} end
    -- Whoever gave the task up may have died before the dead letter was out.
    if state == 'failed' and (redelivered or again) then
        return {'bury', attempts, redis.call('HGET', KEYS[1], 'error') or ''}
    end
    if ended then return {'drop', attempts, ''} end
    -- A message that is older than the attempt that runs, or than the one that failed last: it was
    -- doubled on its way, and another one carries the task on.
    if copy < attempts and not (state == 'running' and redelivered) then
        return {'drop', attempts, ''}
    end
    if ARGV[7] ~= '0' and tonumber(ARGV[6]) >= tonumber(ARGV[7]) then
        return fail('its deadline has passed')
    end
    if attempts >= tonumber(ARGV[5]) then
        return fail('its worker was lost during attempt ' .. attempts .. ', the last')
    end
    attempts = attempts + 1
    redis.call('HSET', KEYS[1], 'kind', kind, 'state', 'running', 'attempts', attempts, 'progress', 0, 'asker', ARGV[9])
    return {'run', attempts, ''}"
);

/// ARGV: attempt, percent.
pub(super) static PROGRESS: LazyLock<Script> = script!(
    "if state ~= 'running' or attempts ~= tonumber(ARGV[1]) then return 0 end
    if tonumber(ARGV[2]) > tonumber(redis.call('HGET', KEYS[1], 'progress') or '0') then
        redis.call('HSET', KEYS[1], 'progress', ARGV[2])
    end
    return 1"
);

/// ARGV: id, attempt, state, result or error, keep.
pub(super) static END: LazyLock<Script> = script!(
    "if attempts ~= tonumber(ARGV[2]) then return 0 end
    -- Said before, and the answer was not heard.
    if state == ARGV[3] then return 1 end
    if state ~= 'running' then return 0 end
    if ARGV[3] == 'succeeded' then
        redis.call('HSET', KEYS[1], 'result', ARGV[4], 'progress', 100)
        redis.call('HDEL', KEYS[1], 'error')
    else
        redis.call('HSET', KEYS[1], 'error', ARGV[4])
    end
    finish(ARGV[1], ARGV[3], ARGV[5])
    return 1"
);

/// ARGV: attempt, error.
pub(super) static AGAIN: LazyLock<Script> = script!(
    "if state ~= 'running' or attempts ~= tonumber(ARGV[1]) then return 0 end
    redis.call('HSET', KEYS[1], 'state', 'queued', 'progress', 0, 'error', ARGV[2])
    return 1"
);

/// ARGV: id, error, keep.
pub(super) static REFUSE: LazyLock<Script> = script!(
    "if ended then return 0 end
    redis.call('HSET', KEYS[1], 'error', ARGV[2])
    finish(ARGV[1], 'failed', ARGV[3])
    return 1"
);

/// ARGV: id, keep.
pub(super) static CANCEL: LazyLock<Script> = script!(
    "if not state or ended then return 0 end
    finish(ARGV[1], 'cancelled', ARGV[2])
    return 1"
);

/// `KEYS[1]` is the idempotency key's. ARGV: id, digest, keep.
pub(super) static RESERVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local id, digest, accepted = unpack(redis.call('HMGET', KEYS[1], 'id', 'digest', 'accepted'))
        if not id then
            redis.call('HSET', KEYS[1], 'id', ARGV[1], 'digest', ARGV[2])
            redis.call('PEXPIRE', KEYS[1], ARGV[3])
            return {'new', ARGV[1]}
        end
        if digest ~= ARGV[2] then return {'reused', id} end
        return {accepted and 'accepted' or 'pending', id}",
    )
});

/// `KEYS[2]` is the idempotency key's. ARGV: kind, id.
pub(super) static ACCEPT: LazyLock<Script> = script!(
    "if not state then
        redis.call('HSET', KEYS[1], 'kind', ARGV[1], 'state', 'queued', 'attempts', 0, 'progress', 0)
    end
    -- It may have expired since, and must not come back without an end.
    if redis.call('HGET', KEYS[2], 'id') == ARGV[2] then redis.call('HSET', KEYS[2], 'accepted', 1) end
    return 1"
);
