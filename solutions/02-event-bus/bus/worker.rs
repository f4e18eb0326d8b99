// solution only
//! The worker of one subscription: it takes the events from the queue to the handler, one after the
//! other, whatever the handler does with them.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::coop::consume_budget;

use super::hook::Hook;
use super::{Member, Shared};
use crate::event::Event;
use crate::report::{HandlerError, HandlerFailure};

/// A handler, of whatever type it was.
pub type Handler =
    Box<dyn Fn(Arc<Event>) -> BoxFuture<'static, Result<(), HandlerFailure>> + Send + Sync>;

tokio::task_local! {
    /// Set in the task of a worker while its handler runs.
    static INSIDE: ();
}

/// Whether the caller is a handler.
pub fn inside_a_handler() -> bool {
    INSIDE.try_with(|()| ()).is_ok()
}

pub struct Worker {
    pub handler: Handler,
    pub timeout: Option<Duration>,
    pub hook: Arc<Hook>,
    // The last field is dropped last: when it says that the worker is gone, the handler is.
    pub leave: Leave,
}

impl Worker {
    /// Handles events until the queue ends, or the call under way is cut off.
    pub async fn run(self) {
        let member = &self.leave.member;
        while let Some(event) = member.queue.next().await {
            let call = INSIDE.scope((), self.call(Arc::clone(&event)));
            let Some(outcome) = member.cut.run_until_cancelled(call).await else {
                return;
            };
            member.queue.settle(outcome.is_ok());
            if let Err(failure) = outcome {
                let pattern = member.text.clone();
                self.hook.tell(&HandlerError {
                    pattern,
                    event,
                    failure,
                });
            }
            // A handler that is always done at once would not let other tasks run.
            consume_budget().await;
        }
    }

    /// One call of the handler, and how it ended.
    async fn call(&self, event: Arc<Event>) -> Result<(), HandlerFailure> {
        let call = async {
            // Both in here, so that it is caught wherever the handler panics: in the call that makes
            // the future, in the future, or while that is dropped.
            match self.timeout {
                None => (self.handler)(event).await,
                Some(limit) => tokio::time::timeout(limit, (self.handler)(event))
                    .await
                    .unwrap_or(Err(HandlerFailure::TimedOut(limit))),
            }
        };
        let ended = AssertUnwindSafe(call).catch_unwind().await;
        ended.unwrap_or_else(|panic| Err(HandlerFailure::Panicked(text_of(&*panic))))
    }
}

/// What is left to do when a worker ends, also when its runtime does.
pub struct Leave {
    pub id: u64,
    pub member: Arc<Member>,
    pub bus: Weak<Shared>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.member.queue.end();
        if let Some(bus) = self.bus.upgrade() {
            bus.write().members.remove(&self.id);
        }
        self.member.done.cancel();
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is not a text")
        .to_owned()
}
// end solution only
