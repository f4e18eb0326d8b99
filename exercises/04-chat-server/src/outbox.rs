// Stub 27d1e746b7e64498: this file is yours to write. `cargo xtask reset chat-server` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! What waits for one client, and the writer that sends it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures::SinkExt as _;
use futures::stream::SplitSink;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::socket::Goodbye;

/// How long a client that is closed may take for what is still sent to it, the Close frame included;
/// and one that has closed, for the answer. Nobody waits for the answer to a Close of the server: the
/// connection is dropped, and `transport` reads for a second what the client has under way.
pub const GRACE: Duration = Duration::from_secs(5);

/// The end into which everybody puts frames for one client. Clones are the same outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    frames: mpsc::Sender<Utf8Bytes>,
    shared: Arc<Shared>,
}

/// The end out of which the client's own writer takes them.
#[derive(Debug)]
pub struct Queue {
    pub frames: mpsc::Receiver<Utf8Bytes>,
    shared: Arc<Shared>,
}

/// What both ends know.
#[derive(Debug, Default)]
struct Shared {
    /// Cancelled when the client is to be closed, or when nobody writes to it any more.
    closed: CancellationToken,
    /// With what it is to be closed; `None` inside if there is nobody left to tell.
    goodbye: OnceLock<Option<Goodbye>>,
    /// Told whenever frames were sent.
    sent: Notify,
}

/// An outbox in which at most `limit` frames wait (0 is treated as 1), and its other end.
pub fn outbox(limit: usize) -> (Outbox, Queue) {
    todo!("stage 2: a bounded channel, and what both ends share")
}

impl Outbox {
    /// Puts a frame into the queue. It never waits, so whoever calls it is never held up by this
    /// client.
    ///
    /// **Stage 6:** if `limit` frames wait already, the client does not keep up: the frame is dropped,
    /// and the outbox is [closed](Self::close) with [`Goodbye::TOO_SLOW`]. A frame for a closed
    /// outbox is dropped.
    pub fn push(&self, frame: Utf8Bytes) {
        todo!("stage 2: try_send; what a full queue means is stage 6")
    }

    /// Has the writer end the connection: with this goodbye, or without a word if nobody is left to
    /// hear it. The first goodbye counts.
    pub fn close(&self, goodbye: Option<Goodbye>) {
        todo!("stage 6: keep the goodbye, unless there is one, and cancel `closed`")
    }

    /// Waits until the outbox is closed, by whomever, or its [`Queue`] is gone.
    pub async fn closed(&self) {
        todo!("stage 6: wait for `closed`")
    }

    /// Waits until more than half of the queue is free, so that whoever has many frames to send leaves
    /// room for what comes in between. Returns `false` once the outbox is closed. `true` keeps no place:
    /// others may push before you do.
    pub async fn has_room(&self) -> bool {
        todo!("stage 7: look at the free capacity again whenever frames were sent")
    }
}

/// Sends what is put into the outbox, in order, until it is closed; and pings the client every
/// `heartbeat` (stage 5), however much else there is to send.
///
/// When the outbox is closed with a goodbye, the frame that is being written is finished, and then
/// the Close frame follows. What still waited in the queue is sent in between; but not to a client
/// that is [too slow](Goodbye::TOO_SLOW), for which it is dropped. All that may take [`GRACE`]; then
/// this returns, and the connection is dropped. A frame that was taken out of the queue is either
/// given to the socket or sent with the rest: also if the outbox is closed between the two.
///
/// It also returns when the connection fails, and then closes the outbox.
pub async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: Queue, heartbeat: Duration) {
    todo!("stage 6: wait for the end, a ping that is due, or a frame; at the end say goodbye")
}
