//! What a crash leaves behind: entries that were delivered and never acknowledged.

use std::sync::LazyLock;

use redis::Script;

use crate::consumer::Consumer;
use crate::entry::{RawEntry, parse_entries};
use crate::error::Error;

impl Consumer {
    /// The entries that are pending for this consumer, with an id greater than `after` (`"0"` for
    /// all), oldest first, at most `max`. Each is delivered once more by this call: the broker's
    /// count of its deliveries grows by one, its idle time starts again, and
    /// [`RawEntry::deliveries`] is the new count.
    ///
    /// For a consumer that starts again under its old name: what it was given before it died. The
    /// last id returned is the `after` of the next page. An entry that was deleted from the stream
    /// meanwhile is no longer pending after this call, and not returned, so a page may be shorter
    /// than `max` before the end: the end is an empty page.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the group does not exist.
    pub async fn own_pending(&self, after: &str, max: usize) -> Result<Vec<RawEntry>, Error> {
        // stub stage 4: XREADGROUP from `after` delivers again; the counts are in XPENDING
        let mut after = after.to_owned();
        loop {
            let ids = self.pending_after(&after, max).await?;
            let Some(last) = ids.last() else {
                return Ok(Vec::new());
            };
            after.clone_from(last);
            let entries = self.redeliver(&ids).await?;
            // A page of which every entry was deleted is not the end.
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        // end stub
    }

    /// Takes over entries of other consumers that have been idle for at least `options.visibility`,
    /// oldest first, at most `max`: their consumer is dead, or has not kept them. From then on they
    /// are pending for this consumer.
    ///
    /// Each is delivered once more by this call, counted by the broker;
    /// [`RawEntry::deliveries`] is the new count. Called again and again it gets all there are,
    /// however many: an empty list means that there are none. This consumer's own entries are left
    /// alone however idle they are. Of two consumers that call it at once, one gets the entry.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the group does not exist.
    pub async fn claim_abandoned(&self, max: usize) -> Result<Vec<RawEntry>, Error> {
        // stub stage 4: page through XPENDING … IDLE, leave out our own, XCLAIM the others
        let visibility = u64::try_from(self.options.visibility.as_millis()).unwrap_or(u64::MAX);
        let mut claimed = Vec::new();
        while claimed.len() < max {
            let page = PAGE.min(max - claimed.len());
            let reply = self
                .call(&CLAIM, |call| call.arg(visibility).arg(page))
                .await?;
            let entries = parse_entries(reply, 0)?;
            let is_last = entries.len() < page;
            claimed.extend(entries);
            if is_last {
                break;
            }
        }
        Ok(claimed)
        // end stub
    }

    /// Says that this consumer is alive and still at work on these entries: their idle time starts
    /// again, their count of deliveries stays as it is.
    ///
    /// Only what is still pending for this consumer is touched. An entry that another consumer has
    /// taken meanwhile stays with that one, and one that was acknowledged stays acknowledged:
    /// looking and resetting are one atomic step. No ids are no command.
    ///
    /// # Errors
    /// [`Error::Redis`] if the connection is lost or the group does not exist.
    pub async fn keep(&self, ids: &[String]) -> Result<(), Error> {
        // stub stage 4: one script: what is still ours gets XCLAIM … JUSTID
        for page in ids.chunks(PAGE) {
            self.call(&KEEP, |call| call.arg(page)).await?;
        }
        Ok(())
        // end stub
    }

    // solution only
    /// Delivers these entries to this consumer once more, those that are still pending for it.
    pub(crate) async fn redeliver(&self, ids: &[String]) -> Result<Vec<RawEntry>, Error> {
        let mut entries = Vec::new();
        for page in ids.chunks(PAGE) {
            let reply = self.call(&REDELIVER, |call| call.arg(page)).await?;
            entries.extend(parse_entries(reply, 0)?);
        }
        Ok(entries)
    }

    /// The ids pending for this consumer after `after`, oldest first. Nothing is delivered.
    pub(crate) async fn pending_after(
        &self,
        after: &str,
        max: usize,
    ) -> Result<Vec<String>, Error> {
        let pending: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
            .arg(&self.options.stream)
            .arg(&self.options.group)
            .arg(format!("({after}"))
            .arg("+")
            .arg(max.min(i64::MAX as usize))
            .arg(&self.options.consumer)
            .query_async(&mut self.commands.clone())
            .await?;
        Ok(pending.into_iter().map(|(id, ..)| id).collect())
    }

    /// Runs a script on the stream, for this group and consumer.
    async fn call(
        &self,
        script: &Script,
        arguments: impl for<'a, 'b> FnOnce(
            &'a mut redis::ScriptInvocation<'b>,
        ) -> &'a mut redis::ScriptInvocation<'b>,
    ) -> Result<redis::Value, Error> {
        let mut call = script.key(&self.options.stream);
        call.arg(&self.options.group).arg(&self.options.consumer);
        arguments(&mut call);
        Ok(call.invoke_async(&mut self.commands.clone()).await?)
    }
    // end solution only
}

// solution only
/// The most ids that one script handles: it must not hold up Redis for long, and Lua's `unpack`
/// fails at about 8,000.
const PAGE: usize = 500;

/// KEYS: stream. ARGV: group, consumer, least idle milliseconds, most entries.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local group, consumer, idle, max = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local claimed, start = {}, '-'
while #claimed < max do
  local page = redis.call('XPENDING', KEYS[1], group, 'IDLE', idle, start, '+', 500)
  for _, pending in ipairs(page) do
    local id, owner, deliveries = pending[1], pending[2], pending[4]
    if owner ~= consumer and #claimed < max then
      local entry = redis.call('XCLAIM', KEYS[1], group, consumer, idle, id)[1]
      if entry then claimed[#claimed + 1] = {id, entry[2], deliveries + 1} end
    end
    start = '(' .. id
  end
  if #page < 500 then break end
end
return claimed",
    )
});

/// KEYS: stream. ARGV: group, consumer, ids.
static KEEP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
for i = 3, #ARGV do
  if redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  end
end",
    )
});

/// KEYS: stream. ARGV: group, consumer, ids.
static REDELIVER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local entries = {}
for i = 3, #ARGV do
  local ours = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
  if ours then
    local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i])[1]
    if entry then entries[#entries + 1] = {entry[1], entry[2], ours[4] + 1} end
  end
end
return entries",
    )
});
// end solution only
