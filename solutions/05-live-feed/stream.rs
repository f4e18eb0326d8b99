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

// solution only
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
// end solution only

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
    // stub stage 1: the headers, and a body that is retry() and does not end
    let after = last_event_id(&ask);
    let id = after.as_deref().and_then(Id::parse);
    if let (Some(store), Some(id)) = (&feed.store, id)
        && id > feed.hub.newest()
    {
        store.catch_up().await?;
    }
    let subscription = feed.hub.subscribe(Wish {
        topic: ask.topic,
        after,
        connection: ask.connection,
    })?;
    let first = stream::iter([retry(feed.options.retry)]);
    let body = first.chain(frames(subscription, feed.options.heartbeat));
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        // Neither a cache nor a compressor on the way may hold anything back.
        (header::CACHE_CONTROL.as_str(), "no-store, no-transform"),
        // The same for nginx, which collects 4 KiB otherwise.
        ("x-accel-buffering", "no"),
    ];
    let body = Body::from_stream(body.map(Ok::<_, Infallible>));
    Ok((headers, body).into_response())
    // end stub
}

/// The id that a client saw last: the header `Last-Event-ID`, which a browser sends when it connects
/// again by itself, or else `?last_event_id=`, for those who cannot set a header. The header wins,
/// because the address stays as it was when the client connected first. Empty is the same as not
/// there. A header that is not text is an id that nobody knows, and not no id.
pub(crate) fn last_event_id(ask: &Ask) -> Option<String> {
    // stub stage 3: the header if it is there and not empty, else the parameter if it is not empty
    let header = ask
        .headers
        .get("last-event-id")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    [header, ask.last_event_id.clone()]
        .into_iter()
        .flatten()
        .find(|id| !id.is_empty())
    // end stub
}

// solution only
/// The frames of a subscription, and a comment whenever there was none for `heartbeat`.
fn frames(subscription: Subscription, heartbeat: Duration) -> impl Stream<Item = Bytes> {
    let heartbeat = heartbeat.max(Duration::from_millis(1));
    stream::unfold(subscription, move |mut subscription| async move {
        let frame = match timeout(heartbeat, subscription.next()).await {
            Ok(frame) => frame?,
            Err(_) => comment(),
        };
        Some((frame, subscription))
    })
}
// end solution only
