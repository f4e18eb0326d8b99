//! The lab: everything the workbook's checks stand on.
//!
//! A check is an async function that gets a [`Lab`] and says whether a candidate keeps one
//! promise. Around it the lab supplies what such a judgement needs:
//!
//! - [`brokers`]: a real Redis or RabbitMQ, from whatever this machine has;
//! - [`browser`]: a headless Chromium that looks at the candidate's page;
//! - [`faults`]: a proxy that breaks connections at chosen events of the protocol;
//! - [`crash`]: the walk along everything that a candidate sends, with a fault at each;
//! - [`clients`]: clients of the candidate's service, strict, and able to misbehave;
//! - [`process`]: the candidate's service as a child that can be killed and paused;
//! - [`history`]: who did what to which message, and checkers over it;
//! - [`judge`]: every check in a process of its own, believed only with a receipt.
//!
//! A test crate hands its checks to a [`Suite`], which is its whole `main`.

mod check;
mod eventually;
mod failure;
mod fair_clock;
mod illustrate;
mod lab;
mod panics;
mod stall;
mod suite;
mod workspace;

pub mod brokers;
pub mod browser;
pub mod clients;
pub mod crash;
pub mod faults;
pub mod history;
pub mod judge;
pub mod process;

pub use brokers::{OwnRabbit, OwnRedis, Rabbit, Redis};
pub use browser::{Browser, Page};
pub use check::{Check, Outcome};
pub use failure::{Code, Details, Failure, Kind};
pub use fair_clock::FairClock;
pub use lab::Lab;
pub use panics::{Panic, stage_of};
pub use process::{Service, ServiceBuilder};
pub use suite::{Described, Suite};
pub use workspace::{patience, program, state_directory};
