//! One effect for an entry that is delivered more than once.

use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::error::Error;

/// Runs the Redis commands of `effect`, in order, unless `key` says that it was done before, and
/// makes `key` say so for `remember`. Both are one atomic step: no crash, no lost connection and no
/// second caller at the same moment can come between the effect and its mark. Returns true if this
/// call applied it, false if it had been applied before (then nothing is run and `key` lives no
/// longer for it).
///
/// Each command is given as its words, such as `["RPUSH", "ledger", "17-0"]`; any text is allowed in
/// a word. `remember` has to be longer than an entry may take to come back; it counts in
/// milliseconds and at least one. After an error without a reply (a lost connection) one calls again
/// with the same key: the effect happens once in any case.
///
/// # Errors
/// [`Error::Redis`] if the connection is lost, or if Redis refuses a command of the effect: then the
/// commands after it are not run and `key` is not set, so a later call tries again. Redis does not
/// take back the commands before it: put first what may be refused.
pub async fn apply_once(
    connection: &mut MultiplexedConnection,
    key: &str,
    effect: &[Vec<String>],
    remember: Duration,
) -> Result<bool, Error> {
    // stub stage 8: one script: EXISTS key, the commands, SET key … PX
    let mut call = SCRIPT.key(key);
    call.arg(
        u64::try_from(remember.as_millis())
            .unwrap_or(u64::MAX)
            .max(1),
    );
    for words in effect {
        call.arg(words.len()).arg(words);
    }
    Ok(call.invoke_async(connection).await?)
    // end stub
}

// solution only
/// KEYS: the mark. ARGV: milliseconds to remember, then for each command its number of words and
/// the words. A command that is refused ends the script, before the mark is set.
static SCRIPT: std::sync::LazyLock<redis::Script> = std::sync::LazyLock::new(|| {
    redis::Script::new(
        "
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local next = 2
while ARGV[next] do
  local last = next + tonumber(ARGV[next])
  redis.call(unpack(ARGV, next + 1, last))
  next = last + 1
end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1",
    )
});
// end solution only
