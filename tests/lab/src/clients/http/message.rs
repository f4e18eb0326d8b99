//! Requests and answers.

use std::net::SocketAddr;

use serde_json::Value;

use super::HttpError;

/// The largest head of an answer that is accepted, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 100;

/// A request. What it holds is sent as it is, also where a server will object to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(super) method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request with this method for this target: path and query.
    pub fn new(method: impl Into<String>, target: impl Into<String>) -> Self {
        Request {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// `GET target`
    pub fn get(target: impl Into<String>) -> Self {
        Request::new("GET", target)
    }

    /// `POST target`, without a body so far.
    pub fn post(target: impl Into<String>) -> Self {
        Request::new("POST", target)
    }

    /// `DELETE target`
    pub fn delete(target: impl Into<String>) -> Self {
        Request::new("DELETE", target)
    }

    /// Adds a header; one of the same name stays.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets a header in place of all of the same name.
    pub fn set_header(self, name: &str, value: impl Into<String>) -> Self {
        self.without_header(name).header(name, value)
    }

    /// Takes every header of this name away.
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// The first value of a header.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// `Authorization: Bearer token`
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sets the body; its length is sent along. The content type is the caller's to say.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets a JSON body with its content type.
    pub fn json(self, value: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(value.to_string())
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The bytes on the wire.
    pub fn to_bytes(&self, host: SocketAddr) -> Vec<u8> {
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !has("host") {
            head += &format!("host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body
            && !has("content-length")
            && !has("transfer-encoding")
        {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// The headers of an answer, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value under this name, in whatever case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        let field = fields.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(&field.1)
    }

    /// Every value under this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// True if one of the values under this name, which are lists, has this member:
    /// `lists("cache-control", "no-store")`. Case does not matter.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|given| given.trim().eq_ignore_ascii_case(member))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The words after it.
    pub reason: String,
    /// True if the server speaks HTTP/1.1, false for 1.0.
    pub is_1_1: bool,
    /// The headers.
    pub headers: Headers,
}

impl Head {
    /// Reads a head at the beginning of `bytes`, if it is complete, and how long it is.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HttpError> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() > LARGEST_HEAD => {
                return Err(HttpError::malformed(
                    "the head of the answer does not end",
                    bytes,
                ));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => {
                let what = format!("the head of the answer cannot be read ({error})");
                return Err(HttpError::malformed(what, bytes));
            }
        };
        let headers = parsed
            .headers
            .iter()
            .map(|field| {
                let value = String::from_utf8_lossy(field.value).into_owned();
                (field.name.to_owned(), value)
            })
            .collect();
        let head = Head {
            status: parsed.code.unwrap_or_default(),
            reason: parsed.reason.unwrap_or_default().to_owned(),
            is_1_1: parsed.version == Some(1),
            headers: Headers(headers),
        };
        Ok(Some((head, length)))
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head it came with.
    pub head: Head,
    /// The body, with its chunks put together.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Status and the beginning of the body, for a message.
    pub fn summary(&self) -> String {
        let text = self.text();
        let shown: String = text.chars().take(200).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        match shown.is_empty() {
            true => format!("{} without a body", self.status),
            false => format!("{} {shown}{more}", self.status),
        }
    }
}
