// Stub 00a2debab23be54d: this file is yours to write. `cargo xtask reset stream-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

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
    todo!("stage 8: one script: EXISTS key, the commands, SET key … PX")
}
