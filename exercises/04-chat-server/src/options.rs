//! What a node can be told.

use std::fmt;
use std::time::Duration;

/// How to serve. `Options::default()` has the defaults of the command line.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The address of Redis. With `None` the node is alone, and its state lives in memory.
    pub redis: Option<String>,
    /// Every key in Redis begins with this and a colon.
    pub prefix: String,
    /// Who knows this can make tokens (see [`token`](crate::token)). With `None` nobody needs one.
    pub token_secret: Option<String>,
    /// The origins whose pages may connect, such as `https://chat.example`. Empty: any.
    pub origins: Vec<String>,
    /// How often a client is pinged. One that gave no sign of life for twice as long is gone.
    /// Less than a millisecond is treated as a millisecond, more than a year as a year.
    pub heartbeat: Duration,
    /// The largest message a client may send: bytes of payload, all fragments together.
    pub max_message: usize,
    /// Messages a second that a client may send to `/ws`, with bursts of twice as many. 0: no limit.
    pub rate: u32,
    /// Frames that may wait for one client. 0 is treated as 1.
    pub queue: usize,
    /// Messages that are kept for each room.
    pub history: usize,
    /// How long a stop may take.
    pub stop_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            redis: None,
            prefix: "chat".into(),
            token_secret: None,
            origins: Vec::new(),
            heartbeat: Duration::from_secs(25),
            max_message: 64 * 1024,
            rate: 100,
            queue: 256,
            history: 1_000,
            stop_deadline: Duration::from_secs(5),
        }
    }
}

/// Shows everything but what must stay secret.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        f.debug_struct("Options")
            // It may hold a password.
            .field("redis", &hidden(&self.redis))
            .field("prefix", &self.prefix)
            .field("token_secret", &hidden(&self.token_secret))
            .field("origins", &self.origins)
            .field("heartbeat", &self.heartbeat)
            .field("max_message", &self.max_message)
            .field("rate", &self.rate)
            .field("queue", &self.queue)
            .field("history", &self.history)
            .field("stop_deadline", &self.stop_deadline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn secrets_are_never_shown() {
        let options = Options {
            redis: Some("redis://:s3cret@host".into()),
            token_secret: Some("s3cret".into()),
            ..Options::default()
        };
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
