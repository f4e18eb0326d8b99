//! The scripts.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($($part:expr),+) => {
        LazyLock::new(|| Script::new(concat!($($part),+)))
    };
}

/// The lease has to be this term's, or nothing is written. `KEYS[1]` is the lease, `ARGV[1]` the term.
macro_rules! fence {
    () => {
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end\n"
    };
}

/// KEYS: job, services, due, all. ARGV: name, service, first time, fields.
pub(super) static ADD: LazyLock<Script> = script!(
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 'duplicate' end
    if redis.call('SISMEMBER', KEYS[2], ARGV[2]) == 0 then return 'unknown' end
    redis.call('HSET', KEYS[1], unpack(ARGV, 4))
    redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
    redis.call('ZADD', KEYS[4], 0, ARGV[1])
    return 'added'"
);

/// KEYS: due. ARGV: now, most, what the keys of jobs begin with.
pub(super) static DUE: LazyLock<Script> = script!(
    "local rows = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES')
    local due = {}
    for i = 1, #rows, 2 do
        due[#due + 1] = {rows[i], tonumber(rows[i + 1]), redis.call('HGETALL', ARGV[3] .. rows[i])}
    end
    return due"
);

/// KEYS: due. ARGV: job, its time, its new time.
pub(super) static PUT_OFF: LazyLock<Script> = script!(
    "if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or -1) == tonumber(ARGV[2]) then
        redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
    end"
);

/// KEYS: lease, due, open. ARGV: term, attempts, what the keys of jobs, runs and marks begin with; then
/// for each claim its job, the time, the next time or nothing, how many runs, and their times.
pub(super) static CLAIM: LazyLock<Script> = script!(
    fence!(),
    "local attempts, jobs, runs, marks = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
    local counted, i = 0, 6
    while ARGV[i] do
        local job, at, next_time, count = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
        local score = redis.call('ZSCORE', KEYS[2], job)
        if score and tonumber(score) == tonumber(at) then
            counted = counted + 1
            local service, payload = unpack(redis.call('HMGET', jobs .. job, 'service', 'payload'))
            for n = i + 4, i + 3 + count do
                local id = job .. '@' .. ARGV[n]
                if redis.call('EXISTS', runs .. id, marks .. id) == 0 then
                    redis.call('HSET', runs .. id, 'job', job, 'scheduled_for', ARGV[n], 'service', service,
                        'payload', payload, 'attempt', 1, 'attempts', attempts)
                    redis.call('ZADD', KEYS[3], 0, id)
                end
            end
            if next_time == '' then
                redis.call('ZREM', KEYS[2], job)
                redis.call('HSET', jobs .. job, 'state', 'done')
            else
                redis.call('ZADD', KEYS[2], next_time, job)
            end
        end
        i = i + 4 + count
    end
    return counted"
);

/// KEYS: open. ARGV: now, most, what the keys of runs begin with.
pub(super) static OPEN: LazyLock<Script> = script!(
    "local runs = {}
    for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
        runs[#runs + 1] = redis.call('HGETALL', ARGV[3] .. id)
    end
    return runs"
);

/// KEYS: lease, open. ARGV: term, when to publish again, what the keys of runs begin with; then runs' ids
/// and attempts.
pub(super) static PUBLISHED: LazyLock<Script> = script!(
    fence!(),
    "for i = 4, #ARGV, 2 do
        if redis.call('HGET', ARGV[3] .. ARGV[i], 'attempt') == ARGV[i + 1] then
            redis.call('ZADD', KEYS[2], 'XX', ARGV[2], ARGV[i])
        end
    end
    return 0"
);

/// KEYS: lease, open. ARGV: term, most.
pub(super) static TAKE_OVER: LazyLock<Script> = script!(
    fence!(),
    "local later = redis.call('ZRANGE', KEYS[2], '(0', '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2])
    for _, id in ipairs(later) do redis.call('ZADD', KEYS[2], 'XX', 0, id) end
    return #later"
);

/// KEYS: run, open, history. ARGV: id, attempt, whether it succeeded, result, error, now, when to try
/// again, the time it was scheduled for, keep.
pub(super) static SETTLE: LazyLock<Script> = script!(
    "local attempt, attempts, state, said = unpack(redis.call('HMGET', KEYS[1], 'attempt', 'attempts', 'state', 'said'))
    if state then return {state, said} end
    if not attempt then return {'nothing', ''} end
    local function finish(state, said, error)
        redis.call('HSET', KEYS[1], 'state', state, 'said', said)
        redis.call('PEXPIRE', KEYS[1], ARGV[9])
        redis.call('ZREM', KEYS[2], ARGV[1])
        -- A step of a workflow has no history: the workflow says what became of it.
        if not KEYS[3]:find('/', 1, true) then
            redis.call('XADD', KEYS[3], 'MAXLEN', 100, '*', 'scheduled_for', ARGV[8], 'ended_at', ARGV[6],
                'state', state, 'attempts', attempt, 'error', error)
        end
        return {state, said}
    end
    if ARGV[3] == '1' then return finish('succeeded', ARGV[4], '') end
    if tonumber(ARGV[2]) ~= tonumber(attempt) then return {'nothing', ''} end
    if tonumber(attempt) >= tonumber(attempts) then return finish('failed', ARGV[5], ARGV[5]) end
    redis.call('HSET', KEYS[1], 'attempt', attempt + 1)
    redis.call('ZADD', KEYS[2], ARGV[7], ARGV[1])
    return {'again', ''}"
);

/// KEYS: due, open.
pub(super) static WAKE_AT: LazyLock<Script> = script!(
    "local least = false
    for i = 1, 2 do
        local first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')[2]
        if first then least = math.min(least or math.huge, tonumber(first)) end
    end
    return least"
);
