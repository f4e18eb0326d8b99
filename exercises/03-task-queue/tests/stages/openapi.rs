//! Answers, held against the API's own description.

use lab::clients::http::Response;
use lab::{Failure, Outcome, ensure, fail};
use serde_json::Value;

/// An OpenAPI document.
pub struct Api(Value);

impl Api {
    pub fn new(document: Value) -> Result<Api, Failure> {
        let version = document["openapi"].as_str().unwrap_or_default();
        ensure!(
            version.starts_with("3.1"),
            "the document does not say that it is OpenAPI 3.1: `openapi` is `{version}`"
        );
        ensure!(
            document["info"]["title"].is_string() && document["info"]["version"].is_string(),
            "the document has no `info` with a title and a version"
        );
        Ok(Api(document))
    }

    /// The status, its content type and its body are described.
    pub fn fits(&self, path: &str, method: &str, answer: &Response) -> Outcome {
        let about = format!("{} {path}, {}", method.to_uppercase(), answer.status);
        let responses = &self.0["paths"][path][method]["responses"];
        let response = &responses[answer.status.to_string()];
        if response.is_null() {
            fail!("{about}: the description has no such answer");
        }
        let response = self.resolve(response);
        for name in response["headers"].as_object().into_iter().flatten() {
            ensure!(
                answer.head.headers.get(name.0).is_some(),
                "{about}: the described header `{}` is missing",
                name.0
            );
        }
        let given = answer.head.headers.get("content-type").unwrap_or_default();
        let given = given.split(';').next().unwrap_or_default().trim();
        let Some(content) = response["content"].get(given) else {
            fail!("{about}: the description has no content type `{given}`");
        };
        let body: Value = serde_json::from_slice(&answer.body)?;
        let mut wrong = Vec::new();
        self.check(&content["schema"], &body, "", &mut wrong);
        ensure!(
            wrong.is_empty(),
            "{about}: the answer is not as described: {}; it is {body}",
            wrong.join(", ")
        );
        Ok(())
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|it| it.strip_prefix('#')) {
            Some(pointer) => self.0.pointer(pointer).unwrap_or(&Value::Null),
            None => value,
        }
    }

    /// The part of JSON Schema that such documents use.
    fn check(&self, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if schema.is_null() {
            wrong.push(format!("`{place}` has no schema"));
            return;
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|kind| is(value, kind)) {
            wrong.push(format!(
                "`{place}` is not of the type {}",
                types.join(" or ")
            ));
            return;
        }
        if let Some(all) = schema["enum"].as_array()
            && !all.contains(value)
        {
            wrong.push(format!("`{place}` is none of {}", schema["enum"]));
        }
        let bound = |name: &str| schema[name].as_f64();
        if let Some(number) = value.as_f64()
            && (bound("minimum").is_some_and(|least| number < least)
                || bound("maximum").is_some_and(|most| number > most))
        {
            wrong.push(format!("`{place}` is out of bounds"));
        }
        if let Some(members) = value.as_object() {
            for name in schema["required"].as_array().into_iter().flatten() {
                if name
                    .as_str()
                    .is_some_and(|name| !members.contains_key(name))
                {
                    wrong.push(format!("`{place}` lacks {name}"));
                }
            }
            for (name, member) in members {
                let known = &schema["properties"][name];
                let place = format!("{place}/{name}");
                if !known.is_null() {
                    self.check(known, member, &place, wrong);
                } else if schema["additionalProperties"] == false {
                    wrong.push(format!("`{place}` is not described"));
                }
            }
        }
        for (n, item) in value.as_array().into_iter().flatten().enumerate() {
            if !schema["items"].is_null() {
                self.check(&schema["items"], item, &format!("{place}/{n}"), wrong);
            }
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}
