//! Messages as a producer has them, entries as Redis delivers them.

use std::collections::BTreeMap;

use redis::{Value, from_redis_value};
use serde::Serialize;

use crate::error::Error;

/// What a producer sends: one JSON object, whose top-level keys become the entry's fields.
pub type Message = serde_json::Map<String, serde_json::Value>;

/// One delivery of a stream entry, exactly as Redis sent it. Its fields may be any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry {
    /// The entry's id in the stream, `milliseconds-sequence`.
    pub id: String,
    /// Field names and values, in the order in which they were added.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// How often the broker has delivered the entry in this group, this delivery included.
    pub deliveries: u64,
}

/// A delivered entry with text fields: what a handler gets, and one line of the service's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The entry's id in the stream.
    pub id: String,
    /// Field names and values. Of a name that is there twice, the last value counts.
    pub fields: BTreeMap<String, String>,
    /// How often the broker has delivered the entry in this group, this delivery included.
    pub deliveries: u64,
}

/// An entry that no handler can be given: a field's name or value is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the entry cannot be decoded: the {part} of field {field} is not UTF-8")]
pub struct DecodeError {
    /// Which field, counted from 1.
    pub field: usize,
    /// `"name"` or `"value"`.
    pub part: &'static str,
}

impl RawEntry {
    /// Reads the fields as text.
    ///
    /// # Errors
    /// [`DecodeError`] if a name or a value is not UTF-8.
    pub fn decode(&self) -> Result<Entry, DecodeError> {
        let text = |bytes: &[u8], field, part| {
            String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError { field, part })
        };
        let fields = (1..).zip(&self.fields).map(|(field, (name, value))| {
            Ok((text(name, field, "name")?, text(value, field, "value")?))
        });
        Ok(Entry {
            id: self.id.clone(),
            fields: fields.collect::<Result<_, _>>()?,
            deliveries: self.deliveries,
        })
    }
}

/// Reads the entries of an `XRANGE` or `XCLAIM` reply: a list of `[id, [name, value, …]]`.
///
/// `deliveries` becomes the delivery count of each, unless an entry carries its own as a third
/// element, `[id, [name, value, …], deliveries]`: so that a script can return it along.
/// An entry that was deleted while it was pending (nil instead of fields) is left out.
///
/// # Errors
/// [`Error::UnexpectedReply`] if the reply has another shape.
pub fn parse_entries(reply: Value, deliveries: u64) -> Result<Vec<RawEntry>, Error> {
    let Some(entries) = list(reply) else {
        return Err(Error::UnexpectedReply("no list of entries".into()));
    };
    entries
        .into_iter()
        .filter_map(|entry| parse_entry(entry, deliveries).transpose())
        .collect()
}

/// Reads the reply of an `XREADGROUP` for one stream: `[[stream, [entry, …]]]`, or nil, which is
/// what Redis sends when nothing came in time. `deliveries` is as in [`parse_entries`].
///
/// # Errors
/// [`Error::UnexpectedReply`] if the reply has another shape.
pub fn parse_read(reply: Value, deliveries: u64) -> Result<Vec<RawEntry>, Error> {
    match reply {
        Value::Nil => Ok(Vec::new()),
        Value::Map(mut streams) => match streams.pop() {
            Some((_, entries)) => parse_entries(entries, deliveries),
            None => Ok(Vec::new()),
        },
        Value::Array(mut streams) => match streams.pop().map(list) {
            None => Ok(Vec::new()),
            Some(Some(mut stream)) if stream.len() == 2 => {
                parse_entries(stream.pop().unwrap_or_default(), deliveries)
            }
            Some(_) => Err(Error::UnexpectedReply("no stream with entries".into())),
        },
        other => Err(Error::UnexpectedReply(format!("{other:?}"))),
    }
}

fn parse_entry(entry: Value, deliveries: u64) -> Result<Option<RawEntry>, Error> {
    let odd = || Error::UnexpectedReply("an entry is not an id with fields".into());
    if entry == Value::Nil {
        return Ok(None);
    }
    let mut parts = list(entry).ok_or_else(odd)?.into_iter();
    let (Some(id), Some(fields)) = (parts.next(), parts.next()) else {
        return Err(odd());
    };
    let deliveries = match parts.next() {
        Some(Value::Int(counted)) => u64::try_from(counted).map_err(|_| odd())?,
        Some(_) => return Err(odd()),
        None => deliveries,
    };
    let id = from_redis_value(id).map_err(|_| odd())?;
    match fields {
        Value::Nil => Ok(None),
        fields => Ok(Some(RawEntry {
            id,
            fields: from_redis_value(fields).map_err(|_| odd())?,
            deliveries,
        })),
    }
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn entry(id: &str) -> Value {
        let fields = Value::Array(vec![bulk("order_id"), bulk("17")]);
        Value::Array(vec![bulk(id), fields])
    }

    #[test]
    fn a_read_yields_its_entries_in_order() {
        let stream = Value::Array(vec![
            bulk("orders"),
            Value::Array(vec![entry("1-0"), entry("2-0")]),
        ]);
        let entries = parse_read(Value::Array(vec![stream]), 1).unwrap();
        let ids: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["1-0", "2-0"]);
        assert_eq!(entries[0].deliveries, 1);
        assert_eq!(entries[0].decode().unwrap().fields["order_id"], "17");
    }

    #[test]
    fn nothing_in_time_is_no_entries() {
        assert_eq!(parse_read(Value::Nil, 1).unwrap(), []);
    }

    #[test]
    fn a_deleted_entry_is_left_out_and_a_third_element_is_the_delivery_count() {
        let deleted = Value::Array(vec![bulk("1-0"), Value::Nil]);
        let mut counted = list(entry("2-0")).unwrap();
        counted.push(Value::Int(7));
        let reply = Value::Array(vec![deleted, Value::Array(counted)]);
        let entries = parse_entries(reply, 1).unwrap();
        assert_eq!((entries.len(), entries[0].deliveries), (1, 7));
    }

    #[test]
    fn bytes_that_are_not_text_cannot_be_decoded() {
        let entry = RawEntry {
            id: "1-0".into(),
            fields: vec![
                (b"a".to_vec(), b"b".to_vec()),
                (b"c".to_vec(), vec![0xff, 0xfe]),
            ],
            deliveries: 1,
        };
        let (field, part) = (2, "value");
        assert_eq!(entry.decode(), Err(DecodeError { field, part }));
    }
}
