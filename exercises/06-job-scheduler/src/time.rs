//! Times: whole milliseconds, in UTC.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeZone as _, Utc};

/// A moment. What is less than a millisecond is left out everywhere.
pub type Time = DateTime<Utc>;

/// Now, by the clock of this machine.
pub fn now() -> Time {
    from_millis(Utc::now().timestamp_millis())
}

/// The moment so many milliseconds after 1970 began, in UTC. What no calendar has is its last moment.
pub fn from_millis(millis: i64) -> Time {
    Utc.timestamp_millis_opt(millis)
        .single()
        .unwrap_or(Time::MAX_UTC)
}

/// A moment later by so much.
pub(crate) fn later(time: Time, by: Duration) -> Time {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    from_millis(time.timestamp_millis().saturating_add(by))
}

/// A moment as RFC 3339 has it, with milliseconds: `2026-03-29T01:00:00.000Z`.
pub fn text(time: Time) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// For serde: a moment as [`text`].
pub(crate) mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{Time, from_millis};

    pub fn serialize<S: Serializer>(time: &Time, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::text(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
        let time = Time::deserialize(from)?;
        Ok(from_millis(time.timestamp_millis()))
    }
}

/// For serde: the same, where there may be none.
pub(crate) mod as_text_or_null {
    use serde::Serializer;

    use super::Time;

    pub fn serialize<S: Serializer>(time: &Option<Time>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&super::text(*time)),
            None => to.serialize_none(),
        }
    }
}
