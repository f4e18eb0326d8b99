//! What sets off a fault, and what the fault does.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Exchange;

type Predicate<E> = Box<dyn FnMut(&E) -> bool + Send>;

/// The event on the wire at which a fault strikes. It strikes once. `E` is what the wire is made of: see
/// [`Trigger`] for that of Redis, and [`amqp::Trigger`](super::amqp::Trigger) for RabbitMQ's.
pub struct TriggerOn<E> {
    pub(super) phase: Phase,
    matches: Predicate<E>,
    nth: usize,
}

/// The event on the wire between a candidate and Redis at which a fault strikes.
pub type Trigger = TriggerOn<Exchange>;

/// Which half of an exchange is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Request,
    Reply,
}

impl<E> TriggerOn<E> {
    /// A command for which `matches` holds, looked at before it is passed on.
    ///
    /// `matches` runs inside the proxy: it must be quick and must not arm faults itself.
    pub fn request(matches: impl FnMut(&E) -> bool + Send + 'static) -> Self {
        TriggerOn::new(Phase::Request, matches)
    }

    /// A reply for which `matches` holds (its command is known too), looked at before
    /// it is passed back. By then the broker has carried the command out.
    pub fn reply(matches: impl FnMut(&E) -> bool + Send + 'static) -> Self {
        TriggerOn::new(Phase::Reply, matches)
    }

    fn new(phase: Phase, matches: impl FnMut(&E) -> bool + Send + 'static) -> Self {
        TriggerOn {
            phase,
            matches: Box::new(matches),
            nth: 1,
        }
    }

    /// Strikes at the `n`th match, counted from 1, instead of the first.
    pub fn nth(mut self, n: usize) -> Self {
        self.nth = n.max(1);
        self
    }

    /// Strikes at a match that the seed chooses among the first `many`: the same seed
    /// chooses the same one.
    pub fn nth_by_seed(self, seed: u64, many: usize) -> Self {
        // One round of SplitMix64 spreads neighbouring seeds over the whole range.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let many = many.max(1) as u64;
        self.nth((mixed % many) as usize + 1)
    }
}

impl<E> fmt::Debug for TriggerOn<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "match {} of a {:?}", self.nth, self.phase)
    }
}

/// What happens when the trigger strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The command is not passed on and its connection is closed. What the client had
    /// sent before is carried out and answered first, unless it waits in a blocking read.
    /// At a reply trigger this is the same as [`Action::CutAfter`].
    CutBefore,
    /// The broker carries the command out, its reply is swallowed, and the connection is
    /// closed. Nothing that the client sent later reaches the broker.
    CutAfter,
    /// The command (or the reply), and all that follows it in its direction, is kept until
    /// [`Fault::release`]. If the client goes away meanwhile, what it sent still arrives.
    Hold,
    /// As `Hold`, released after this time. For races that need one side to be slower, not
    /// for waiting.
    Delay(Duration),
}

impl Action {
    /// What it does to this `half` of an exchange, in words.
    pub(super) fn describe(self, half: &str, phase: Phase) -> String {
        match self {
            Action::CutBefore if phase == Phase::Request => format!("cut before {half}"),
            Action::CutBefore | Action::CutAfter => format!("cut, {half} lost"),
            Action::Hold => format!("held {half}"),
            Action::Delay(by) => format!("delayed {half} by {by:?}"),
        }
    }
}

/// A fault that has been armed. Dropping it changes nothing: it stays armed, and what it
/// holds stays held, until the proxy ends.
#[must_use = "a fault is worth arming only if the check finds out whether it struck"]
#[derive(Debug, Clone)]
pub struct Fault {
    state: Arc<State>,
    armory: Arc<dyn Disarm>,
}

/// How far a fault has come.
#[derive(Debug)]
pub(super) struct State {
    fired: watch::Sender<bool>,
    released: watch::Sender<bool>,
}

