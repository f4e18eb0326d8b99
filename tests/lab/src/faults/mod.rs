//! Faults on the wire: a proxy between a candidate and its broker that sees
//! every command, writes it down, and breaks the connection exactly where a
//! check wants it broken.
//!
//! ```no_run
//! # use lab::faults::{Action, Proxy, Trigger};
//! # async fn example() -> std::io::Result<()> {
//! let proxy = Proxy::start("redis://127.0.0.1:6379", std::time::Instant::now())?;
//! // The broker carries out the second XADD, but its answer never arrives.
//! let lost = proxy.arm(
//!     Trigger::request(|e| e.is("XADD")).nth(2),
//!     Action::CutAfter,
//! );
//! // … run the candidate against `proxy.url()` …
//! lost.fired().await;
//! # Ok(()) }
//! ```
//!
//! Faults are armed by what happens on the wire, never by a clock: a check
//! that needs "after the delivery, before its acknowledgement" says just that.
//!
//! [`amqp`] has the same for RabbitMQ.

pub mod amqp;
mod buffers;
mod exchange;
mod forbidden;
mod log;
mod proxy;
mod relay;
pub mod resp;
mod trigger;

pub use exchange::Exchange;
pub use proxy::Proxy;
pub use resp::Reply;
pub use trigger::{Action, Fault, Trigger, TriggerOn};
