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

/// The modules that are the exercise. They lie in `src/`, beside this file; with the feature
/// `solution` the reference takes their place, with `candidate` what the runner laid out.
#[cfg_attr(feature = "solution", path = "../../../solutions/01-stream-queue")]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/01-stream-queue"
)]
#[cfg_attr(not(any(feature = "solution", feature = "candidate")), path = ".")]
mod exercise {
    pub mod consumer;
    pub mod dead_letters;
    pub mod once;
    pub mod producer;
    pub mod recovery;
    pub mod trim;
    pub mod worker;
}

// So that they name each other as if they stood here: `crate::consumer`.
#[allow(unused_imports)]
use exercise::{consumer, dead_letters, once, producer, recovery, trim, worker};

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
