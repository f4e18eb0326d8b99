//! What subscriptions, followers, relays and the saga can be told.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::start::Start;

/// How one subscription is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe {
    /// How many events may wait for the handler. The one that it is busy with does not wait. 0 is
    /// treated as 1.
    pub capacity: usize,
    /// What happens to an event for which there is no room.
    pub overflow: Overflow,
    /// How long one call of the handler may take; `None` is for ever.
    pub timeout: Option<Duration>,
}

impl Default for Subscribe {
    /// 1,024 events, publishers wait, 30 seconds a call.
    fn default() -> Self {
        Subscribe {
            capacity: 1024,
            overflow: Overflow::Block,
            timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// What happens to an event for which a subscription has no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Whoever publishes waits until there is room.
    #[default]
    Block,
    /// The event that has waited longest is dropped, and counted.
    DropOldest,
    /// The subscription ends.
    Disconnect,
}

/// Whose events to follow, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// The address of Redis, such as `redis://127.0.0.1:6379/0`.
    pub redis: String,
    /// The stream that is the log.
    pub log: String,
    /// The consumer group: a name for this follower, under which Redis keeps its place.
    pub group: String,
    /// Which events the handler is called for.
    pub pattern: String,
    /// Where to begin, whatever the group has seen so far. `None` goes on where the group is.
    pub from: Option<Start>,
    /// How often the handler is called for an event before that is set aside. 0 is treated as 1.
    pub attempts: u32,
    /// The pause after an event's first failure. It doubles with each further one, up to 10 seconds.
    pub retry_delay: Duration,
    /// How many entries one read brings at most. 0 is treated as 1.
    pub batch: usize,
}

impl Follow {
    /// On from where the group is, five attempts, the first pause 200 ms, a hundred entries a read.
    pub fn new(
        redis: impl Into<String>,
        log: impl Into<String>,
        group: impl Into<String>,
        pattern: impl Into<String>,
    ) -> Self {
        Follow {
            redis: redis.into(),
            log: log.into(),
            group: group.into(),
            pattern: pattern.into(),
            from: None,
            attempts: 5,
            retry_delay: Duration::from_millis(200),
            batch: 100,
        }
    }

    /// The stream that takes what is set aside: `L:dead:GROUP`.
    pub fn dead_stream(&self) -> String {
        format!("{}:dead:{}", self.log, self.group)
    }
}

/// From which outbox to which log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The address of the Redis with the outbox.
    pub redis: String,
    /// The outbox is the stream `PREFIX:outbox`.
    pub prefix: String,
    /// The address of the Redis with the log; `None` if it is the same.
    pub log_redis: Option<String>,
    /// The stream that is the log.
    pub log: String,
    /// How many entries are relayed at once. 0 is treated as 1.
    pub batch: usize,
}

impl Relay {
    /// Within one Redis, a hundred entries at once.
    pub fn new(
        redis: impl Into<String>,
        prefix: impl Into<String>,
        log: impl Into<String>,
    ) -> Self {
        Relay {
            redis: redis.into(),
            prefix: prefix.into(),
            log_redis: None,
            log: log.into(),
            batch: 100,
        }
    }

    /// The stream with what is to be relayed: `P:outbox`.
    pub fn outbox(&self) -> String {
        format!("{}:outbox", self.prefix)
    }

    /// The key, in the log's Redis, with the id of the last outbox entry that was appended:
    /// `L:relayed:P`.
    pub fn relayed(&self) -> String {
        format!("{}:relayed:{}", self.log, self.prefix)
    }
}

/// Where the services of the saga have their state and their events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saga {
    /// The address of Redis.
    pub redis: String,
    /// The prefix of the outbox with its states, and of the bank.
    pub prefix: String,
    /// The stream that is the log.
    pub log: String,
}

/// The services of the saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Knows what became of each order.
    Order,
    /// Charges, and gives back.
    Payment,
    /// Sends, or refuses to.
    Shipping,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 3] = [Service::Order, Service::Payment, Service::Shipping];

    /// Its name, which is also that of its group, and the first word of its states.
    pub fn name(self) -> &'static str {
        match self {
            Service::Order => "order",
            Service::Payment => "payment",
            Service::Shipping => "shipping",
        }
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Service::ALL
            .into_iter()
            .find(|service| service.name() == text);
        named.ok_or_else(|| format!("`{text}` is no service: order, payment or shipping"))
    }
}

/// An order as it is placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which one. Placed again under the same id it is the same order.
    pub id: String,
    /// What it costs.
    pub amount: u64,
    /// What is to be sent.
    pub item: String,
}
