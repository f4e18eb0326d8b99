//! Entries of a stream, as Redis sends them, and the events in them.

use redis::{Value, from_redis_value};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::{Event, check_name};

/// An event with its place in the log. Serializes as `{"id","name","data","at"}`: one line of the
/// service's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The id of its entry.
    pub id: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// An entry of a stream, exactly as Redis sent it. Its fields may be any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawEntry {
    /// Its id, `milliseconds-number`.
    pub id: String,
    /// Field names and values, in the order in which they were added. None at all if the entry was
    /// deleted while it was pending.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl RawEntry {
    /// The event in the entry, or why there is none. Fields that no event has are passed over.
    pub fn read(&self) -> Result<Stored, String> {
        let name = self.text("name")?;
        check_name(&name).map_err(|error| error.to_string())?;
        let data = serde_json::from_str(&self.text("data")?)
            .map_err(|error| format!("no event: `data` is no JSON: {error}"))?;
        let at = self.text("at")?;
        Ok(Stored {
            id: self.id.clone(),
            event: Event { name, data, at },
        })
    }

    fn text(&self, name: &str) -> Result<String, String> {
        let mut fields = self.fields.iter();
        let (_, value) = fields
            .find(|(field, _)| field == name.as_bytes())
            .ok_or_else(|| format!("no event: there is no field `{name}`"))?;
        String::from_utf8(value.clone()).map_err(|_| format!("no event: `{name}` is not UTF-8"))
    }
}

/// The fields of an event's entry: `name`, `data` (JSON) and `at`.
///
/// # Errors
/// [`Error::BadName`] if its name is none: [`Event::new`] checks it, a struct literal does not.
pub(crate) fn fields(event: &Event) -> Result<[(&'static str, String); 3], Error> {
    check_name(&event.name)?;
    Ok([
        ("name", event.name.clone()),
        ("data", event.data.to_string()),
        ("at", event.at.clone()),
    ])
}

/// Reads the reply of an `XREAD` or `XREADGROUP` for one stream: `[[stream, [entry, …]]]`, or nil,
/// which is what Redis sends when nothing came in time.
///
/// # Errors
/// [`Error::UnexpectedReply`] if the reply has another shape.
pub(crate) fn parse_read(reply: Value) -> Result<Vec<RawEntry>, Error> {
    let odd = || Error::UnexpectedReply("no stream with entries".into());
    let entries = match reply {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(mut streams) => match streams.pop() {
            Some((_, entries)) => entries,
            None => return Ok(Vec::new()),
        },
        Value::Array(mut streams) => match streams.pop() {
            Some(Value::Array(mut stream)) if stream.len() == 2 => stream.pop().ok_or_else(odd)?,
            Some(_) => return Err(odd()),
            None => return Ok(Vec::new()),
        },
        _ => return Err(odd()),
    };
    let Value::Array(entries) = entries else {
        return Err(odd());
    };
    entries.into_iter().map(parse_entry).collect()
}

fn parse_entry(entry: Value) -> Result<RawEntry, Error> {
    let odd = || Error::UnexpectedReply("an entry is not an id with fields".into());
    let Value::Array(mut parts) = entry else {
        return Err(odd());
    };
    let (Some(fields), Some(id), None) = (parts.pop(), parts.pop(), parts.pop()) else {
        return Err(odd());
    };
    Ok(RawEntry {
        id: from_redis_value(id).map_err(|_| odd())?,
        fields: match fields {
            Value::Nil => Vec::new(),
            fields => from_redis_value(fields).map_err(|_| odd())?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn raw(fields: &[(&str, &[u8])]) -> RawEntry {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
        RawEntry {
            id: "1-0".into(),
            fields: fields.collect(),
        }
    }

    #[test]
    fn a_read_yields_its_entries_in_order_also_those_that_were_deleted() {
        let fields = Value::Array(vec![bulk("name"), bulk("a")]);
        let entries = Value::Array(vec![
            Value::Array(vec![bulk("1-0"), fields]),
            Value::Array(vec![bulk("2-0"), Value::Nil]),
        ]);
        let reply = Value::Array(vec![Value::Array(vec![bulk("log"), entries])]);
        let entries = parse_read(reply).unwrap();
        assert_eq!(entries[0].fields, [(b"name".to_vec(), b"a".to_vec())]);
        assert_eq!(
            (entries[1].id.as_str(), entries[1].fields.len()),
            ("2-0", 0)
        );
        assert_eq!(parse_read(Value::Nil).unwrap(), []);
        assert!(parse_read(Value::Int(1)).is_err());
    }

    #[test]
    fn an_event_comes_back_as_it_was() {
        let event = Event::new("order.placed", json!({"b": 1, "a": [null, "é"]})).unwrap();
        let written = fields(&event).unwrap();
        let fields: Vec<_> = written
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        assert_eq!(raw(&fields).read().unwrap().event, event);
    }

    #[test]
    fn what_is_no_event() {
        for fields in [
            &[][..],
            &[("name", &b"a"[..]), ("data", b"1")],
            &[("name", b"a"), ("at", b"now")],
            &[("name", b"a"), ("data", b"{"), ("at", b"now")],
            &[("name", b"a b"), ("data", b"1"), ("at", b"now")],
            &[("name", b"a"), ("data", b"1"), ("at", b"\xff")],
        ] {
            assert!(raw(fields).read().is_err(), "{fields:?}");
        }
    }
}
