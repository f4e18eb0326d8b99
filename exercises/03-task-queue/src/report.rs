//! What became of the tasks of a worker.

/// What became of the deliveries that a worker took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Worked {
    /// Tasks that succeeded.
    pub succeeded: u64,
    /// Tasks that were given up.
    pub failed: u64,
    /// Attempts that failed and are to be tried again.
    pub retried: u64,
    /// Deliveries that went back to their queue at the stop, begun or not.
    pub returned: u64,
}
