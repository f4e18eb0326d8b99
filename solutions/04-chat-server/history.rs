//! What was said in a room, and how a client that comes back gets what it missed.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;

use crate::frames::{ErrorFrame, ServerFrame};
use crate::hub::{Client, Hub};

/// A message that is kept, ready to be sent again.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its number in the room.
    pub seq: u64,
    /// The encoded frame.
    pub frame: Utf8Bytes,
}

/// The last messages of one room.
#[derive(Debug)]
pub struct History {
    kept: VecDeque<Kept>,
    /// So many at most.
    limit: usize,
}

impl History {
    /// Nothing yet, and never more than `limit`.
    pub fn new(limit: usize) -> Self {
        // stub stage 7: empty
        History {
            kept: VecDeque::new(),
            limit,
        }
        // end stub
    }

    /// Keeps a message, which has the number after the one before, and forgets the oldest if there
    /// are more than `limit` now.
    pub fn keep(&mut self, message: Kept) {
        // stub stage 7: at the back; and off at the front
        self.kept.push_back(message);
        if self.kept.len() > self.limit {
            self.kept.pop_front();
        }
        // end stub
    }

    /// The oldest messages whose number is above `seq`, in order, `most` at most.
    pub fn after(&self, seq: u64, most: usize) -> Vec<Kept> {
        // stub stage 7: skip those up to `seq`
        let known = self.kept.partition_point(|message| message.seq <= seq);
        self.kept.iter().skip(known).take(most).cloned().collect()
        // end stub
    }

    // solution only
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
    // end solution only
}

/// One client's way from the last message it has seen to where the others are.
#[derive(Debug)]
pub struct Replay {
    pub client: Client,
    pub room: String,
    /// The number of this replay: a later one of the same client in the same room takes its place.
    pub id: u64,
    /// The last message the client has.
    pub seen: u64,
    /// Whether to say `gap` whatever comes first, because the numbers began anew.
    pub anew: bool,
}

/// Sends a client every message after `seen` that is kept, in order, and then makes it a member like
/// the others, which get each message when it is said: without a gap and without a duplicate in
/// between. Where messages are missing, because they are not kept any more, it says `gap` first.
///
/// It sends as fast as the client reads, frame by frame through the client's queue, without filling
/// that ([`has_room`]), and takes what is said meanwhile from the history too, also what the client
/// says itself: so it needs no memory of its own, however long that takes. It
/// ends early when the client left the room, when its connection ended, or when another replay of the
/// same client in the same room began.
///
/// [`has_room`]: crate::outbox::Outbox::has_room
pub async fn replay(hub: Arc<Hub>, mut replay: Replay) {
    // stub stage 7: page by page, until under the lock of the room there is no more
    while let Some(last) = hub.behind(&replay) {
        let Some(page) = hub.kept(&replay, last).await else {
            return;
        };
        let next = page.first().map_or(last + 1, |message| message.seq);
        if next > replay.seen + 1 || replay.anew {
            let gap = ErrorFrame::gap(&replay.room, next);
            let gap = Kept {
                seq: next - 1,
                frame: ServerFrame::Error(&gap).encode(),
            };
            if !hub.hand_over(&mut replay, gap).await {
                return;
            }
            replay.anew = false;
        }
        for message in page {
            if !hub.hand_over(&mut replay, message).await {
                return;
            }
        }
    }
    // end stub
}
