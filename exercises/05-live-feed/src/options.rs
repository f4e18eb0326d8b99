//! What a node of the feed can be told.

use std::time::Duration;

/// How a node works. [`Options::default`] has the defaults of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The address of Redis, such as `redis://127.0.0.1:6379/0`. Without one there is a single node,
    /// and its history lives in memory.
    pub redis: Option<String>,
    /// The key of the Redis stream that holds the events.
    pub stream: String,
    /// How many events are kept for clients that come back. With Redis, 0 is treated as 1.
    pub history: usize,
    /// A comment goes out when nothing else did for so long. Zero is treated as a millisecond.
    pub heartbeat: Duration,
    /// How long a client is asked to wait before it connects again: the `retry:` that each stream
    /// begins with.
    pub retry: Duration,
    /// How many streams may be open at once.
    pub max_clients: usize,
    /// How many events may wait for one client. 0 is treated as 1, and more than a channel can hold
    /// as that many.
    pub queue: usize,
    /// If set, whoever reads or writes has to show it.
    pub token: Option<String>,
    /// How long a stopping node waits for its clients.
    pub stop_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            redis: None,
            stream: "feed".into(),
            history: 10_000,
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(2),
            max_clients: 10_000,
            queue: 256,
            token: None,
            stop_deadline: Duration::from_secs(5),
        }
    }
}
