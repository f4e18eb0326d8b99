//! Who did what to which message, when; and whether that is allowed.
//!
//! A check records a [`History`] while a candidate runs: its handlers say what
//! they begin and finish, the wire says what the broker handed out and took back
//! ([`History::absorb`]), the broker's own state at the end says the rest
//! ([`History::absorb_state`]). Then checkers, plain functions over the events,
//! judge it: valid, violated with the events that prove it, or unknown when the
//! history does not tell. Nothing is judged by counting or by the clock alone.

mod amqp;
mod checkers;
mod diagram;
mod picture;
mod scene;
mod state;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use checkers::{
    Anomaly, Verdict, acknowledged_only_after_success, attempts_at_most, bounded_in_flight,
    delivered_to_one_at_a_time, deliveries_grow, fenced, in_order_per_key, never_both,
    no_duplicate_effect, nothing_lost,
};
pub use diagram::diagram;
pub use picture::picture;

use crate::faults::Proxy;
use crate::faults::amqp::AmqpProxy;
use crate::{Code, Failure, Outcome};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When, counted from the moment the lab began.
    pub at: Duration,
    /// Who: a producer, a worker by its consumer's name, `broker`, `network`.
    pub actor: String,
    /// What.
    pub what: What,
    /// To which message, or with which resource; empty if to none in particular.
    pub id: String,
    /// More about it, for the reader; for [`in_order_per_key`] the key, in `Sent`.
    pub detail: String,
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The message was accepted by the broker.
    Sent,
    /// The broker handed it to the actor.
    Delivered {
        /// How often by now, as the broker counts; 0 if that is not known.
        deliveries: u64,
    },
    /// The actor's handler began.
    Started {
        /// How often the message was delivered, as the handler was told; 0 if it was not.
        deliveries: u64,
    },
    /// The actor's handler ended well.
    Succeeded,
    /// The actor's handler ended badly.
    Failed,
    /// The broker was told that the message is done with, and believed it.
    Acknowledged,
    /// The message was moved to where hopeless ones go.
    DeadLettered,
    /// Its effect took place.
    Effect,
    /// It was thrown away, and whoever did so said so.
    Dropped,
    /// A resource (`id`) accepted a write under this fencing token.
    Token(u64),
    /// At the end the broker still held it: not delivered, or not acknowledged.
    Pending,
    /// Something was done that the lab cannot see into (a script, a lost reply). It may
    /// have settled this message, or any if `id` is empty.
    Hidden(String),
    /// What the lab, or fate, did to the actor: killed, paused, cut off.
    Fault(String),
    /// Anything else worth a line in the picture.
    Note(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |f: &mut fmt::Formatter<'_>, verb: &str, n: u64| match n {
            0 => f.write_str(verb),
            n => write!(f, "{verb} #{n}"),
        };
        match self {
            What::Sent => f.write_str("sent"),
            What::Delivered { deliveries } => counted(f, "delivered", *deliveries),
            What::Started { deliveries } => counted(f, "started", *deliveries),
            What::Succeeded => f.write_str("succeeded"),
            What::Failed => f.write_str("failed"),
            What::Acknowledged => f.write_str("acknowledged"),
            What::DeadLettered => f.write_str("dead-lettered"),
            What::Effect => f.write_str("effect"),
            What::Dropped => f.write_str("dropped"),
            What::Token(token) => write!(f, "token {token}"),
            What::Pending => f.write_str("still pending"),
            What::Hidden(text) => write!(f, "out of sight: {text}"),
            What::Fault(text) => f.write_str(text),
            What::Note(text) => f.write_str(text),
        }
    }
}

/// A recorder of events that any number of tasks and threads write to. Clones share
/// what they record.
#[derive(Debug, Clone)]
pub struct History {
    began: Instant,
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Debug, Default)]
struct Recorded {
    events: Vec<Event>,
    wire: wire::Absorbed,
    amqp: amqp::Absorbed,
    faults: HashSet<(u16, usize)>,
}

impl Recorded {
    /// The faults of the proxy at this port, each once.
    fn add_faults(&mut self, port: u16, faults: Vec<(Duration, String)>) {
        for (i, (at, text)) in faults.into_iter().enumerate() {
            if self.faults.insert((port, i)) {
                self.events.push(Event {
                    at,
                    actor: "network".to_owned(),
                    what: What::Fault(text),
                    id: String::new(),
                    detail: String::new(),
                });
            }
        }
    }
}

impl Default for History {
    fn default() -> Self {
        History::new(Instant::now())
    }
}

impl History {
    /// An empty history whose times count from `began`. A proxy whose wire it is to
    /// absorb must have been given the same moment.
    pub fn new(began: Instant) -> Self {
        History {
            began,
            recorded: Arc::default(),
        }
    }

    /// Records that this happens now.
    pub fn record(&self, actor: &str, what: What, id: &str) {
        self.record_detail(actor, what, id, "");
    }

