//! What nodes and services say at their end.

/// What a node did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// How often it was elected.
    pub terms: u64,
    /// How many messages it has published and had confirmed.
    pub published: u64,
    /// How many replies it has dealt with.
    pub replies: u64,
}

/// What a service did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceReport {
    /// Runs that had their effect here.
    pub applied: u64,
    /// Deliveries of runs that had had it before.
    pub repeated: u64,
    /// Deliveries that were refused: their token was too old.
    pub stale: u64,
    /// Attempts that failed.
    pub failed: u64,
}