impl Fault {
    /// Waits until the fault has struck: the command or reply is held, or the connection
    /// has been condemned; with [`Action::CutAfter`], the broker has carried the command out.
    /// Waits for ever if it never does: bound it with `lab.eventually`.
    pub async fn fired(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.state.fired.subscribe().wait_for(|fired| *fired).await;
    }

    /// True once the fault has struck.
    pub fn has_fired(&self) -> bool {
        *self.state.fired.borrow()
    }

    /// Lets go what [`Action::Hold`] keeps, now or when it comes.
    pub fn release(&self) {
        self.state.released.send_replace(true);
    }

    /// Takes the fault back if it has not struck yet; true if it had not.
    pub fn disarm(&self) -> bool {
        self.armory.remove(&self.state)
    }
}

impl State {
    pub(super) fn fire(&self) {
        self.fired.send_replace(true);
    }

    pub(super) fn released(&self) -> watch::Receiver<bool> {
        self.released.subscribe()
    }
}

/// The faults that are armed at one proxy.
pub(super) struct Armory<E> {
    armed: Mutex<Vec<Armed<E>>>,
    /// How many of each phase, so that an unarmed proxy pays one load a command.
    requests: AtomicUsize,
    replies: AtomicUsize,
}

struct Armed<E> {
    trigger: TriggerOn<E>,
    seen: usize,
    action: Action,
    state: Arc<State>,
}

impl<E> fmt::Debug for Armory<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} armed", self.lock().len())
    }
}

impl<E> Default for Armory<E> {
    fn default() -> Self {
        Armory {
            armed: Mutex::default(),
            requests: AtomicUsize::new(0),
            replies: AtomicUsize::new(0),
        }
    }
}

/// Where a fault can be taken back, whatever its wire is made of.
trait Disarm: fmt::Debug + Send + Sync {
    fn remove(&self, state: &Arc<State>) -> bool;
}

impl<E> Armory<E> {
    pub(super) fn arm(self: &Arc<Self>, trigger: TriggerOn<E>, action: Action) -> Fault
    where
        E: 'static,
    {
        let state = Arc::new(State {
            fired: watch::Sender::new(false),
            released: watch::Sender::new(false),
        });
        let phase = trigger.phase;
        let mut armed = self.lock();
        armed.push(Armed {
            trigger,
            seen: 0,
            action,
            state: state.clone(),
        });
        self.count(phase).fetch_add(1, Ordering::Release);
        drop(armed);
        Fault {
            state,
            armory: self.clone(),
        }
    }

    pub(super) fn any(&self, phase: Phase) -> bool {
        self.count(phase).load(Ordering::Acquire) > 0
    }

    /// Shows an event to every armed trigger. The first one whose turn it is strikes; it
    /// is no longer armed then.
    pub(super) fn strike(&self, phase: Phase, event: &E) -> Option<(Action, Arc<State>)> {
        let mut armed = self.lock();
        let mut struck = None;
        for (i, one) in armed.iter_mut().enumerate() {
            if one.trigger.phase == phase && (one.trigger.matches)(event) {
                one.seen += 1;
                if struck.is_none() && one.seen >= one.trigger.nth {
                    struck = Some(i);
                }
            }
        }
        let one = armed.remove(struck?);
        self.count(phase).fetch_sub(1, Ordering::Release);
        Some((one.action, one.state))
    }

    fn count(&self, phase: Phase) -> &AtomicUsize {
        match phase {
            Phase::Request => &self.requests,
            Phase::Reply => &self.replies,
        }
    }

    /// A predicate that panicked has said all it had to say: the list itself is whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Armed<E>>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: 'static> Disarm for Armory<E> {
    fn remove(&self, state: &Arc<State>) -> bool {
        let mut armed = self.lock();
        let Some(i) = armed.iter().position(|one| Arc::ptr_eq(&one.state, state)) else {
            return false;
        };
        let one = armed.remove(i);
        self.count(one.trigger.phase)
            .fetch_sub(1, Ordering::Release);
        true
    }
}
