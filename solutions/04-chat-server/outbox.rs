//! What waits for one client, and the writer that sends it.

// solution only
use std::future::poll_fn;
// end solution only
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures::SinkExt as _;
use futures::stream::SplitSink;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

// solution only
use crate::heartbeat::pings;
// end solution only
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
    // stub stage 2: a bounded channel, and what both ends share
    let (sender, receiver) = mpsc::channel(limit.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
    let shared = Arc::new(Shared::default());
    let outbox = Outbox {
        frames: sender,
        shared: Arc::clone(&shared),
    };
    let queue = Queue {
        frames: receiver,
        shared,
    };
    (outbox, queue)
    // end stub
}

impl Outbox {
    /// Puts a frame into the queue. It never waits, so whoever calls it is never held up by this
    /// client.
    ///
    /// **Stage 6:** if `limit` frames wait already, the client does not keep up: the frame is dropped,
    /// and the outbox is [closed](Self::close) with [`Goodbye::TOO_SLOW`]. A frame for a closed
    /// outbox is dropped.
    pub fn push(&self, frame: Utf8Bytes) {
        // stub stage 2: try_send; what a full queue means is stage 6
        if let Err(mpsc::error::TrySendError::Full(_)) = self.frames.try_send(frame) {
            self.close(Some(Goodbye::TOO_SLOW));
        }
        // end stub
    }

    /// Has the writer end the connection: with this goodbye, or without a word if nobody is left to
    /// hear it. The first goodbye counts.
    pub fn close(&self, goodbye: Option<Goodbye>) {
        // stub stage 6: keep the goodbye, unless there is one, and cancel `closed`
        let _ = self.shared.goodbye.set(goodbye);
        self.shared.closed.cancel();
        // end stub
    }

    /// Waits until the outbox is closed, by whomever, or its [`Queue`] is gone.
    pub async fn closed(&self) {
        // stub stage 6: wait for `closed`
        self.shared.closed.cancelled().await;
        // end stub
    }

    /// Waits until more than half of the queue is free, so that whoever has many frames to send leaves
    /// room for what comes in between. Returns `false` once the outbox is closed. `true` keeps no place:
    /// others may push before you do.
    pub async fn has_room(&self) -> bool {
        // stub stage 7: look at the free capacity again whenever frames were sent
        let shared = &self.shared;
        loop {
            // Listen first, then look: what is sent in between is not missed.
            let mut sent = std::pin::pin!(shared.sent.notified());
            sent.as_mut().enable();
            if shared.closed.is_cancelled() {
                return false;
            }
            if 2 * self.frames.capacity() > self.frames.max_capacity() {
                return true;
            }
            tokio::select! {
                () = sent => {}
                () = shared.closed.cancelled() => return false,
            }
        }
        // end stub
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
    // stub stage 6: wait for the end, a ping that is due, or a frame; at the end say goodbye
    let closed = queue.shared.closed.clone();
    // However this ends: nobody has to wait for room in here any more.
    let _closed = closed.clone().drop_guard();
    let mut pings = pings(heartbeat);
    loop {
        // A place first, and then the frame that goes there: none is in between when this ends.
        let place = tokio::select! {
            biased;
            () = closed.cancelled() => break,
            place = poll_fn(|cx| sink.poll_ready_unpin(cx)) => place,
        };
        if place.is_err() {
            return;
        }
        let message = tokio::select! {
            biased;
            () = closed.cancelled() => break,
            // Before the frames: in a busy room there is always one.
            _ = pings.tick() => Message::Ping(Default::default()),
            Some(frame) = queue.frames.recv() => Message::Text(frame),
        };
        if sink.start_send_unpin(message).is_err() {
            return;
        }
        // The socket has it as a whole by now. What stops here is only waiting.
        tokio::select! {
            biased;
            () = closed.cancelled() => break,
            sent = queue.send_what_waits(&mut sink) => if sent.is_err() {
                return;
            },
        }
        queue.shared.sent.notify_waiters();
    }
    if let Some(goodbye) = queue.shared.goodbye.get().copied().flatten() {
        let _ = tokio::time::timeout(GRACE, queue.say(goodbye, &mut sink)).await;
    }
    // end stub
}

// solution only
/// Frames that go out in one write, if so many wait.
const BATCH: usize = 32;

impl Queue {
    /// Adds what waits anyway to what the socket has, and flushes: one write to the system for many
    /// frames. If it is dropped, no frame is lost: it takes one only when there is a place for it.
    async fn send_what_waits(
        &mut self,
        sink: &mut SplitSink<WebSocket, Message>,
    ) -> Result<(), axum::Error> {
        for _ in 1..BATCH {
            poll_fn(|cx| sink.poll_ready_unpin(cx)).await?;
            let Ok(frame) = self.frames.try_recv() else {
                break;
            };
            sink.start_send_unpin(Message::Text(frame))?;
        }
        sink.flush().await
    }

    async fn say(
        &mut self,
        goodbye: Goodbye,
        sink: &mut SplitSink<WebSocket, Message>,
    ) -> Result<(), axum::Error> {
        if goodbye != Goodbye::TOO_SLOW {
            while let Ok(frame) = self.frames.try_recv() {
                sink.feed(Message::Text(frame)).await?;
            }
        }
        sink.send(goodbye.into()).await
    }
}
// end solution only
