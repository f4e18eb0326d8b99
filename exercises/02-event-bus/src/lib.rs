//! An event bus: from listeners in one process to events that outlive it.
//!
//! A handler that fails, panics or hangs changes nothing for the others or for the publisher; each
//! subscriber sees one publisher's events in order; memory is bounded; and what is written to the log
//! is handled, whatever dies.
//!
//! The modules `event`, `error`, `options`, `report`, `start`, `entry`, `connection` and `bank` are
//! given. The others are the exercise: `pattern`, `queue`, `bus`, `log`, `follow`, `outbox`, `relay`
//! and `saga`. The README beside this crate says in which order to write them.
#![forbid(unsafe_code)]
// What is given is used bit by bit, as the stages are written.
#![cfg_attr(not(feature = "solution"), allow(dead_code))]

mod bank;
mod connection;
mod entry;
mod error;
mod event;
mod options;
mod report;
mod start;

// The exercise. Its modules lie in `src/`, beside this file. With the feature `solution` the reference
// takes their place, with `candidate` what the runner has laid out.

#[cfg_attr(feature = "solution", path = "../../../solutions/02-event-bus/bus.rs")]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/02-event-bus/bus.rs"
)]
mod bus;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/02-event-bus/follow.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/02-event-bus/follow.rs"
)]
mod follow;
#[cfg_attr(feature = "solution", path = "../../../solutions/02-event-bus/log.rs")]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/02-event-bus/log.rs"
)]
mod log;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/02-event-bus/outbox.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/02-event-bus/outbox.rs"
)]
mod outbox;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/02-event-bus/pattern.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/02-event-bus/pattern.rs"
)]
mod pattern;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/02-event-bus/queue.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/02-event-bus/queue.rs"
)]
mod queue;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/02-event-bus/relay.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/02-event-bus/relay.rs"
)]
mod relay;
#[cfg_attr(feature = "solution", path = "../../../solutions/02-event-bus/saga.rs")]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/02-event-bus/saga.rs"
)]
mod saga;

pub use bank::{Answer, Bank};
pub use bus::{Bus, Subscription};
pub use error::{BoxError, Error};
pub use event::{Event, Named};
pub use follow::follow;
pub use log::Log;
pub use options::{Follow, Order, Overflow, Relay, Saga, Service, Subscribe};
pub use outbox::Outbox;
pub use pattern::Pattern;
pub use relay::relay;
pub use report::{
    Followed, HandlerError, HandlerFailure, Published, Relayed, Report, Stats, Undelivered,
};
pub use saga::{place, serve};
pub use start::Start;

pub use entry::Stored;

/// The stop signal that [`follow()`], [`relay()`] and [`serve`] take.
pub use tokio_util::sync::CancellationToken;
