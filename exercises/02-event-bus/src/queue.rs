// Stub 8d269a171e068dfd: this file is yours to write. `cargo xtask reset event-bus` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! The queue of one subscription: where its events wait for its handler.

use std::sync::Arc;

use crate::error::Error;
use crate::event::Event;
use crate::options::Subscribe;
use crate::report::Stats;

/// Events on their way from those who publish to one handler. Everybody who publishes puts events in,
/// and the one worker of the subscription takes them out.
///
/// This type is a proposal, and so are its methods: no check sees them.
pub(crate) struct Queue {}

/// What became of an event that a queue was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It waits for the handler, perhaps in the place of an older one.
    Taken,
    /// There is no room, and whoever publishes has to [wait](Queue::wait) for it.
    Full,
    /// There was no room, and that has ended the subscription.
    Disconnected,
    /// The subscription has ended before.
    Ended,
}

impl Queue {
    /// An empty queue.
    pub fn new(options: Subscribe) -> Queue {
        todo!("stage 1: the fields of the queue are yours")
    }

    /// Offers an event. Never waits.
    ///
    /// **1.** The event goes to the end of the queue, and the worker wakes up.
    /// **4, push back.** Never more than `capacity` events wait. For one more it is as
    /// `options.overflow` says: `Block` leaves it to the caller; `DropOldest` drops the one that has
    /// waited longest; `Disconnect` ends the subscription, and frees what waits. What is dropped is
    /// counted, each event once.
    /// **5.** After [`end`](Self::end) nothing is taken.
    pub fn offer(&self, event: &Arc<Event>) -> Offer {
        todo!("stage 1: put it at the end; from stage 4 on only if there is room")
    }

    /// Waits for room, and puts the event in. Those who wait get room in the order in which they
    /// came. May be dropped while it waits: then the event is not put in.
    ///
    /// If the subscription ends meanwhile, there is nothing to wait for, and nothing to put in.
    ///
    /// # Errors
    /// [`Error::Closed`] if the bus is shut down meanwhile (stage 6).
    pub async fn wait(&self, event: &Arc<Event>) -> Result<(), Error> {
        todo!("stage 4: wait for a place, or for the end")
    }

    /// Counts an event that there was no room for, and that is not waited with.
    pub fn missed(&self) {
        todo!("stage 4: it counts as dropped")
    }

    /// Takes the event that has waited longest, for the worker, and waits until there is one. `None`
    /// is the end: nothing will ever come.
    pub async fn next(&self) -> Option<Arc<Event>> {
        todo!("stage 1: the first event, or wait until there is one; None after the end")
    }

    /// Says how the call for the event ended that [`next`](Self::next) gave last.
    pub fn settle(&self, handled: bool) {
        todo!("stage 2: count it")
    }

    /// Ends the subscription: what waits is freed at once, those who wait for room go on, and the
    /// worker is told that nothing comes any more. Ended twice is ended.
    pub fn end(&self) {
        todo!("stage 1: forget what waits, and wake everybody")
    }

    /// Lets nothing more in, but leaves what waits to the worker.
    pub fn close(&self) {
        todo!("stage 6: nothing more goes in; those who wait for room are told")
    }

    /// Ends the subscription at the deadline, and says what was left, in one step: how many events
    /// were waiting, and how many calls (0 or 1) were under way. What it tells of is told once.
    pub fn cut_off(&self) -> (u64, u64) {
        todo!("stage 6: count what waits and what is under way, and end")
    }

    /// What there is to tell.
    pub fn stats(&self) -> Stats {
        todo!("stage 2: what was counted, and how many wait")
    }
}
