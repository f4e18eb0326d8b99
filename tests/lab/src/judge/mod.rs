//! Runs checks, each in a process of its own, and believes none of them without a receipt.
//!
//! A check runs in one process with the candidate's code, which may end that process, print what
//! looks like success, fork, loop or eat the memory. So the judge hands the child a *ticket* with a
//! random token on its standard input, and the child's very last act is to write that token, with
//! what the check said, into a file that nobody else knows. An exit code alone is nothing.
//!
//! - [`run_check`] is the judge's side: start, watch, end, clean up, report.
//! - `child` is the other side, inside the test binary.

mod child;
mod environment;
mod exit;
mod output;
mod receipt;
mod report;
mod run;
mod strays;
mod ticket;

pub use crate::brokers::Endpoints;
pub use report::{Report, Verdict};
pub use run::{Job, run_check};
pub use ticket::Ticket;

pub(crate) use child::run_as_child;
pub(crate) use run::note_of_declared;

/// The hidden argument that makes a test binary run one check.
pub(crate) const RUN_CHECK: &str = "--run-check";

/// The variable by which the judge finds processes of a check that have left its process group.
const MARK_VARIABLE: &str = "WORKBOOK_CHECK_MARK";
