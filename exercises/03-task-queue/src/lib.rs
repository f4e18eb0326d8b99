//! A task queue: slow work behind RabbitMQ, and an answer for whoever asks.
//!
//! A task that is accepted survives whatever dies: RabbitMQ has it on disk before anybody is told so. It
//! is attempted until it succeeds, is given up or cancelled; its status never goes backwards; and however
//! often it is submitted with one key, or delivered, it has one effect.
//!
//! The modules `names`, `task`, `status`, `context`, `options`, `report`, `error`, `connection`, `scale`,
//! `kinds` and `api` are given. The others are the exercise: `topology`, `publisher`, `submitter`,
//! `store`, `worker`, `attempt` and `resize`. The README beside this crate says in which order to write
//! them.
#![forbid(unsafe_code)]
// What is given is used bit by bit, as the stages are written.
#![cfg_attr(not(feature = "solution"), allow(dead_code))]

mod api;
mod connection;
mod context;
mod error;
mod kinds;
mod names;
mod options;
mod report;
mod scale;
mod status;
mod task;

// The exercise. Its modules lie in `src/`, beside this file. With the feature `solution` the reference
// takes their place, with `candidate` what the runner has laid out.

#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/03-task-queue/attempt.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/03-task-queue/attempt.rs"
)]
mod attempt;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/03-task-queue/publisher.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/03-task-queue/publisher.rs"
)]
mod publisher;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/03-task-queue/resize.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/03-task-queue/resize.rs"
)]
mod resize;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/03-task-queue/store.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/03-task-queue/store.rs"
)]
mod store;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/03-task-queue/submitter.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/03-task-queue/submitter.rs"
)]
mod submitter;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/03-task-queue/topology.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/03-task-queue/topology.rs"
)]
mod topology;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/03-task-queue/worker.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/03-task-queue/worker.rs"
)]
mod worker;

pub use api::{Api, serve};
pub use context::{Context, Failure, Handlers, Outcome};
pub use error::Error;
pub use kinds::{KINDS, Resize, handlers};
pub use names::Names;
pub use options::{Retry, Submit, Work};
pub use report::Worked;
pub use resize::resize;
pub use scale::{LONGEST_SIDE, NotScaled, Scaled, scale};
pub use status::{State, Status};
pub use store::Store;
pub use submitter::Submitter;
pub use task::{NewTask, Priority, Task};
pub use topology::{declare, declare_wait};
pub use worker::work;

/// The stop signal that [`work`] takes.
pub use tokio_util::sync::CancellationToken;
