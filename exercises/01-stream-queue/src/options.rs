//! What a producer and a worker can be told.

use std::time::Duration;

/// Where to send, and when to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendOptions {
    /// The address of Redis, such as `redis://127.0.0.1:6379/0`.
    pub redis: String,
    /// The stream to add to.
    pub stream: String,
    /// The largest backlog (see [`backlog`](crate::backlog)) that sending may cause; with `None`
    /// a producer never waits.
    pub max_backlog: Option<u64>,
}

/// Where to work, as whom, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkOptions {
    /// The address of Redis, such as `redis://127.0.0.1:6379/0`.
    pub redis: String,
    /// The stream to read.
    pub stream: String,
    /// The consumer group. Each entry is handled once in each group.
    pub group: String,
    /// This consumer's name in the group. One running process has it at a time.
    pub consumer: String,
    /// How many entries may be in flight at once. 0 is treated as 1.
    pub concurrency: usize,
    /// How long an entry may stay without a sign of life from its consumer before others take it.
    pub visibility: Duration,
    /// How often an entry is delivered before it is given up. 0 is treated as 1.
    pub max_deliveries: u64,
    /// How long to wait after the first failure; it doubles with each further one.
    pub first_retry: Duration,
    /// The longest wait between two attempts.
    pub longest_retry: Duration,
    /// How long a stopping worker waits for what is in flight.
    pub stop_deadline: Duration,
}

impl WorkOptions {
    /// One entry at a time, visible again after 30 s, five deliveries, retries after 100 ms growing
    /// to 30 s, ten seconds to stop.
    pub fn new(
        redis: impl Into<String>,
        stream: impl Into<String>,
        group: impl Into<String>,
        consumer: impl Into<String>,
    ) -> Self {
        WorkOptions {
            redis: redis.into(),
            stream: stream.into(),
            group: group.into(),
            consumer: consumer.into(),
            concurrency: 1,
            visibility: Duration::from_secs(30),
            max_deliveries: 5,
            first_retry: Duration::from_millis(100),
            longest_retry: Duration::from_secs(30),
            stop_deadline: Duration::from_secs(10),
        }
    }

    /// The stream that takes what this worker gives up: the stream's name followed by `:dead`.
    pub fn dead_stream(&self) -> String {
        format!("{}:dead", self.stream)
    }
}
