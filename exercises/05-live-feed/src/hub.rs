// Stub 469535d6ec9b48a8: this file is yours to write. `cargo xtask reset live-feed` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! The hub: every event comes in here once, and goes out to every client that wants it.

use std::sync::Arc;

use crate::connections::Connection;
use crate::error::{FrameError, Refused};
use crate::event::{Event, Id, NewEvent};
use crate::feed::HubStats;
use crate::history::{History, Kept};
use crate::options::Options;
use crate::subscription::Subscription;

/// Hands events on from those who publish to those who listen.
///
/// No call waits for a client, or for anything else: publishing takes as long with a client that does
/// not read as without.
pub(crate) struct Hub {}

/// What a client wants.
pub(crate) struct Wish {
    /// Only events of this topic.
    pub topic: Option<String>,
    /// Only what comes behind the event with this id, as the client sent it: any text.
    pub after: Option<String>,
    /// Where to close the connection of a client that is too slow.
    pub connection: Connection,
}

impl Hub {
    /// A hub without clients and without events.
    ///
    /// A queue of 0 is treated as 1, and one that is longer than a channel can be as the longest there
    /// is (`tokio::sync::Semaphore::MAX_PERMITS`); `mpsc::channel` panics at both.
    pub fn new(options: &Options) -> Self {
        todo!("stage 1: whatever you keep; the fields of the hub are yours")
    }

    /// Publishes an event and returns its id, which is greater than that of every event before
    /// ([`Id::next`]). The first is that of the clock, the next one after [`Id::ZERO`]: so it is above
    /// those from before a restart as well, unless the clock was set back.
    ///
    /// **1.** It only gives the event its id.
    /// **2.** And [delivers](Self::deliver) it. Two that publish at the same moment are one after the
    /// other for every client: ids rise in every stream.
    ///
    /// # Errors
    /// [`Refused::TopicFinished`] (stage 8), [`Refused::Stopping`] after [`close`](Self::close)
    /// (stage 9).
    pub fn publish(&self, event: NewEvent) -> Result<Id, Refused> {
        todo!("stage 1: the next id; from stage 2 on deliver the event, in the same step")
    }

    /// Hands an event that has its id on to every client. What comes from Redis comes here directly.
    ///
    /// **2, fan out.** Every client that is subscribed gets it, in the order in which events are
    /// delivered, its bytes made once, whatever the number of clients.
    /// **3, resume.** It goes into the history in the same step.
    /// **6, slow clients.** A client for which `options.queue` events wait already is dropped: its
    /// connection is closed at once, and counts no more. Nobody else notices. With its last id it may
    /// come back. For a client that still catches up, those events wait that were published since it
    /// last took something from the history; how many it takes at a time is yours to choose.
    /// **8, topics.** Only clients of the event's topic get it, and those of no topic.
    /// **9, stop.** After [`close`](Self::close) it still goes into the history, and to no stream.
    ///
    /// # Errors
    /// [`FrameError`] if it cannot be framed; then nobody got it.
    pub fn deliver(&self, id: Id, event: &Event) -> Result<(), FrameError> {
        todo!("stage 2: frame it once, give each client its share of the bytes")
    }

    /// Opens a stream. What it will bring is decided here, in one step, before the call returns:
    ///
    /// **2, fan out.** Every event that is delivered from now on, and none from before.
    /// **3, resume.** If the client names the id of an event (`wish.after`): every event behind that
    /// one, in order, and then what is delivered from now on. Nothing is missing and nothing is there
    /// twice, at whatever moment others publish.
    /// **4, expire.** An id that is none, or not of an event that is kept
    /// ([`History::knows`]): first a [`reset`](crate::frame::reset) that names the oldest event there
    /// is (of the whole history, not of the topic), then everything that is kept, then the rest.
    /// **8, topics and limits.** With a topic only that topic's events, but every kept id will do to
    /// resume from. Once a topic is [finished](Self::finish), what it still has for the client, and
    /// then the end. What it has are events: for an id that is not known there is a reset in front of
    /// them, but where no event of the topic is kept, nothing is left. A reset alone would bring no id,
    /// and the client would come back with the old one for ever.
    ///
    /// # Errors
    /// [`Refused::TooManyClients`] if `options.max_clients` streams are open, counted exactly also
    /// when many connect at once (stage 8); [`Refused::NothingLeft`] if the topic is finished and has
    /// nothing more for this client (stage 8), which comes before the count; [`Refused::Stopping`]
    /// after [`close`](Self::close) (stage 9).
    pub fn subscribe(self: &Arc<Self>, wish: Wish) -> Result<Subscription, Refused> {
        todo!("stage 2: a queue for this client, known to deliver() from here on")
    }

    /// What there is now: the streams that are open, the events that are kept (from stage 3 on), the
    /// clients that were dropped (from stage 6 on).
    ///
    /// **6.** A stream is not open any more once its [`Subscription`] is dropped, which happens as
    /// soon as the client is gone.
    pub fn stats(&self) -> HubStats {
        todo!("stage 2: count the clients")
    }

    /// The id of the last event that was delivered, or given to [`replace`](Self::replace);
    /// [`Id::ZERO`] before the first.
    pub fn newest(&self) -> Id {
        todo!("stage 7: the id that deliver() saw last")
    }

    /// Begins anew with these events, oldest first, and these finished topics, in one step: what a
    /// node does when it starts on a stream of Redis, and when it has lost its place in it. Streams
    /// that are open are closed at once; their clients come back and resume, or are told to reset.
    /// They were not too slow, so they do not count as dropped. A hub that is closed stays closed.
    pub fn replace(&self, events: Vec<Kept>, finished: Vec<String>) {
        todo!("stage 7: close every connection, forget everything, keep what is given")
    }

    /// Finishes a topic: nothing can be published to it any more, and the streams of this topic end
    /// after what was published before. Streams without a topic go on. Finished twice is finished.
    pub fn finish(&self, topic: &str) {
        todo!(
            "stage 8: remember it, and let the streams of the topic end behind what waits for them"
        )
    }

    /// Ends all streams, each after what was published before. From here on nothing is published and
    /// no stream opened.
    pub fn close(&self) {
        todo!("stage 9: remember it, and let all streams end behind what waits for them")
    }

    /// Lets every event go that is older than `id` ([`History::forget_before`]).
    pub fn forget_before(&self, id: Id) {
        todo!("stage 7: have the history do it")
    }
}
