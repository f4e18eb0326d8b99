//! Entries of the Redis stream as the replies bring them, and what each means to the feed.

use std::fmt::Display;

use redis::{Value, from_redis_value};

use crate::error::Error;
use crate::event::{Event, Id};

/// The field that makes an entry the end of its topic. It stands beside `topic`.
pub(crate) const FINISHED: &str = "finished";

/// Field names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One entry of the stream. Anybody may have written it, so its fields may be any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawEntry {
    pub id: Id,
    /// In the order in which they were added.
    pub fields: Fields,
}

/// What an entry is to the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An event: it has a `topic` and `data`, and a `type` or else the type `message`. Whether its
    /// type can be framed is for [`frame`](crate::frame()) to say.
    Event(Event),
    /// The end of this topic.
    Finished(String),
    /// Not for us, and why.
    Other(&'static str),
}

impl RawEntry {
    /// What the entry is to the feed.
    pub fn meaning(&self) -> Meaning {
        let Ok(topic) = self.text("topic") else {
            return Meaning::Other("its topic is not UTF-8");
        };
        let Some(topic) = topic else {
            return Meaning::Other("it has no topic");
        };
        // `frame` refuses the same in an id and a type. It does not see the topic, which is not sent,
        // but compared with what stands in addresses.
        if topic.contains(['\r', '\n', '\0']) {
            return Meaning::Other("its topic has a line break or a NUL in it");
        }
        if self.field(FINISHED).is_some() {
            return Meaning::Finished(topic);
        }
        match (self.text("type"), self.text("data")) {
            (Ok(kind), Ok(Some(data))) => Meaning::Event(Event {
                id: self.id.to_string(),
                kind: kind.unwrap_or_else(|| "message".into()),
                topic,
                data,
            }),
            (_, Ok(None)) => Meaning::Other("it has no data"),
            _ => Meaning::Other("its type or its data is not UTF-8"),
        }
    }

    /// Of a name that is there twice, the last value counts.
    fn field(&self, name: &str) -> Option<&[u8]> {
        let named = |(field, _): &&(Vec<u8>, Vec<u8>)| field == name.as_bytes();
        self.fields
            .iter()
            .rev()
            .find(named)
            .map(|(_, value)| &**value)
    }

    fn text(&self, name: &str) -> Result<Option<String>, std::string::FromUtf8Error> {
        self.field(name)
            .map(|value| String::from_utf8(value.to_vec()))
            .transpose()
    }
}

/// Reads the reply of an `XRANGE` or `XREVRANGE`: `[[id, [name, value, …]], …]`.
///
/// # Errors
/// [`Error::UnexpectedReply`] if the reply has another shape.
pub(crate) fn parse_range(reply: Value) -> Result<Vec<RawEntry>, Error> {
    let entries: Vec<(String, Fields)> = from_redis_value(reply).map_err(odd)?;
    entries
        .into_iter()
        .map(|(id, fields)| {
            let id = Id::parse(&id).ok_or_else(|| odd(format!("the id {id}")))?;
            Ok(RawEntry { id, fields })
        })
        .collect()
}

/// Reads the reply of an `XREAD` of one stream: `[[stream, [entry, …]]]`, or nil, which is what Redis
/// sends when nothing came in time.
///
/// # Errors
/// [`Error::UnexpectedReply`] if the reply has another shape.
pub(crate) fn parse_read(reply: Value) -> Result<Vec<RawEntry>, Error> {
    let streams: Option<Vec<(Vec<u8>, Value)>> = from_redis_value(reply).map_err(odd)?;
    match streams.unwrap_or_default().pop() {
        Some((_, entries)) => parse_range(entries),
        None => Ok(Vec::new()),
    }
}

fn odd(what: impl Display) -> Error {
    Error::UnexpectedReply(what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    fn entry(fields: &[(&str, &[u8])]) -> RawEntry {
        let items = fields
            .iter()
            .flat_map(|(name, value)| [bulk(name.as_bytes()), bulk(value)])
            .collect();
        let entry = Value::Array(vec![bulk(b"17-1"), Value::Array(items)]);
        let stream = Value::Array(vec![bulk(b"feed"), Value::Array(vec![entry])]);
        parse_read(Value::Array(vec![stream]))
            .unwrap()
            .pop()
            .unwrap()
    }

    #[test]
    fn an_entry_with_a_topic_and_data_is_an_event() {
        let meaning = entry(&[("topic", b"t"), ("data", b"a\nb")]).meaning();
        let Meaning::Event(event) = meaning else {
            panic!("{meaning:?}")
        };
        assert_eq!((&*event.id, &*event.kind), ("17-1", "message"));
        assert_eq!((&*event.topic, &*event.data), ("t", "a\nb"));
    }

    #[test]
    fn other_entries_are_told_apart() {
        let finished = entry(&[("topic", b"t"), ("finished", b"1")]).meaning();
        assert_eq!(finished, Meaning::Finished("t".into()));
        for fields in [
            &[("data", &b"x"[..])][..],
            &[("topic", b"t")],
            &[("topic", b"t\n"), ("data", b"x")],
            &[("topic", b"t"), ("data", b"\xff")],
            &[("topic", b"\xff"), ("data", b"x")],
        ] {
            assert!(matches!(entry(fields).meaning(), Meaning::Other(_)));
        }
    }

    #[test]
    fn nothing_in_time_is_no_entries() {
        assert_eq!(parse_read(Value::Nil).unwrap(), []);
        assert!(parse_read(Value::Int(1)).is_err());
    }
}
