//! The same for AMQP: a proxy between a candidate and RabbitMQ that reads along frame by frame, and
//! breaks the connection at a chosen one.
//!
//! ```no_run
//! # use lab::faults::Action;
//! # use lab::faults::amqp::{AmqpProxy, Frame, Trigger};
//! # async fn example() -> std::io::Result<()> {
//! let proxy = AmqpProxy::start("amqp://127.0.0.1", std::time::Instant::now(), None)?;
//! // RabbitMQ has stored the third message, and its confirm never arrives.
//! let lost = proxy.arm(Trigger::reply(Frame::is_confirm).nth(3), Action::CutAfter);
//! // … run the candidate against `proxy.url()` …
//! lost.fired().await;
//! # Ok(()) }
//! ```
//!
//! [`Trigger::request`] looks at what the client sends, and
//! [`Trigger::reply`] at what RabbitMQ does. A message is one event, with its
//! properties and its body, however many frames it comes in.

mod count;
mod ending;
mod frame;
mod log;
mod notes;
mod parse;
mod proxy;
mod relay;

pub use count::{most_outstanding, most_unacked, most_unacked_on_one_connection};
pub use frame::{Frame, Message, Side};
pub use proxy::AmqpProxy;

/// The event on the wire between a candidate and RabbitMQ at which a fault strikes.
pub type Trigger = super::TriggerOn<Frame>;
