// Stub 5526af90269f0de3: this file is yours to write. `cargo xtask reset event-bus` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! The bus: every event comes in here, and goes out to every subscription whose pattern matches.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{BoxError, Error};
use crate::event::{Event, Named};
use crate::options::Subscribe;
use crate::report::{HandlerError, Published, Report, Stats};

/// Hands events on from those who publish to those who have subscribed, within one process.
///
/// Clones are the same bus. Once the last of them is gone the subscriptions end, each after what
/// waits for it. (A clone that a handler holds is one of them: such a bus ends by
/// [`shutdown`](Self::shutdown), or with the guards of its subscriptions.)
#[derive(Clone)]
pub struct Bus {}

impl Bus {
    /// A bus without subscriptions. It needs no runtime.
    pub fn new() -> Bus {
        todo!("stage 1: whatever you keep; the fields of the bus are yours")
    }

    /// Sets who is told of every event that a handler did not handle, in the place of whoever was
    /// told before. Without a hook it is written to the program's log.
    ///
    /// The hook is called with no lock held, so it may use the bus. If it panics, nobody else is
    /// harmed: what was to be told is lost, and everything goes on.
    pub fn on_error(&self, hook: impl Fn(&HandlerError) + Send + Sync + 'static) {
        todo!("stage 2: keep it where every subscription finds it")
    }

    /// Subscribes a handler to the events whose name matches. It gets every such event that is
    /// published from now on, until the guard that is returned is dropped. The handlers of different
    /// subscriptions run side by side, also those of one pattern.
    ///
    /// **1, publish and subscribe.** The pattern is a name, and matches the events of that name. The
    /// handler is called once for each of them.
    /// **2, isolate.** What a handler does is its own affair: when it returns an error, panics (in
    /// its future, or already in the call that makes it) or takes longer than `options.timeout`, the
    /// [hook](Self::on_error) is told, with the event, and the next event is handled as if nothing had
    /// been. A call that takes too long is dropped. A handler that blocks its thread holds up itself,
    /// as long as the runtime has another thread.
    /// **3, keep order.** The calls of one subscription follow each other: the next one begins when
    /// the one before has ended. They come in the order in which each publisher published.
    /// **4, push back.** At most `options.capacity` events wait for the handler, and
    /// `options.overflow` says what happens to one more. A subscription that ends by
    /// [`Overflow::Disconnect`](crate::Overflow) tells the hook once, with the event for which there
    /// was no room.
    /// **5, route.** The pattern may be any [`Pattern`](crate::Pattern).
    ///
    /// # Errors
    /// [`Error::BadPattern`] if the pattern is none (stage 5), [`Error::NoRuntime`] outside a runtime,
    /// [`Error::Closed`] after [`shutdown`](Self::shutdown) (stage 6).
    pub fn subscribe<F, Fut>(
        &self,
        pattern: &str,
        options: Subscribe,
        handler: F,
    ) -> Result<Subscription, Error>
    where
        F: Fn(Arc<Event>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        todo!(
            "stage 1: a queue and a task that takes its events to the handler, one after the other"
        )
    }

    /// Subscribes a handler to the events of a type: those with its name. Everything else is as with
    /// [`subscribe`](Self::subscribe).
    ///
    /// **2, isolate.** Of an event whose data is no `T` the hook is told
    /// ([`HandlerFailure::Unreadable`](crate::HandlerFailure)); the handler is not called for it.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe), and [`Error::BadName`] if the type's name is none.
    pub fn subscribe_to<T, F, Fut>(
        &self,
        options: Subscribe,
        handler: F,
    ) -> Result<Subscription, Error>
    where
        T: Named + Send + 'static,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        todo!("stage 1: read the event, then call the handler")
    }

    /// Publishes an event: puts it into the queue of every subscription whose pattern matches, and
    /// says how many those are. None is fine.
    ///
    /// **1, publish and subscribe.** It does not wait for any handler, and nothing that a handler
    /// does or returns changes what it returns. Inside a handler it is allowed like everything else.
    /// **4, push back.** It waits for room, in queues with [`Overflow::Block`](crate::Overflow) that
    /// have none, and for nothing else. Before it waits for any, the event is in all queues that
    /// have room; and it waits for all of them at once, so that one slow subscription does not delay
    /// another. When it is dropped while it waits, those that had no room miss the event.
    ///
    /// Inside a handler it never waits: the queue might be the handler's own. Queues without room
    /// miss the event then, and count it as dropped. (Inside means in the task of the handler. A
    /// task that the handler spawned waits like everybody.)
    ///
    /// # Errors
    /// [`Error::BadName`] if the event's name is none. [`Error::Full`] inside a handler if some
    /// missed the event (stage 4). [`Error::Closed`] after [`shutdown`](Self::shutdown), and if the
    /// bus is shut down while it waits for room; then those that had room have the event (stage 6).
    pub async fn publish(&self, event: Event) -> Result<Published, Error> {
        todo!(
            "stage 1: offer the event to each that matches; from stage 4 on wait for the full ones"
        )
    }

    /// Ends the bus: takes in nothing more, delivers what waits, and says what it could not deliver.
    ///
    /// From the call on, publishing and subscribing are errors. What waits is still handled, and a
    /// call that is under way finishes, until `deadline` has passed: then the calls that still run
    /// are cut off, and their subscriptions end. It returns as soon as nothing is left to do, at once
    /// if there was nothing, and at the deadline in any case (or within a moment of it), also if a
    /// handler hangs.
    ///
    /// Every event that was published (`Ok`) is handled, or failed, or was dropped as its
    /// subscription's overflow says, or is in the report. Nothing else is in the report.
    ///
    /// A second shutdown while the first is under way returns when that does, with an empty report.
    /// Not from inside a handler: it would wait for itself.
    pub async fn shutdown(&self, deadline: Duration) -> Report {
        todo!(
            "stage 6: close every queue; wait for the workers; at the deadline cut off and report"
        )
    }
}

impl Default for Bus {
    fn default() -> Self {
        Bus::new()
    }
}

/// Keeps a subscription alive. When it is dropped the subscription ends.
///
/// **5, route.** It ends at once: no further call begins, what waits is freed, and whoever waits for
/// room goes on. A call under way goes on to its end; then the handler is dropped, with all that it
/// holds. The guard may be dropped anywhere, also by the handler itself.
#[must_use = "the subscription ends when this is dropped; `keep` lets it live as long as the bus"]
pub struct Subscription {}

impl Subscription {
    /// What the subscription has done so far. After its end it stays as it was then.
    ///
    /// **2.** `handled` and `failed` count calls that have ended. **4.** `dropped`, `waiting` and
    /// `disconnected`.
    pub fn stats(&self) -> Stats {
        todo!("stage 2: ask the queue")
    }

    /// Lets the subscription live as long as the bus.
    pub fn keep(self) {
        todo!("stage 1: a guard that does nothing when it is dropped")
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        todo!("stage 1: end the queue")
    }
}
