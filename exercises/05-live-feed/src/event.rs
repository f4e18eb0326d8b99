//! Events, and the ids that order them.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// One event of the feed, as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the feed, `milliseconds-number`.
    pub id: String,
    /// Its type, the `event:` of its frame: what a browser's `addEventListener` listens for.
    pub kind: String,
    /// Which of the feed's topics it belongs to.
    pub topic: String,
    /// Any text.
    pub data: String,
}

/// An event that was posted and has no id yet. Topic and type are checked, so they fit in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewEvent {
    pub topic: String,
    pub kind: String,
    pub data: String,
}

impl NewEvent {
    /// The event with its id.
    pub fn with_id(self, id: Id) -> Event {
        Event {
            id: id.to_string(),
            kind: self.kind,
            topic: self.topic,
            data: self.data,
        }
    }
}

/// An event's id, in the form that Redis gives to the entries of a stream. Later events have greater
/// ids. [`Id::ZERO`] is before all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Counts within a millisecond.
    pub number: u64,
}

impl Id {
    /// Before every event.
    pub const ZERO: Id = Id { ms: 0, number: 0 };

    /// Reads `milliseconds-number`, written exactly as [`Id`] writes it: `007-1`, `7` and `7-` are no
    /// ids.
    pub fn parse(text: &str) -> Option<Id> {
        let (ms, number) = text.split_once('-')?;
        let id = Id {
            ms: ms.parse().ok()?,
            number: number.parse().ok()?,
        };
        (id.to_string() == text).then_some(id)
    }

    /// The id for an event that comes now, after the one with this id: greater than it even when
    /// the clock went back.
    pub fn next(self) -> Id {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX));
        if now > self.ms {
            Id { ms: now, number: 0 }
        } else {
            self.successor()
        }
    }

    /// The smallest id that is greater.
    pub fn successor(self) -> Id {
        match self.number.checked_add(1) {
            Some(number) => Id { number, ..self },
            None => Id {
                ms: self.ms.saturating_add(1),
                number: 0,
            },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_in_no_other_way() {
        let id = Id { ms: 17, number: 2 };
        assert_eq!(Id::parse("17-2"), Some(id));
        for odd in [
            "", "17", "17-", "-2", "017-2", "17-02", "+17-2", "17-2 ", "17-2-3", "x-1",
        ] {
            assert_eq!(Id::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn ids_rise_also_when_the_clock_goes_back() {
        let far = Id {
            ms: u64::MAX - 1,
            number: u64::MAX,
        };
        assert!(far.next() > far);
        assert!(Id::ZERO.next() > Id::ZERO);
        assert!(Id { ms: 9, number: 9 } < Id { ms: 10, number: 0 });
    }
}
