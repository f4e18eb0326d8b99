//! A status, read from its hash.

use std::collections::HashMap;
use std::str::FromStr;

use crate::error::Error;
use crate::status::Status;

/// The status of the task `id`, from all fields of its hash; nothing if there are none.
pub(super) fn status(
    id: &str,
    mut fields: HashMap<String, String>,
) -> Result<Option<Status>, Error> {
    if fields.is_empty() {
        return Ok(None);
    }
    let result = fields.remove("result");
    let result = result.map(|json| serde_json::from_str(&json)).transpose();
    Ok(Some(Status {
        id: id.to_owned(),
        kind: field(id, &fields, "kind")?,
        state: field(id, &fields, "state")?,
        attempts: field(id, &fields, "attempts")?,
        progress: field(id, &fields, "progress")?,
        result: result.map_err(|error| bad(id, format!("its result is no JSON: {error}")))?,
        error: fields.remove("error"),
    }))
}

fn field<T: FromStr>(id: &str, fields: &HashMap<String, String>, name: &str) -> Result<T, Error> {
    let text = fields
        .get(name)
        .ok_or_else(|| bad(id, format!("it has no {name}")))?;
    text.parse()
        .map_err(|_| bad(id, format!("`{text}` is no {name}")))
}

fn bad(id: &str, why: String) -> Error {
    Error::BadStatus {
        id: id.to_owned(),
        why,
    }
}