    /// As [`record`](Self::record), with a detail: the key of a message that was sent.
    pub fn record_detail(&self, actor: &str, what: What, id: &str, detail: &str) {
        // The time is taken under the lock: what was recorded later is never earlier.
        let mut recorded = self.lock();
        let at = self.began.elapsed();
        recorded.events.push(Event {
            at,
            actor: actor.to_owned(),
            what,
            id: id.to_owned(),
            detail: detail.to_owned(),
        });
    }

    /// Records a remark about an actor.
    pub fn note(&self, actor: &str, text: &str) {
        self.record(actor, What::Note(text.to_owned()), "");
    }

    /// Records what is done to an actor: `fault("worker-1", "killed")`. What it was doing
    /// counts as over for the checkers that ask who is at work.
    pub fn fault(&self, actor: &str, text: &str) {
        self.record(actor, What::Fault(text.to_owned()), "");
    }

    /// Adds what the proxy has seen of `stream` and its consumer group `group`: what was
    /// delivered, acknowledged and dead-lettered, and the faults that struck. Safe to call
    /// again: nothing is added twice.
    ///
    /// - `Delivered` by `XREADGROUP`, `XCLAIM` and `XAUTOCLAIM` (not with `JUSTID`, which
    ///   delivers nothing), under the consumer's name. First deliveries count 1, the
    ///   wire does not tell the others.
    /// - `Acknowledged` by an `XACK` that the broker counted. The one that goes with a dead
    ///   letter, in its transaction or after it, is a part of `DeadLettered`.
    /// - `DeadLettered` by an `XADD` to `<stream>:dead`, under the entry's field `_id`.
    /// - `Hidden` where something happened that the wire does not tell: a script that names
    ///   the stream, an acknowledgement whose reply was lost.
    pub fn absorb(&self, proxy: &Proxy, stream: &str, group: &str) {
        let log = proxy.log();
        let faults = proxy.faults();
        let port = proxy.addr().port();
        let mut recorded = self.lock();
        let recorded = &mut *recorded;
        recorded
            .wire
            .absorb(port, &log, stream, group, &mut recorded.events);
        recorded.add_faults(port, faults);
    }

    /// Adds what a proxy in front of RabbitMQ has seen of its messages, by their message id: what was
    /// published and confirmed, delivered and settled, and the faults that struck. Safe to call again:
    /// nothing is added twice.
    ///
    /// - `DeadLettered` by a message to an exchange whose name ends with `.dead`.
    /// - `Delivered` and `Acknowledged` by the client; a nack or a reject is a `Note`.
    /// - `Note` for what was published, confirmed, refused by a nack, or returned.
    ///
    /// Only what was passed on is told: a confirm that was lost is among the faults.
    pub fn absorb_amqp(&self, proxy: &AmqpProxy) {
        let (log, faults) = (proxy.log(), proxy.faults());
        let mut recorded = self.lock();
        let recorded = &mut *recorded;
        recorded
            .amqp
            .absorb(proxy.port(), &log, &mut recorded.events);
        recorded.add_faults(proxy.port(), faults);
    }

    /// Everything recorded so far, in the order of time. Events of the same moment stay in
    /// the order in which they were recorded.
    pub fn events(&self) -> Vec<Event> {
        let mut events = self.lock().events.clone();
        events.sort_by_key(|event| event.at);
        events
    }

    /// Holds what was recorded so far to a checker: `history.require(nothing_lost)?`.
    ///
    /// # Errors
    /// A failure with the anomaly's explanation, its diagram and its picture. A history that
    /// does not tell is a failure too: a candidate that does nothing keeps no promise.
    pub fn require(&self, checker: impl Fn(&[Event]) -> Verdict) -> Outcome {
        let events = self.events();
        match checker(&events) {
            Verdict::Valid => Ok(()),
            Verdict::Violated(anomaly) => Err(Failure::observed(&anomaly.explanation)
                .history(diagram(&events, &anomaly))
                .picture(picture(&events, &anomaly))),
            Verdict::Unknown(why) => Err(Failure::observed(format!(
                "nothing shows that the promise was kept: {why}"
            ))),
        }
    }

    /// As [`require`](Self::require); a violation names this mistake of the atlas.
    ///
    /// # Errors
    /// As `require`.
    pub fn require_code(&self, checker: impl Fn(&[Event]) -> Verdict, code: impl Code) -> Outcome {
        self.require(checker)
            .map_err(|failure| match failure.history {
                Some(_) => failure.code_if(code),
                // That nothing is known is no mistake of any particular kind.
                None => failure,
            })
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        // A panic elsewhere cannot leave half an event behind.
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as a reader wants it.
fn time(at: Duration) -> String {
    let millis = at.as_secs_f64() * 1000.0;
    match millis {
        ..100.0 => format!("{millis:.1} ms"),
        ..10_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}
