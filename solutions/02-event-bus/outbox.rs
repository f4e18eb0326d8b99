//! The outbox: a state and the events about its change, written together or not at all.

use serde_json::Value;

use crate::error::Error;
use crate::event::Event;

// solution only
use std::sync::LazyLock;

use redis::Script;

use crate::connection::Link;
use crate::entry::fields;
// end solution only

/// States by key, each with a version, and a stream of the events that tell of their changes. Both
/// lie in one Redis, under a prefix `P`: the state `KEY` is the hash `P:state:KEY` with the fields
/// `state` (JSON) and `version`, the events are entries of the stream `P:outbox`, with the fields
/// that they have in a [`Log`](crate::Log). From there a [relay](crate::relay()) publishes them.
///
/// May be shared. After a lost connection the next call connects again.
#[derive(Debug)]
pub struct Outbox {
    // solution only
    prefix: String,
    link: Link,
    // end solution only
}

impl Outbox {
    /// Connects to the states and the outbox under `prefix`. Creates nothing.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in.
    pub async fn connect(url: &str, prefix: &str) -> Result<Outbox, Error> {
        // stub stage 8: connect, and remember the prefix
        Ok(Outbox {
            prefix: prefix.to_owned(),
            link: Link::connect(url).await?,
        })
        // end stub
    }

    /// A state and its version. One that is not there is `Null`, in version 0.
    ///
    /// # Errors
    /// [`Error::Redis`] or [`Error::Connect`] if Redis is away or the key is no hash,
    /// [`Error::UnexpectedReply`] if what is in there is no state.
    pub async fn load(&self, key: &str) -> Result<(u64, Value), Error> {
        // stub stage 8: one HMGET of both fields
        let mut connection = self.link.connection().await?;
        let answer = redis::cmd("HMGET")
            .arg(self.key_of(key))
            .arg("state")
            .arg("version")
            .query_async(&mut connection)
            .await;
        let (state, version): (Option<String>, Option<u64>) = self.link.answer(answer).await?;
        let state = state.map_or(Ok(Value::Null), |state| serde_json::from_str(&state));
        let state = state.map_err(|error| {
            Error::UnexpectedReply(format!("the state `{key}` is no JSON: {error}"))
        })?;
        Ok((version.unwrap_or(0), state))
        // end stub
    }

    /// Writes a state and the events about its change, in one atomic step on the server: all of it,
    /// or nothing. `version` is the one that [`load`](Self::load) gave. Returns the new version, which
    /// is greater by one. The events come into the outbox in their order; there may be none.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the state has another version by now, because somebody else was first:
    /// nothing was written; load again, and decide again. [`Error::BadName`] if an event's name is
    /// none: nothing was written. [`Error::Redis`] or [`Error::Connect`] if Redis is away or a key is
    /// of another type. If the answer was lost it is not known whether it was written: load again.
    pub async fn commit(
        &self,
        key: &str,
        version: u64,
        state: &Value,
        events: &[Event],
    ) -> Result<u64, Error> {
        // stub stage 8: one script: compare the version, XADD the events, HSET state and version
        let entries = events.iter().map(fields).collect::<Result<Vec<_>, _>>()?;
        let next = version.saturating_add(1);
        let mut call = COMMIT.key(self.key_of(key));
        call.key(format!("{}:outbox", self.prefix));
        call.arg(version).arg(next).arg(state.to_string());
        for [name, data, at] in &entries {
            call.arg(&name.1).arg(&data.1).arg(&at.1);
        }
        let mut connection = self.link.connection().await?;
        let answer = call.invoke_async(&mut connection).await;
        if self.link.answer(answer).await? {
            Ok(next)
        } else {
            let key = key.to_owned();
            Err(Error::Conflict { key, version })
        }
        // end stub
    }

    // solution only
    fn key_of(&self, key: &str) -> String {
        format!("{}:state:{key}", self.prefix)
    }
    // end solution only
}

// solution only
/// KEYS: the state, the outbox. ARGV: the version it has, the one it gets, the state, then name, data
/// and time of each event. The state comes last: if Redis refuses an event, nothing was written.
static COMMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then return 0 end
for i = 4, #ARGV, 3 do
  redis.call('XADD', KEYS[2], '*', 'name', ARGV[i], 'data', ARGV[i + 1], 'at', ARGV[i + 2])
end
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'version', ARGV[2])
return 1",
    )
});
// end solution only
