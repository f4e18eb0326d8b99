//! What the judge tells a check's process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::brokers::Endpoints;

/// One line of JSON on the child's standard input. It never goes through arguments or
/// environment, where others could read it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ticket {
    /// What the receipt must repeat.
    pub token: String,
    /// Where the receipt is expected.
    pub receipt: PathBuf,
    /// The check to run.
    pub check: String,
    /// The candidate's service, if it has one.
    pub service: Option<PathBuf>,
    /// The run's brokers.
    pub brokers: Endpoints,
    /// The seed of all that is random.
    pub seed: u64,
    /// The factor by which deadlines are stretched.
    pub patience: f64,
    /// The address space that the check and each of its services may use, in bytes; 0 for no limit.
    pub memory: u64,
    /// Part of every name that the check makes up.
    pub mark: String,
    /// A directory for what the check's own brokers write. The judge removes it.
    pub leftovers: PathBuf,
}
