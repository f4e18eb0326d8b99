//! A live feed over Server-Sent Events: a client that reconnects with the last id it saw misses
//! nothing and sees nothing twice.
//!
//! The modules `options`, `event`, `error`, `feed`, `connect`, `connections`, `entry`, `http` and
//! the page are given. The others are the exercise: `frame`, `hub`, `subscription`, `history`, `stream`,
//! `store`, `access` and `server`. The README beside this crate says in which order to write them.
#![forbid(unsafe_code)]
// What is given is used bit by bit, as the stages are written.
#![cfg_attr(not(feature = "solution"), allow(dead_code))]

mod connect;
mod connections;
mod entry;
mod error;
mod event;
mod feed;
mod http;
mod options;

// The exercise. Its modules lie in `src/`, beside this file. With the feature `solution` the reference
// takes their place, with `candidate` what the runner has laid out.

#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/05-live-feed/access.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/05-live-feed/access.rs"
)]
mod access;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/05-live-feed/frame.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/05-live-feed/frame.rs"
)]
mod frame;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/05-live-feed/history.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/05-live-feed/history.rs"
)]
mod history;
#[cfg_attr(feature = "solution", path = "../../../solutions/05-live-feed/hub.rs")]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/05-live-feed/hub.rs"
)]
mod hub;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/05-live-feed/server.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/05-live-feed/server.rs"
)]
mod server;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/05-live-feed/store.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/05-live-feed/store.rs"
)]
mod store;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/05-live-feed/stream.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/05-live-feed/stream.rs"
)]
mod stream;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/05-live-feed/subscription.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/05-live-feed/subscription.rs"
)]
mod subscription;

pub use error::{Error, FrameError};
pub use event::Event;
pub use frame::frame;
pub use options::Options;
pub use server::{Summary, serve};

/// The stop signal that [`serve`] takes.
pub use tokio_util::sync::CancellationToken;
