//! One client's stream of frames: what it missed, then what comes.

use bytes::Bytes;

// solution only
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::Id;
use crate::hub::{Hub, State};

/// How many events a client that catches up takes at a time. So one that missed ten thousand costs
/// no more memory than one that missed a hundred.
const PAGE: usize = 64;
// end solution only

/// What one client is going to be sent. It belongs to the body of one response, and is dropped with
/// it: when the client has left, or was cut off.
///
/// **6.** When it is dropped, the client is not counted any more, at once and not only when the next
/// event comes.
pub(crate) struct Subscription {
    // solution only
    hub: Arc<Hub>,
    client: u64,
    topic: Option<String>,
    /// The id behind which the next page begins.
    position: Id,
    /// What was taken from the history and not sent yet.
    page: VecDeque<Bytes>,
    /// Where the rest comes from, once it has caught up.
    live: Option<mpsc::Receiver<Bytes>>,
    /// Its place in the history is not there any more.
    lost: bool,
    // end solution only
}

impl Subscription {
    // solution only
    /// A stream that begins with the frames of `first` and goes on behind `position`.
    pub fn new(
        hub: Arc<Hub>,
        client: u64,
        topic: Option<String>,
        position: Id,
        first: VecDeque<Bytes>,
    ) -> Self {
        Subscription {
            hub,
            client,
            topic,
            position,
            page: first,
            live: None,
            lost: false,
        }
    }
    // end solution only

    /// The next frame. Waits until there is one. None when the stream is over: its topic is finished,
    /// the node is stopping, or the client caught up so slowly that it would have to skip events
    /// ([`History::after`](crate::history::History::after) says so, from stage 4 on).
    ///
    /// The call may be dropped while it waits, and loses nothing then.
    pub async fn next(&mut self) -> Option<Bytes> {
        // stub stage 2: the next frame of this client's queue
        loop {
            if let Some(frame) = self.page.pop_front() {
                return Some(frame);
            }
            if self.lost {
                return None;
            }
            if let Some(live) = &mut self.live {
                return live.recv().await;
            }
            let hub = Arc::clone(&self.hub);
            self.turn_page(&mut hub.state(), hub.queue());
        }
        // end stub
    }

    // solution only
    /// Takes the next page of the history. With the last one the client is live from here on, in the
    /// same step: nothing can be published between the two.
    pub fn turn_page(&mut self, state: &mut State, queue: usize) {
        let topic = self.topic.as_deref();
        let Some(page) = state.history.after(self.position, topic, PAGE) else {
            self.lost = true;
            return;
        };
        self.position = page.position;
        self.page.extend(page.frames);
        if page.last {
            self.live = Some(state.go_live(self.client, queue));
        } else {
            state.took_page(self.client);
        }
    }
    // end solution only
}

// solution only
impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.client);
    }
}
// end solution only
