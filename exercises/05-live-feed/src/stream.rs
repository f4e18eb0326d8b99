// Stub 991991c44ff5c3a7: this file is yours to write. `cargo xtask reset live-feed` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! The answer to `GET /events`: its headers, and a body that goes on as long as the client listens.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};

use crate::connections::Connection;
use crate::error::Refused;
use crate::event::Id;
use crate::feed::Feed;
use crate::frame::{comment, retry};
use crate::hub::Wish;
use crate::subscription::Subscription;

/// A request for a stream. Its token and its topic are checked.
pub(crate) struct Ask {
    /// `?topic=`.
    pub topic: Option<String>,
    /// `?last_event_id=`.
    pub last_event_id: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The connection that the request came on.
    pub connection: Connection,
}

/// Opens a stream: status 200, `content-type: text/event-stream`, and a body that begins at once
/// with [`retry`] of `options.retry`.
///
/// **1, frame.** After that it may stay silent, but it does not end.
/// **2, fan out.** Then everything that a [subscription](crate::hub::Hub::subscribe) brings, and its
/// end is the end of the body. What is published after the client has the headers, it gets.
/// **3, resume.** The subscription begins behind [`last_event_id`].
/// **5, heartbeat.** Whenever nothing was sent for `options.heartbeat`, neither an event nor anything
/// else, a [`comment`] is. The headers tell everybody on the way to hand on each byte at once and to
/// keep none: `cache-control: no-store, no-transform` and `x-accel-buffering: no`.
/// **7, durable.** An id above the newest that this node has seen may be one that another node has
/// handed out a moment ago: with a store it [catches up](crate::store::Store::catch_up) before it
/// subscribes, and for no other id does it ask Redis anything.
///
/// # Errors
/// Those of [`Hub::subscribe`](crate::hub::Hub::subscribe), and of `catch_up`.
pub(crate) async fn open(feed: &Feed, ask: Ask) -> Result<Response, Refused> {
    todo!("stage 1: the headers, and a body that is retry() and does not end")
}

/// The id that a client saw last: the header `Last-Event-ID`, which a browser sends when it connects
/// again by itself, or else `?last_event_id=`, for those who cannot set a header. The header wins,
/// because the address stays as it was when the client connected first. Empty is the same as not
/// there. A header that is not text is an id that nobody knows, and not no id.
pub(crate) fn last_event_id(ask: &Ask) -> Option<String> {
    todo!("stage 3: the header if it is there and not empty, else the parameter if it is not empty")
}
