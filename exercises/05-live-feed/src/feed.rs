//! What a node is made of, for those who answer requests.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Serialize;

use crate::hub::Hub;
use crate::options::Options;
use crate::store::Store;

/// One node of the feed.
pub(crate) struct Feed {
    /// What it was told.
    pub options: Options,
    /// Where events go out to the clients of this node.
    pub hub: Arc<Hub>,
    /// Where events are kept for all nodes. Without one they are in the hub alone.
    pub store: Option<Arc<Store>>,
    /// How many events were accepted from those who post them to this node.
    pub published: AtomicU64,
}

impl Feed {
    /// A node around a hub, with a store or without.
    pub fn new(options: Options, hub: Arc<Hub>, store: Option<Arc<Store>>) -> Self {
        Feed {
            options,
            hub,
            store,
            published: AtomicU64::new(0),
        }
    }
}

/// What a hub has to say about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HubStats {
    /// Streams that are open now.
    pub clients: usize,
    /// What is kept for clients that come back.
    pub history: HistoryStats,
    /// Clients that were disconnected because they were too slow.
    pub dropped_clients: u64,
}

/// The events that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HistoryStats {
    /// How many.
    pub events: usize,
    /// The id of the first of them.
    pub oldest: Option<String>,
    /// The id of the last of them.
    pub newest: Option<String>,
}
