//! What the bus, a follower and a relay tell of what they did.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;

/// What became of a publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// How many subscriptions there were whose pattern matched the event's name.
    pub matched: usize,
}

/// What one subscription has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that returned `Ok`.
    pub handled: u64,
    /// Calls that failed, panicked or timed out, and events that could not be read.
    pub failed: u64,
    /// Events that were dropped because there was no room for them.
    pub dropped: u64,
    /// Events that wait for the handler now.
    pub waiting: usize,
    /// Whether it ended because there was no room ([`Overflow::Disconnect`](crate::Overflow)).
    pub disconnected: bool,
}

/// A handler did not handle an event: what the bus's error hook is told.
#[derive(Debug, Clone)]
pub struct HandlerError {
    /// The pattern of the subscription.
    pub pattern: String,
    /// The event.
    pub event: Arc<Event>,
    /// What happened.
    pub failure: HandlerFailure,
}

/// Why an event was not handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerFailure {
    /// The handler returned this error.
    Failed(String),
    /// The handler panicked with this text.
    Panicked(String),
    /// The handler took longer than this, and was cut off.
    TimedOut(Duration),
    /// The event's data is not of the type that the handler takes, and this is why.
    Unreadable(String),
    /// There was no room for the event, and so the subscription has ended.
    Disconnected,
}

impl fmt::Display for HandlerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerFailure::Failed(error) => write!(f, "failed: {error}"),
            HandlerFailure::Panicked(text) => write!(f, "panicked: {text}"),
            HandlerFailure::TimedOut(limit) => write!(f, "took longer than {limit:?}"),
            HandlerFailure::Unreadable(error) => write!(f, "cannot read the event: {error}"),
            HandlerFailure::Disconnected => {
                write!(f, "disconnected: too many events were waiting")
            }
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pattern, name) = (&self.pattern, &self.event.name);
        write!(f, "the handler of `{pattern}`, event `{name}`: ")?;
        self.failure.fmt(f)
    }
}

/// What a shutdown could not deliver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The subscriptions with something left, and no others.
    pub subscriptions: Vec<Undelivered>,
}

impl Report {
    /// Whether everything was delivered.
    pub fn is_complete(&self) -> bool {
        self.subscriptions.is_empty()
    }
}

/// What one subscription had left at the deadline of a shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The pattern of the subscription.
    pub pattern: String,
    /// Events whose handling had not begun.
    pub waiting: u64,
    /// 1 if a call of its handler was cut off, 0 if none was under way.
    pub interrupted: u64,
}

/// What a follower did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Followed {
    /// Events whose handler returned `Ok` and that were then acknowledged.
    pub handled: u64,
    /// Entries that were moved to the dead letters.
    pub set_aside: u64,
}

/// What a relay did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Entries that this relay appended to the log.
    pub published: u64,
}
