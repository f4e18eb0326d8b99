//! The queue of one subscription: where its events wait for its handler.

use std::sync::Arc;

use crate::error::Error;
use crate::event::Event;
use crate::options::Subscribe;
use crate::report::Stats;

// solution only
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::options::Overflow;
// end solution only

/// Events on their way from those who publish to one handler. Everybody who publishes puts events in,
/// and the one worker of the subscription takes them out.
///
/// This type is a proposal, and so are its methods: no check sees them.
pub(crate) struct Queue {
    // solution only
    options: Subscribe,
    state: Mutex<State>,
    /// Wakes the worker.
    ready: Notify,
    /// With [`Overflow::Block`]: a permit for each event that there is room for. It is fair: those
    /// who wait get room in the order in which they came.
    room: Semaphore,
    // end solution only
}

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
        // stub stage 1: the fields of the queue are yours
        // The upper bound is what a semaphore can count to.
        let capacity = options.capacity.clamp(1, Semaphore::MAX_PERMITS);
        Queue {
            options: Subscribe {
                capacity,
                ..options
            },
            state: Mutex::default(),
            ready: Notify::new(),
            room: Semaphore::new(capacity),
        }
        // end stub
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
        // stub stage 1: put it at the end; from stage 4 on only if there is room
        let mut state = self.lock();
        if state.closed || state.ended {
            return Offer::Ended;
        }
        let full = match self.options.overflow {
            Overflow::Block => self
                .room
                .try_acquire()
                .map(|permit| permit.forget())
                .is_err(),
            _ => state.events.len() >= self.options.capacity,
        };
        match self.options.overflow {
            Overflow::Block if full => return Offer::Full,
            Overflow::DropOldest if full => {
                state.events.pop_front();
                state.stats.dropped += 1;
            }
            Overflow::Disconnect if full => {
                state.stats.dropped += state.events.len() as u64 + 1;
                state.stats.disconnected = true;
                self.end_as(state);
                return Offer::Disconnected;
            }
            _ => {}
        }
        state.events.push_back(Arc::clone(event));
        self.ready.notify_one();
        Offer::Taken
        // end stub
    }

    /// Waits for room, and puts the event in. Those who wait get room in the order in which they
    /// came. May be dropped while it waits: then the event is not put in.
    ///
    /// If the subscription ends meanwhile, there is nothing to wait for, and nothing to put in.
    ///
    /// # Errors
    /// [`Error::Closed`] if the bus is shut down meanwhile (stage 6).
    pub async fn wait(&self, event: &Arc<Event>) -> Result<(), Error> {
        // stub stage 4: wait for a place, or for the end
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        let mut state = self.lock();
        if state.closed {
            // Also if it has ended since: the event is nowhere.
            return Err(Error::Closed);
        }
        if !state.ended {
            state.events.push_back(Arc::clone(event));
            self.ready.notify_one();
        }
        Ok(())
        // end stub
    }

    /// Counts an event that there was no room for, and that is not waited with.
    pub fn missed(&self) {
        // stub stage 4: it counts as dropped
        self.lock().stats.dropped += 1;
        // end stub
    }

    /// Takes the event that has waited longest, for the worker, and waits until there is one. `None`
    /// is the end: nothing will ever come.
    pub async fn next(&self) -> Option<Arc<Event>> {
        // stub stage 1: the first event, or wait until there is one; None after the end
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.ready.notified().await;
        }
        // end stub
    }

    /// Says how the call for the event ended that [`next`](Self::next) gave last.
    pub fn settle(&self, handled: bool) {
        // stub stage 2: count it
        let mut state = self.lock();
        // A call that was cut off is told of in the report.
        if std::mem::take(&mut state.busy) {
            match handled {
                true => state.stats.handled += 1,
                false => state.stats.failed += 1,
            }
        }
        // end stub
    }

    /// Ends the subscription: what waits is freed at once, those who wait for room go on, and the
    /// worker is told that nothing comes any more. Ended twice is ended.
    pub fn end(&self) {
        // stub stage 1: forget what waits, and wake everybody
        self.end_as(self.lock());
        // end stub
    }

    /// Lets nothing more in, but leaves what waits to the worker.
    pub fn close(&self) {
        // stub stage 6: nothing more goes in; those who wait for room are told
        self.lock().closed = true;
        self.wake_all();
        // end stub
    }

    /// Ends the subscription at the deadline, and says what was left, in one step: how many events
    /// were waiting, and how many calls (0 or 1) were under way. What it tells of is told once.
    pub fn cut_off(&self) -> (u64, u64) {
        // stub stage 6: count what waits and what is under way, and end
        let mut state = self.lock();
        let waiting = state.events.len() as u64;
        let interrupted = std::mem::take(&mut state.busy);
        self.end_as(state);
        (waiting, u64::from(interrupted))
        // end stub
    }

    /// What there is to tell.
    pub fn stats(&self) -> Stats {
        // stub stage 2: what was counted, and how many wait
        let state = self.lock();
        Stats {
            waiting: state.events.len(),
            ..state.stats
        }
        // end stub
    }

    // solution only
    /// What the worker is to do now: an event, or the end (`Some(None)`), or to wait (`None`).
    fn take(&self) -> Option<Option<Arc<Event>>> {
        let mut state = self.lock();
        match state.events.pop_front() {
            Some(event) => {
                state.busy = true;
                if self.options.overflow == Overflow::Block {
                    self.room.add_permits(1);
                }
                Some(Some(event))
            }
            None if state.closed || state.ended => Some(None),
            None => None,
        }
    }

    /// Ends it in the step that the lock is held for.
    fn end_as(&self, mut state: MutexGuard<'_, State>) {
        state.ended = true;
        let freed = std::mem::take(&mut state.events);
        drop(state);
        drop(freed);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.room.close();
        self.ready.notify_one();
    }

    /// Nobody panics with the lock held, so what is in there is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    // end solution only
}

// solution only
#[derive(Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    /// The bus is shut down: nothing more goes in.
    closed: bool,
    /// Nothing more goes in or comes out, and `events` is empty.
    ended: bool,
    /// Whether a call is under way.
    busy: bool,
    stats: Stats,
}
// end solution only
