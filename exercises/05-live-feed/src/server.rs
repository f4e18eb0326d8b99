// Stub a3b33d1591582743: this file is yours to write. `cargo xtask reset live-feed` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! A node's life: it starts, serves, and stops in time.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::connections::Connections;
use crate::error::Error;
use crate::feed::Feed;
use crate::http::router;
use crate::hub::Hub;
use crate::options::Options;
use crate::store::Store;

/// What a node did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events that it accepted from those who post them to it.
    pub published: u64,
    /// Clients that it disconnected because they were too slow.
    pub dropped_clients: u64,
    /// Connections that were still open at the stop deadline and were cut off.
    pub cut_off: u64,
}

/// Runs one node of the feed on `listener`, until `stop`.
///
/// The function grows with the stages. What it promises, stage by stage:
///
/// **1, frame.** It answers what the README says ([`router`](crate::http::router) does that) on as many
/// connections as come. When `stop` is cancelled it returns, and whatever is connected is cut off.
///
/// **7, durable.** With `options.redis` it has a [`Store`], and answers nobody before that has loaded
/// what the stream holds. While it runs, [`Store::follow`](crate::store::Store::follow) hands on what
/// all nodes publish; that ends when `serve` does, however it ends. A `stop` that comes before the
/// store is open is obeyed when it is.
///
/// **9, stop.** When `stop` is cancelled it accepts no more connections and [closes the
/// hub](crate::hub::Hub::close): every stream brings what was published before, and then its proper
/// end. With Redis that is what the hub has by then: nobody has to ask Redis again, which may be
/// away, and what was not read yet the clients get from the next node, behind their last id. Requests
/// under way are answered. It returns as soon as all connections have ended, and
/// `options.stop_deadline` after the stop in any case: what is still connected then, because a client
/// does not read for example, is cut off and counted. When it returns, nothing of it is left running.
///
/// # Errors
/// Only at the start: [`Error::Connect`] if Redis cannot be reached or does not let us in,
/// [`Error::Redis`] if a key holds something else than a stream, for example.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    stop: CancellationToken,
) -> Result<Summary, Error> {
    todo!("stage 1: a hub, a feed around it, its router; accept connections until stop")
}
