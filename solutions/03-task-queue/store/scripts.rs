//! The scripts. `KEYS[1]` is the task's hash, or the key's; `KEYS[2]` is the stream of what is done.

use std::sync::LazyLock;

use redis::Script;

/// What several scripts need: how far the task is, how it becomes known, and how it ends.
macro_rules! script {
    ($body:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                "local state = redis.call('HGET', KEYS[1], 'state')
                local attempts = tonumber(redis.call('HGET', KEYS[1], 'attempts') or '0')
                local ended = state == 'succeeded' or state == 'failed' or state == 'cancelled'
                local function now()
                    local time = redis.call('TIME')
                    return time[1] * 1000 + math.floor(time[2] / 1000)
                end
                local function create(kind, deadline)
                    if state then return end
                    redis.call('HSET', KEYS[1], 'kind', kind, 'state', 'queued', 'attempts', 0, 'progress', 0)
                    if deadline ~= '' then redis.call('HSET', KEYS[1], 'deadline', deadline) end
                end
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

/// ARGV: kind, deadline or nothing.
pub(super) static CREATE: LazyLock<Script> = script!(
    "create(ARGV[1], ARGV[2])
    return 1"
);

/// ARGV: id, kind, deadline or nothing, whether that has passed, attempts before this copy, redelivered,
/// asker, most attempts, lease, reason for a refusal or nothing, keep.
///
/// `copy` in the hash is the copy that carries the running attempt, `seen` is when that gave its last
/// sign of life, `asker` is the delivery that was answered last.
pub(super) static BEGIN: LazyLock<Script> = script!(
    "local id, kind, overdue, copy, redelivered = ARGV[1], ARGV[2], ARGV[4] == '1', tonumber(ARGV[5]), ARGV[6] == '1'
    local asker, most, lease, refusal = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
    -- The same delivery asks again, because it has not heard the answer: it gets the same.
    local again = redis.call('HGET', KEYS[1], 'asker') == asker
    if state == 'running' and again then return {'run', attempts, ''} end
    -- Whoever gave the task up may have died before the dead letter was out.
    if state == 'failed' and (redelivered or again) then
        return {'bury', attempts, redis.call('HGET', KEYS[1], 'error') or ''}
    end
    if ended then return {'drop', attempts, ''} end

    local runs = state == 'running' and copy == tonumber(redis.call('HGET', KEYS[1], 'copy'))
    if runs then
        -- A second copy of what runs already.
        if not redelivered then return {'drop', attempts, ''} end
        -- It came again because a connection was lost, or a worker. Only a worker falls silent.
        if now() - tonumber(redis.call('HGET', KEYS[1], 'seen')) < lease then return {'wait', attempts, ''} end
    elseif copy < attempts then
        -- Older than an attempt that was made: it was late or doubled, and another message carries
        -- the task on.
        return {'drop', attempts, ''}
    end

    create(kind, ARGV[3])
    local function fail(reason)
        redis.call('HSET', KEYS[1], 'error', reason, 'asker', asker)
        finish(id, 'failed', ARGV[11])
        return {'bury', attempts, reason}
    end
    if refusal ~= '' then return fail(refusal) end
    if overdue then return fail('its deadline has passed') end
    if attempts >= most then
        return fail(runs and 'its worker was lost during attempt ' .. attempts .. ', the last'
            or 'attempt ' .. attempts .. ' was the last')
    end
    attempts = attempts + 1
    redis.call('HSET', KEYS[1], 'state', 'running', 'attempts', attempts, 'progress', 0,
        'copy', copy, 'seen', now(), 'asker', asker)
    return {'run', attempts, ''}"
);

/// ARGV: attempt, percent.
pub(super) static PROGRESS: LazyLock<Script> = script!(
    "if state ~= 'running' or attempts ~= tonumber(ARGV[1]) then return 0 end
    redis.call('HSET', KEYS[1], 'seen', now())
    if tonumber(ARGV[2]) > tonumber(redis.call('HGET', KEYS[1], 'progress')) then
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

/// `KEYS[2]` is the idempotency key's. ARGV: kind, deadline or nothing, id.
pub(super) static ACCEPT: LazyLock<Script> = script!(
    "create(ARGV[1], ARGV[2])
    -- It may have expired since, and must not come back without an end.
    if redis.call('HGET', KEYS[2], 'id') == ARGV[3] then redis.call('HSET', KEYS[2], 'accepted', 1) end
    return 1"
);
