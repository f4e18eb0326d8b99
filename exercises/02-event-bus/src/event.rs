//! Events: a name, data, and when it happened.

use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// The longest name or pattern, in bytes.
pub(crate) const LONGEST_NAME: usize = 255;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened: 1 to 255 bytes, words of letters, digits, `_` and `-`, joined by single dots,
    /// such as `order.placed`.
    pub name: String,
    /// What there is to know about it. Any JSON.
    pub data: Value,
    /// When it happened, as RFC 3339 in UTC with milliseconds.
    pub at: String,
}

/// A type whose values are the data of events of one name.
pub trait Named: Serialize + DeserializeOwned {
    /// The name of its events.
    const NAME: &'static str;
}

impl Event {
    /// An event that happens now.
    ///
    /// # Errors
    /// [`Error::BadName`] if the name is none, [`Error::BadData`] if the data cannot be written as JSON.
    pub fn new(name: impl Into<String>, data: impl Serialize) -> Result<Event, Error> {
        let name = name.into();
        check_name(&name)?;
        let data = serde_json::to_value(data).map_err(|error| Error::BadData(error.to_string()))?;
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Ok(Event { name, data, at })
    }

    /// The event for a value of a type that has a name for its events. It happens now.
    ///
    /// # Errors
    /// As [`Event::new`].
    pub fn of<T: Named>(event: &T) -> Result<Event, Error> {
        Event::new(T::NAME, event)
    }

    /// Reads the data as a `T`.
    ///
    /// # Errors
    /// [`Error::BadData`] if the event has another name than those of `T`, or its data is no `T`.
    pub fn read<T: Named>(&self) -> Result<T, Error> {
        if self.name != T::NAME {
            let (is, wanted) = (&self.name, T::NAME);
            return Err(Error::BadData(format!("it is `{is}` and not `{wanted}`")));
        }
        T::deserialize(&self.data).map_err(|error| Error::BadData(error.to_string()))
    }
}

/// Whether a name can be that of an event.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.len() <= LONGEST_NAME && name.split('.').all(is_word) {
        Ok(())
    } else {
        Err(Error::BadName(name.to_owned()))
    }
}

/// Whether a text is one of the words that names are made of.
pub(crate) fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Placed {
        order: String,
        amount: u64,
    }

    impl Named for Placed {
        const NAME: &'static str = "order.placed";
    }

    #[test]
    fn a_name_is_words_joined_by_dots() {
        for good in ["a", "order.placed", "A-1.b_2.C", &"x".repeat(255)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a.*",
            "a.#",
            "é",
            "a\n",
            &"x".repeat(256),
        ] {
            assert!(matches!(check_name(bad), Err(Error::BadName(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_typed_event_comes_back_as_it_was() {
        let placed = Placed {
            order: "A-1".into(),
            amount: 12,
        };
        let event = Event::of(&placed).unwrap();
        assert_eq!(event.name, "order.placed");
        assert_eq!(event.read::<Placed>().unwrap(), placed);
        assert!(humantime::parse_rfc3339(&event.at).is_ok(), "{}", event.at);
    }

    #[test]
    fn what_is_no_such_event_cannot_be_read() {
        let other = Event::new("order.shipped", json!({"order": "A-1", "amount": 12})).unwrap();
        assert!(matches!(other.read::<Placed>(), Err(Error::BadData(_))));
        let odd = Event::new("order.placed", json!({"order": 7})).unwrap();
        assert!(matches!(odd.read::<Placed>(), Err(Error::BadData(_))));
    }
}
