//! Tasks: as they are submitted, as they travel, and what is known of them.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// How long an id may be, in bytes.
const LONGEST_ID: usize = 128;
/// How long a kind may be, in bytes: it is a routing key.
const LONGEST_KIND: usize = 200;
/// How long an idempotency key may be, in bytes.
const LONGEST_KEY: usize = 255;

/// A task that somebody wants to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// What is to be done; a handler of this name does it.
    pub kind: String,
    /// What the handler is given.
    pub payload: Value,
    /// The idempotency key: however often a task is submitted with one key, it is the same task.
    pub key: Option<String>,
    /// Whether it overtakes others that wait.
    pub priority: Priority,
    /// When it is no longer worth doing.
    pub deadline: Option<SystemTime>,
}

impl NewTask {
    /// A task of normal priority, without a key and without a deadline.
    pub fn new(kind: impl Into<String>, payload: Value) -> NewTask {
        NewTask {
            kind: kind.into(),
            payload,
            key: None,
            priority: Priority::Normal,
            deadline: None,
        }
    }

    /// The same with an idempotency key.
    pub fn with_key(mut self, key: impl Into<String>) -> NewTask {
        self.key = Some(key.into());
        self
    }

    /// Says what is wrong with it.
    ///
    /// # Errors
    /// [`Error::BadTask`] if the kind is not 1 to 200 bytes of `A-Z a-z 0-9 . _ -`,
    /// [`Error::BadKey`] if the key is not 1 to 255 visible ASCII characters.
    pub fn check(&self) -> Result<(), Error> {
        if !is_word(&self.kind, LONGEST_KIND) {
            let why = format!(
                "`{}` is no kind of task: {}",
                self.kind,
                words(LONGEST_KIND)
            );
            return Err(Error::BadTask(why));
        }
        if let Some(key) = &self.key {
            let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
            if key.is_empty() || key.len() > LONGEST_KEY || !is_visible {
                return Err(Error::BadKey);
            }
        }
        Ok(())
    }

    /// What makes it this task and no other, for comparing two submits with one key: a SHA-256 in
    /// hexadecimal of all but the key. The order of an object's members makes no difference.
    pub fn digest(&self) -> String {
        let deadline = self.deadline.map(in_millis);
        let mut whole = serde_json::json!([self.kind, self.payload, self.priority, deadline]);
        whole.sort_all_objects();
        let digest = Sha256::digest(whole.to_string());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether a task overtakes others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// One after the other.
    #[default]
    Normal,
    /// Before all of normal priority that nobody has begun.
    High,
}

/// A task as it travels: the JSON body of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Which one.
    pub id: String,
    /// What is to be done.
    pub kind: String,
    /// What the handler is given.
    #[serde(default)]
    pub payload: Value,
    /// When it is no longer worth doing, in RFC 3339.
    #[serde(default, with = "rfc3339", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<SystemTime>,
}

impl Task {
    /// The task `new` under this id.
    pub fn of(new: &NewTask, id: &str) -> Task {
        Task {
            id: id.to_owned(),
            kind: new.kind.clone(),
            payload: new.payload.clone(),
            deadline: new.deadline,
        }
    }

    /// Reads the body of a message. Members that it does not know are passed over.
    ///
    /// # Errors
    /// [`Error::BadTask`] if it is no JSON, has no id or kind, or one that is none.
    pub fn read(body: &[u8]) -> Result<Task, Error> {
        let task: Task = serde_json::from_slice(body)
            .map_err(|error| Error::BadTask(format!("the message is no task: {error}")))?;
        if !is_word(&task.id, LONGEST_ID) {
            let why = format!("`{}` is no id of a task: {}", task.id, words(LONGEST_ID));
            return Err(Error::BadTask(why));
        }
        if !is_word(&task.kind, LONGEST_KIND) {
            let why = format!(
                "`{}` is no kind of task: {}",
                task.kind,
                words(LONGEST_KIND)
            );
            return Err(Error::BadTask(why));
        }
        Ok(task)
    }

    /// The body of its message.
    ///
    /// # Errors
    /// [`Error::BadTask`] if it cannot be written as JSON.
    pub fn body(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|error| Error::BadTask(error.to_string()))
    }
}

/// An id that nobody has drawn before: 128 random bits in hexadecimal.
pub fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Whether a text can be the id of a task: 1 to 128 bytes of `A-Z a-z 0-9 . _ -`.
pub fn is_id(text: &str) -> bool {
    is_word(text, LONGEST_ID)
}

/// A time as milliseconds since 1970; what lies before is 0.
pub fn in_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn is_word(text: &str, longest: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=longest).contains(&text.len()) && text.bytes().all(fits)
}

fn words(longest: usize) -> String {
    format!("1 to {longest} of A-Z, a-z, 0-9, `.`, `_` and `-`")
}

/// A time in RFC 3339.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| humantime::format_rfc3339_millis(time).to_string())
            .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| {
            humantime::parse_rfc3339(&text)
                .map_err(|_| D::Error::custom(format!("`{text}` is no time in RFC 3339")))
        })
        .transpose()
    }
}
