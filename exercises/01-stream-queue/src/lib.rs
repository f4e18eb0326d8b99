//! A message queue on Redis Streams: a producer and a consumer group that lose nothing, whatever dies.
//!
//! Every entry that was sent is in the end acknowledged or dead-lettered: never neither, never both.
//!
//! The modules `entry`, `options`, `connection` and `error` are given. The others are the exercise:
//! `producer`, `consumer`, `worker`, `recovery`, `dead_letters`, `trim` and `once`. The README beside
//! this crate says in which order to write them.
#![forbid(unsafe_code)]

mod connection;
mod entry;
mod error;
mod options;

// The exercise. Its modules lie in `src/`, beside this file. With the feature `solution` the reference
// takes their place, with `candidate` what the runner has laid out.

#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/01-stream-queue/consumer.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/01-stream-queue/consumer.rs"
)]
mod consumer;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/01-stream-queue/dead_letters.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/01-stream-queue/dead_letters.rs"
)]
mod dead_letters;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/01-stream-queue/once.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/01-stream-queue/once.rs"
)]
mod once;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/01-stream-queue/producer.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/01-stream-queue/producer.rs"
)]
mod producer;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/01-stream-queue/recovery.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/01-stream-queue/recovery.rs"
)]
mod recovery;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/01-stream-queue/trim.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/01-stream-queue/trim.rs"
)]
mod trim;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/01-stream-queue/worker.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/01-stream-queue/worker.rs"
)]
mod worker;

pub use connection::{connect, connect_for_blocking};
pub use consumer::Consumer;
pub use dead_letters::{DeadEntry, DeadLetters, retry_delay};
pub use entry::{DecodeError, Entry, Message, RawEntry, parse_entries, parse_read};
pub use error::Error;
pub use once::apply_once;
pub use options::{SendOptions, WorkOptions};
pub use producer::{Producer, fields};
pub use trim::{backlog, trim};
pub use worker::{Summary, work};

/// The stop signal that [`work()`] takes.
pub use tokio_util::sync::CancellationToken;
