//! A chat server over WebSocket: rooms, presence, history, any number of nodes.
//!
//! One stalled reader delays nobody. A message reaches every other member of its room, exactly once.
//!
//! The modules `options`, `frames`, `refusal`, `error`, `server`, `socket`, `transport` and `store` are
//! given. The others are the exercise: `session`, `hub`, `guard`, `heartbeat`, `outbox`, `history`,
//! `cluster` and `stop`. The README beside this crate says in which order to write them.
#![forbid(unsafe_code)]
// Much of what is given is for stages that are not written yet.
#![cfg_attr(not(feature = "solution"), allow(dead_code))]

mod error;
mod frames;
mod options;
mod refusal;
mod server;
mod socket;
mod store;
mod transport;

// The exercise. Its modules lie in `src/`, beside this file. With the feature `solution` the reference
// takes their place, with `candidate` what the runner has laid out.

#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/04-chat-server/cluster.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/04-chat-server/cluster.rs"
)]
mod cluster;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/04-chat-server/guard.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/04-chat-server/guard.rs"
)]
mod guard;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/04-chat-server/heartbeat.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/04-chat-server/heartbeat.rs"
)]
mod heartbeat;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/04-chat-server/history.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/04-chat-server/history.rs"
)]
mod history;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/04-chat-server/hub.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/04-chat-server/hub.rs"
)]
mod hub;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/04-chat-server/outbox.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/04-chat-server/outbox.rs"
)]
mod outbox;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/04-chat-server/session.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/04-chat-server/session.rs"
)]
mod session;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/04-chat-server/stop.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/04-chat-server/stop.rs"
)]
mod stop;

pub use error::Error;
pub use frames::encodings;
pub use guard::token;
pub use options::Options;
pub use server::{Summary, reach, serve};

/// The stop signal that [`serve()`] takes.
pub use tokio_util::sync::CancellationToken;
