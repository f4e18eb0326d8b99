//! A distributed scheduler: nodes that agree who leads, jobs that fire once, and services that do the work.
//!
//! The schedule is in Redis. One node leads at a time; it turns what is due into runs, and publishes them to
//! the services' queues in RabbitMQ. A leader that was paused for too long cannot write any more. However often
//! a run is published, delivered or worked, it has one effect.
//!
//! The modules `names`, `time`, `clock`, `term`, `job`, `run`, `flow`, `options`, `report`, `error`,
//! `connection` and `api` are given. The others are the exercise: `schedule`, `store`, `lease`, `dispatch`,
//! `worker`, `misfire`, `workflow`, `operate` and `node`. The README beside this crate says in which order to
//! write them.
#![forbid(unsafe_code)]
// What is given is used bit by bit, as the stages are written.
#![cfg_attr(not(feature = "solution"), allow(dead_code))]

mod api;
mod clock;
mod connection;
mod error;
mod flow;
mod job;
mod names;
mod options;
mod report;
mod run;
mod term;
pub mod time;

// The exercise. Its modules lie in `src/`, beside this file. With the feature `solution` the reference
// takes their place, with `candidate` what the runner has laid out.

#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/dispatch.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/dispatch.rs"
)]
mod dispatch;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/lease.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/lease.rs"
)]
mod lease;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/misfire.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/misfire.rs"
)]
mod misfire;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/node.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/node.rs"
)]
mod node;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/operate.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/operate.rs"
)]
mod operate;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/schedule.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/schedule.rs"
)]
mod schedule;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/store.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/store.rs"
)]
mod store;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/worker.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/worker.rs"
)]
mod worker;
#[cfg_attr(
    feature = "solution",
    path = "../../../solutions/06-job-scheduler/workflow.rs"
)]
#[cfg_attr(
    all(feature = "candidate", not(feature = "solution")),
    path = "../../../.workbook/candidate/06-job-scheduler/workflow.rs"
)]
mod workflow;

pub use api::serve as serve_api;
pub use clock::Clock;
pub use dispatch::{Dispatcher, declare, declare_service};
pub use error::Error;
pub use flow::{Compensation, FlowState, NewWorkflow, Step, StepNow, StepState, Workflow};
pub use job::{Job, JobState, Misfire, NewJob, Schedule};
pub use lease::Lease;
pub use misfire::{Plan, plan};
pub use names::Names;
pub use node::run;
pub use options::{NodeOptions, Retry, ServiceOptions};
pub use report::{NodeReport, ServiceReport};
pub use run::{Past, Reply, Run, RunState, run_id};
pub use schedule::{SHORTEST, first, next};
pub use store::{Claim, Due, Settled, Store};
pub use term::Term;
pub use time::Time;
pub use worker::{Applied, Ledger, serve};
pub use workflow::{advance, note};

/// The stop signal that [`run()`] and [`serve`] take.
pub use tokio_util::sync::CancellationToken;
