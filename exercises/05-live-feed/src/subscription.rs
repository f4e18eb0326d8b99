// Stub 141df4c3c6c04072: this file is yours to write. `cargo xtask reset live-feed` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! One client's stream of frames: what it missed, then what comes.

use bytes::Bytes;

/// What one client is going to be sent. It belongs to the body of one response, and is dropped with
/// it: when the client has left, or was cut off.
///
/// **6.** When it is dropped, the client is not counted any more, at once and not only when the next
/// event comes.
pub(crate) struct Subscription {}

impl Subscription {
    /// The next frame. Waits until there is one. None when the stream is over: its topic is finished,
    /// the node is stopping, or the client caught up so slowly that it would have to skip events
    /// ([`History::after`](crate::history::History::after) says so, from stage 4 on).
    ///
    /// The call may be dropped while it waits, and loses nothing then.
    pub async fn next(&mut self) -> Option<Bytes> {
        todo!("stage 2: the next frame of this client's queue")
    }
}
