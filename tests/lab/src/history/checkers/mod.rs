//! What a history is held to.
//!
//! Every checker reads the events in the order given, which is the order of time
//! ([`History::events`](super::History::events) returns them so), and never changes
//! them. Each says in its documentation what it holds a history to, which anomaly
//! it names, and when it cannot tell. All of them take time in proportion to
//! the number of events (`bounded_in_flight` times the number of actors).

mod counting;
mod flow;
mod settling;

pub use counting::{attempts_at_most, deliveries_grow, fenced};
pub use flow::{bounded_in_flight, delivered_to_one_at_a_time, in_order_per_key};
pub use settling::{
    acknowledged_only_after_success, never_both, no_duplicate_effect, nothing_lost,
};

use super::{Event, What, time};

/// What a checker says about a history.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The history keeps the promise.
    Valid,
    /// It does not; the anomaly proves it.
    Violated(Anomaly),
    /// The history does not tell, and why not.
    Unknown(String),
}

/// The proof that a promise was broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// The anomaly's name, such as `lost message`.
    pub name: &'static str,
    /// The messages (or resources) it is about.
    pub ids: Vec<String>,
    /// The events that prove it: indexes into the history that was checked, in order.
    pub events: Vec<usize>,
    /// What happened, as a sentence.
    pub explanation: String,
}

fn violated(name: &'static str, ids: &[&str], events: &[usize], explanation: String) -> Verdict {
    let mut events = events.to_vec();
    events.sort_unstable();
    events.dedup();
    Verdict::Violated(Anomaly {
        name,
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        events,
        explanation,
    })
}

/// For the sentences: `at 12.3 ms`.
fn at(event: &Event) -> String {
    format!("at {}", time(event.at))
}

fn unknown(why: &str) -> Verdict {
    Verdict::Unknown(why.to_owned())
}

/// True if the event ends what the actor's handler was doing for the message.
fn ends_handler(what: &What) -> bool {
    matches!(what, What::Succeeded | What::Failed)
}
