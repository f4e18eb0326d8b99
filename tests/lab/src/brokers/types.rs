//! What is asked of brokers, and what is answered.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which brokers a run needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Redis.
    pub redis: bool,
    /// RabbitMQ.
    pub amqp: bool,
    /// Browsers, for checks that look at a page. That there is none on this machine is told to
    /// those checks alone.
    pub browser: bool,
}

impl Wanted {
    /// Reads names: `redis`, `amqp` or `rabbitmq` as they stand in an exercise's manifest, `browser`.
    /// Others are ignored.
    pub fn from_names<I, S>(names: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut wanted = Wanted::default();
        for name in names {
            match name.as_ref() {
                "redis" => wanted.redis = true,
                "amqp" | "rabbitmq" => wanted.amqp = true,
                "browser" => wanted.browser = true,
                _ => {}
            }
        }
        wanted
    }

    /// True if nothing is needed.
    pub fn is_empty(self) -> bool {
        self == Wanted::default()
    }

    /// True if all that `other` says is in this.
    pub fn covers(self, other: Wanted) -> bool {
        (self.redis || !other.redis)
            && (self.amqp || !other.amqp)
            && (self.browser || !other.browser)
    }
}

/// Where a run's brokers are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `redis://…`
    pub redis: Option<String>,
    /// `amqp://…`
    pub amqp: Option<String>,
    /// `127.0.0.1:PORT`, where the keeper hands out browsers.
    #[serde(default)]
    pub browser: Option<String>,
}

/// Where a broker came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// `REDIS_URL` or `AMQP_URL`.
    Given,
    /// A container of ours.
    Container,
    /// A local process of ours.
    Process,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            How::Given => "given by its URL",
            How::Container => "in a container",
            How::Process => "a local process",
        })
    }
}

/// A broker that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Where it listens.
    pub url: String,
    /// Where it came from.
    pub how: How,
    /// True if it was there before, kept warm by `cargo xtask brokers up`.
    #[serde(default)]
    pub warm: bool,
}

/// One rung of the ladder that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was tried.
    pub way: String,
    /// Why it failed.
    pub why: String,
    /// The command that mends it on this system, where there is one.
    pub mend: Option<String>,
}

/// No rung of the ladder held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub struct Unavailable {
    /// `Redis` or `RabbitMQ`.
    pub broker: String,
    /// All that was tried, in order.
    pub tried: Vec<Attempt>,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} can be had on this machine:", self.broker)?;
        for attempt in &self.tried {
            write!(f, "\n  {}: {}", attempt.way, attempt.why)?;
            if let Some(mend) = &attempt.mend {
                write!(f, "\n      to mend it: {mend}")?;
            }
        }
        Ok(())
    }
}
