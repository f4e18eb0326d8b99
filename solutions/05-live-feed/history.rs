//! The latest events, for clients that come back.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event::Id;
use crate::feed::HistoryStats;

/// The latest events in order, each with the bytes that clients get, so that these are made once.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// How many events are kept.
    limit: usize,
    /// Oldest first.
    kept: VecDeque<Kept>,
    // solution only
    /// The newest of those that are not kept any more; [`Id::ZERO`] if there are none.
    gone: Id,
    // end solution only
}

/// One event that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub id: Id,
    pub topic: String,
    pub frame: Bytes,
}

/// Some of the events behind an id.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// What a client is sent, in order.
    pub frames: VecDeque<Bytes>,
    /// The id to go on behind: that of the last event that was looked at, also when it is of another
    /// topic. Otherwise a client of a quiet topic would lose its place because of the others' events.
    pub position: Id,
    /// Whether nothing is left behind it.
    pub last: bool,
}

impl History {
    /// No events yet, and never more than `limit`.
    pub fn new(limit: usize) -> Self {
        History {
            limit,
            ..Default::default()
        }
    }

    /// Adds an event. Its id is greater than all that were added before.
    ///
    /// From stage 4 on the oldest goes when there are more than the limit; with a limit of 0 that is
    /// the event itself.
    pub fn push(&mut self, event: Kept) {
        // stub stage 3: add it at the end; from stage 4 on, let the oldest go
        self.kept.push_back(event);
        while self.kept.len() > self.limit {
            self.drop_oldest();
        }
        // end stub
    }

    /// The first events behind `position`, oldest first: at most `max` of them, and with a topic only
    /// those of that topic. `position` may be any id, also one of another topic, or [`Id::ZERO`],
    /// which is before all of them.
    ///
    /// **4, expire.** None if events behind `position` were kept once and are not any more: going on
    /// would skip them. That holds for [`Id::ZERO`] too, from the first event on that was let go. Who
    /// wants everything that is kept begins behind the newest one that was let go.
    pub fn after(&self, position: Id, topic: Option<&str>, max: usize) -> Option<Page> {
        // stub stage 3: skip to what is greater than position; take what is of the topic, up to max
        if self.gone > position {
            return None;
        }
        let mut page = Page {
            position,
            last: true,
            ..Page::default()
        };
        let start = self.kept.partition_point(|kept| kept.id <= position);
        for kept in self.kept.range(start..) {
            if topic.is_none_or(|topic| topic == kept.topic) {
                if page.frames.len() == max {
                    page.last = false;
                    break;
                }
                page.frames.push_back(kept.frame.clone());
            }
            page.position = kept.id;
        }
        Some(page)
        // end stub
    }

    /// Whether an event with exactly this id is kept, of whatever topic.
    pub fn knows(&self, id: Id) -> bool {
        // stub stage 4: look for it; the events are in order of their ids
        self.kept.binary_search_by_key(&id, |kept| kept.id).is_ok()
        // end stub
    }

    /// Lets every event go that is older than `id`: it is not in the stream of Redis any more.
    pub fn forget_before(&mut self, id: Id) {
        // stub stage 7: let the oldest go while it is before the id
        while self.kept.front().is_some_and(|kept| kept.id < id) {
            self.drop_oldest();
        }
        // end stub
    }

    // solution only
    /// How many events are kept.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The position from which everything that is kept comes next.
    pub fn start(&self) -> Id {
        self.gone
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.gone = oldest.id;
        }
    }
    // end solution only

    /// The first event that is kept.
    pub fn oldest(&self) -> Option<Id> {
        self.kept.front().map(|kept| kept.id)
    }

    /// How much is kept.
    pub fn stats(&self) -> HistoryStats {
        HistoryStats {
            events: self.kept.len(),
            oldest: self.oldest().map(|id| id.to_string()),
            newest: self.kept.back().map(|kept| kept.id.to_string()),
        }
    }
}
