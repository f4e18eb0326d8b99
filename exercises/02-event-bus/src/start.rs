//! Places in a log from which to follow it: an id, or a time.

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use crate::error::Error;

/// Where to begin. What lies exactly there is included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// An entry's id: `milliseconds-number`, or `milliseconds` for the first of that millisecond.
    Id(String),
    /// A time, as RFC 3339, such as `2026-11-25T08:00:00Z` or `2026-11-25T09:00:00.250+01:00`. It is
    /// compared with the time in the ids, which is the log's and not the event's `at`.
    Time(String),
}

impl FromStr for Start {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let start = if text.contains([':', 'T', 't']) {
            Start::Time(text.to_owned())
        } else {
            Start::Id(text.to_owned())
        };
        start.id_before().map(|_| start)
    }
}

impl Start {
    /// The greatest id that lies before this place. A group that is set to it goes on with what lies
    /// at the place or behind.
    ///
    /// # Errors
    /// [`Error::BadStart`] if the text is no id, or no time.
    pub fn id_before(&self) -> Result<String, Error> {
        let (text, place) = match self {
            Start::Id(text) => (text, id(text)),
            Start::Time(text) => (text, time(text).map(|ms| (ms, 0))),
        };
        let (ms, number) = place.ok_or_else(|| Error::BadStart(text.clone()))?;
        Ok(match (ms, number) {
            (0, 0) => "0-0".to_owned(),
            (ms, 0) => format!("{}-{}", ms - 1, u64::MAX),
            (ms, number) => format!("{ms}-{}", number - 1),
        })
    }
}

fn id(text: &str) -> Option<(u64, u64)> {
    let (ms, number) = text.split_once('-').unwrap_or((text, "0"));
    let number_of = |digits: &str| {
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| all_digits)
    };
    Some((number_of(ms)?, number_of(number)?))
}

/// Milliseconds since 1970.
fn time(text: &str) -> Option<u64> {
    let text = text.to_ascii_uppercase();
    // The time zone is an offset behind the time of day, or a Z.
    let day_ends = text.find('T')?;
    let zone = day_ends + text[day_ends..].find(['+', '-', 'Z'])?;
    let (local, zone) = text.split_at(zone);
    let since = humantime::parse_rfc3339(&format!("{local}Z"))
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    let utc = match zone.split_at_checked(1)? {
        ("Z", "") => since,
        ("+", offset) => since.checked_sub(hours_and_minutes(offset)?)?,
        ("-", offset) => since.checked_add(hours_and_minutes(offset)?)?,
        _ => return None,
    };
    u64::try_from(utc.as_millis()).ok()
}

fn hours_and_minutes(text: &str) -> Option<Duration> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |digits: &str, less_than: u64| {
        let well_formed = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|_| well_formed)?;
        (number < less_than).then_some(number)
    };
    let seconds = two(hours, 24)? * 3600 + two(minutes, 60)? * 60;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_before() {
        for (text, before) in [
            ("17-3", "17-2"),
            ("17-0", "16-18446744073709551615"),
            ("17", "16-18446744073709551615"),
            ("0", "0-0"),
            ("0-1", "0-0"),
            ("1970-01-01T00:00:00Z", "0-0"),
            ("2026-11-25T08:00:00Z", "1795593599999-18446744073709551615"),
            (
                "2026-11-25t09:00:00.250+01:00",
                "1795593600249-18446744073709551615",
            ),
            (
                "2026-11-25T03:30:00-04:30",
                "1795593599999-18446744073709551615",
            ),
        ] {
            let start: Start = text.parse().unwrap();
            assert_eq!(start.id_before().unwrap(), before, "{text}");
        }
    }

    #[test]
    fn what_is_no_place() {
        for text in [
            "",
            "$",
            "-",
            "+1",
            "17-",
            "17-x",
            "17-1-2",
            "2026-11-25",
            "2026-11-25T08:00:00",
            "2026-11-25T08:00:00+1:00",
            "2026-11-25T08:00:00+01:60",
            "2026-13-25T08:00:00Z",
            "1969-12-31T23:00:00Z",
            "08:00",
        ] {
            let read = text.parse::<Start>();
            assert!(
                matches!(read, Err(Error::BadStart(_))),
                "{text:?}: {read:?}"
            );
        }
    }
}
